"""One self-contained HTML file that shows what the regularization is for."""

from gapless.report.page import render_report, write_report
from gapless.report.thumbnails import sheet, thumbnails

__all__ = ["render_report", "sheet", "thumbnails", "write_report"]
