"""The report's page: a folder with index.html and its pictures, that needs nothing else."""

import base64
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

import camshaft
from camshaft.engine.data import DataSet
from camshaft.engine.report import curves, gallery, tables
from camshaft.engine.report.records import Run, read_run
from camshaft.engine.report.templates import own, rendered
from camshaft.engine.runtime.files import TEMPORARY_PREFIX, replacing_folder

REPORT = "report"
PAGE = "index.html"
EARLIER = f"{TEMPORARY_PREFIX}{REPORT}-earlier-"
"""Beginning of the name that an earlier report has while the next one takes its place."""


def write_report(run_folder: Path, data: DataSet, gallery_images: int = 12) -> Path:
    """Write `run_folder`/report, whole or not at all, in place of a report that is there already.

    Args:
        run_folder: a complete run.
        data: the data set of the run.
        gallery_images: images to show of each split that was evaluated.

    Returns:
        The path of its page, index.html.

    Raises:
        StoreError: the folder holds no complete run.
        DiskFullError: no space was left; an earlier report is still there.
    """
    run = read_run(run_folder)
    target = run_folder / REPORT
    earlier = target.with_name(f"{EARLIER}{os.getpid()}")
    _tidy(run_folder)
    try:
        with replacing_folder(target) as folder:
            galleries = gallery.write_galleries(run, data, folder, gallery_images)
            (folder / PAGE).write_text(_page(run, galleries), encoding="utf-8")
            if target.exists():
                target.rename(earlier)
    except BaseException:
        if earlier.exists() and not target.exists():
            earlier.rename(target)
        raise
    if earlier.exists():
        shutil.rmtree(earlier)
    return target / PAGE


def _tidy(run_folder: Path) -> None:
    """Clear what a killed process left: an earlier report that was not replaced yet comes back."""
    target = run_folder / REPORT
    for folder in sorted(run_folder.glob(f"{TEMPORARY_PREFIX}{REPORT}-*")):
        if folder.name.startswith(EARLIER) and not target.exists():
            folder.rename(target)
        else:
            shutil.rmtree(folder)


def _page(run: Run, galleries: tuple[gallery.Gallery, ...]) -> str:
    script = own("report.js")
    values: dict[str, Any] = {
        "run": run.record,
        "facts": tables.facts(run),
        "results": tables.result_table(run),
        "learning": tables.learning(run),
        "class_tables": tables.class_tables(run),
        "galleries": galleries,
        "trainings": curves.training_curves(run),
        "sweep": curves.sweep_chart(run),
        "stages": tables.stage_table(run),
        "environments": tables.environments(run),
        "recipe": yaml.safe_dump(dict(run.record.recipe), sort_keys=False, allow_unicode=True, width=100),
        "version": camshaft.__version__,
        "style": own("report.css"),
        "script": script,
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return rendered("report.html.j2", **values)
