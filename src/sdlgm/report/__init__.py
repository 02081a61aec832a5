"""Figures, and the HTML report of a run."""

from sdlgm.report.page import FeatureUse, feature_use, write_report

__all__ = ["FeatureUse", "feature_use", "write_report"]
