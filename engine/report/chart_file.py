"""A line chart as an SVG file that needs nothing else."""

from itertools import accumulate
from pathlib import Path

from camshaft.engine.report.charts import Chart
from camshaft.engine.report.templates import own, rendered
from camshaft.engine.runtime.files import write_bytes

STRIP = 26
"""Height of the strip above the chart, with its title, and of that below, with the names of its lines."""
KEY, LETTER = 38, 6.5
"""Width of a line's key with the room around it, and about that of a letter of its name."""


def save_chart(chart: Chart, path: Path) -> None:
    """Write `chart` as SVG, whole or not at all.

    Raises:
        DiskFullError: no space was left; `path` is as it was before.
    """
    legend = list(accumulate((KEY + LETTER * len(line.name) for line in chart.lines), initial=chart.left))
    text = rendered("chart.svg.j2", chart=chart, strip=STRIP, legend=legend, style=own("chart.css"))
    write_bytes(path, text.lstrip().encode())
