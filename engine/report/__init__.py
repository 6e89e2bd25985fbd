"""The report of a run: an HTML page with pictures, and the table that ends a run on the terminal."""

from camshaft.engine.report.page import write_report
from camshaft.engine.report.summary import summary_table

__all__ = ["summary_table", "write_report"]
