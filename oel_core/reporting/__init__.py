"""The report on a run: one self-contained HTML file without scripts."""

from oel_core.reporting.page.render import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "write_report"]
