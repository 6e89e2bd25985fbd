"""The project's own templates: what users name goes through their escaping."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def rendered(template: str, **values: Any) -> str:
    """The template file of this folder, filled in; a value that it lacks is an error."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(values)


def own(file: str) -> Markup:
    """A file of this folder, which goes into a page as it stands."""
    return Markup((HERE / file).read_text(encoding="utf-8"))
