"""A line chart as an SVG file that needs nothing else."""

from itertools import accumulate
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from camshaft.engine.report.charts import Chart
from camshaft.engine.runtime.files import write_bytes

HERE = Path(__file__).parent
STRIP = 26
"""Height of the strip above the chart, with its title, and of that below, with the names of its lines."""
KEY, LETTER = 38, 6.5
"""Width of a line's key with the room around it, and about that of a letter of its name."""


def save_chart(chart: Chart, path: Path) -> None:
    """Write `chart` as SVG, whole or not at all.

    Raises:
        DiskFullError: no space was left; `path` is as it was before.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    legend = list(accumulate((KEY + LETTER * len(line.name) for line in chart.lines), initial=chart.left))
    # The project's own file: what users name goes through the template's escaping.
    style = Markup((HERE / "chart.css").read_text(encoding="utf-8"))
    text = environment.get_template("chart.svg.j2").render(chart=chart, strip=STRIP, legend=legend, style=style)
    write_bytes(path, text.lstrip().encode())
