"""Figures, and the HTML report of a run."""

from sdlgm.report._rendering import require_report
from sdlgm.report.page import FeatureUse, feature_use, write_report

__all__ = ["FeatureUse", "feature_use", "require_report", "write_report"]
