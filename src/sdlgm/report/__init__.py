"""The HTML report of a run, and its figures."""

from sdlgm.report.page import FeatureUse, feature_use, write_report
from sdlgm.report.rendering import require_report

__all__ = ["FeatureUse", "feature_use", "require_report", "write_report"]
