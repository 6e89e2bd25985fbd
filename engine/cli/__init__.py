"""The command line: `camshaft run RECIPE`, and what else there is to do with a recipe or a run."""

from camshaft.engine.cli.main import main

__all__ = ["main"]
