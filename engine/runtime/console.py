"""What a run says on the terminal, by its first rank alone."""

import sys

from rich.console import Console as RichConsole
from rich.console import RenderableType

from camshaft.engine.runtime.progress import Progress


class Console:
    """Lines, tables and progress on standard output; silent on every rank but the first."""

    def __init__(self, *, enabled: bool = True) -> None:
        """Write to standard output as it is now, if `enabled`."""
        self._rich = RichConsole(file=sys.stdout, quiet=not enabled)

    def line(self, text: str) -> None:
        """Print one line, whole: it is not wrapped, so that it can be searched for."""
        self._rich.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, renderable: RenderableType) -> None:
        """Print a table or another of rich's renderables."""
        self._rich.print(renderable)

    def progress(self, title: str, total: int, *, unit: str, done: int = 0) -> Progress:
        """Show how far a piece of work is, in a `with` block."""
        return Progress(self._rich, title, total, unit=unit, done=done)
