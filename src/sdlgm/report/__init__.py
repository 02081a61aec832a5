"""The HTML reports of a run and of a classifier of label sets."""

from sdlgm.report.labels import write_label_report, write_saved_label_report
from sdlgm.report.page import FeatureUse, feature_use, write_report
from sdlgm.report.rendering import require_report

__all__ = [
    "FeatureUse",
    "feature_use",
    "require_report",
    "write_label_report",
    "write_report",
    "write_saved_label_report",
]
