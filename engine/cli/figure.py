"""`camshaft figure`: the papers' figures from a run or a sweep, as PNG, and what they are drawn from."""

import argparse
from pathlib import Path

from camshaft.engine.data import DataSet
from camshaft.engine.errors import CamshaftError, StoreError
from camshaft.engine.pipeline.run import RUN_FILE, data_of_run
from camshaft.engine.pipeline.sweep import SWEEPS
from camshaft.engine.report.balance import balance
from camshaft.engine.report.comparison import SweepRuns, read_sweep
from camshaft.engine.report.figures import Figure, features_figure, maps_figure, save_figure, variants_figure
from camshaft.engine.report.records import Run, read_run
from camshaft.engine.report.rounds import rounds_figure
from camshaft.engine.runtime.console import Console


def figure_command(options: argparse.Namespace) -> int:
    """Draw the figure that the command line asks for and print its path, or those of all its files."""
    path: Path = options.out or options.run / "figures" / f"{options.figure}.png"
    if path.suffix.lower() != ".png":  # beside it stand files of other kinds
        raise CamshaftError(f"{path}: a figure is a PNG; name a file that ends in .png")
    if options.figure == "balance":
        run, data = _run(options)
        found = balance(run, data, options.stage, options.image, options.target, options.split)
        paths = found.save(path)
    else:
        save_figure(_variants(options) if options.figure == "variants" else _of_a_run(options), path)
        paths = (path,)
    for one in paths:
        Console().line(f"figure: {one}")
    return 0


def _of_a_run(options: argparse.Namespace) -> Figure:
    run, data = _run(options)
    if options.figure == "maps":
        return maps_figure(run, data, options.stages, options.images, options.split, truth=options.truth)
    if options.figure == "rounds":
        return rounds_figure(run, data, options.stage, options.images, options.split)
    return features_figure(
        run,
        data,
        options.networks,
        options.layers,
        options.images,
        options.split,
        with_unsuppressed=options.unsuppressed,
    )


def _run(options: argparse.Namespace) -> tuple[Run, DataSet]:
    """The run that is meant and its data: the folder's own, or a variant of its sweep."""
    folder: Path = options.run
    if options.variant is None:
        if not (folder / RUN_FILE).exists() and (folder / SWEEPS).is_dir():
            names = ", ".join(read_sweep(folder, options.sweep).runs)
            raise StoreError(f"{folder}: holds a sweep; name the variant that is meant with --variant ({names})")
        return read_run(folder), data_of_run(folder)
    sweep = read_sweep(folder, options.sweep)
    return _variant(sweep, options.variant), data_of_run(sweep.records / options.variant)


def _variants(options: argparse.Namespace) -> Figure:
    sweep = read_sweep(options.run, options.sweep)
    names: list[str] = options.variants or list(sweep.runs)
    runs = {name: _variant(sweep, name) for name in names}
    first = runs[names[0]]
    for name, run in runs.items():
        if run.record.data != first.record.data:
            raise StoreError(f"{sweep.records}: {names[0]} and {name} have other data, so their images differ")
    data = data_of_run(sweep.records / names[0])
    return variants_figure(runs, data, options.stage, options.images, options.split, truth=options.truth)


def _variant(sweep: SweepRuns, name: str) -> Run:
    if name not in sweep.runs:
        raise StoreError(f"{sweep.records}: has no variant {name!r}; there are {', '.join(sweep.runs)}")
    return sweep.runs[name]
