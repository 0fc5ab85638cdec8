"""The report on a run: one HTML file that needs no network, no script and no server."""

from oel_core.reporting.page.render import REPORT_FILE, write_report

__all__ = ["REPORT_FILE", "write_report"]
