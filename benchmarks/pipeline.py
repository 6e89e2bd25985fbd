"""What the fast twins of CRF and random walk are worth to a run: `python benchmarks/pipeline.py RECIPE RUN`.

RUN is the folder of a complete run of RECIPE. One stage of it at a time is made again with each twin, into a scratch
folder that borrows all other stages; its time includes reading photos and maps, and writing the results.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, append_csv, machine, markdown, measure
from camshaft.engine.pipeline.plan import plan
from camshaft.engine.pipeline.prepare import STAGES
from camshaft.engine.pipeline.recipe import load
from camshaft.engine.pipeline.run import run
from camshaft.engine.runtime.console import Console
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.runtime.stop import StopFlag
from camshaft.engine.stores import MapStore

SETTING = {"crf": "parameters.implementation", "walk": "implementation"}
TWINS = {"crf": ("pydensecrf", "numba"), "walk": ("reference", "numba")}


def again(recipe: Path, finished: Path, root: Path, stage: str, override: str) -> Path:
    """Make one stage of a finished run again, in a new folder of `root`; returns the stage's folder."""
    loaded = load(recipe, [override])
    (name,) = (planned.folder.name for planned in plan(loaded, finished) if planned.id == stage)
    scratch = Path(tempfile.mkdtemp(dir=root))
    (scratch / STAGES).mkdir()
    for folder in (finished / STAGES).iterdir():
        if folder.name != name:
            (scratch / STAGES / folder.name).symlink_to(folder.resolve())
    run(loaded, scratch, ranks=Ranks(), console=Console(enabled=False), stop=StopFlag())
    return scratch / STAGES / name


def labels_agree(results: Mapping[str, Path]) -> str:
    """Demand that the twins' masks, or the classes of their maps at 0.5, agree on 99.9 % of the pixels."""
    first, second = results.values()
    same = total = 0
    pairs = [(path, second / path.relative_to(first)) for path in sorted(first.rglob("*.png"))]
    for one, other in pairs:
        agree = np.asarray(Image.open(one)) == np.asarray(Image.open(other))
        same, total = same + int(agree.sum()), total + agree.size
    for folder in () if pairs else [path for path in first.iterdir() if path.is_dir()]:
        one_store, other_store = MapStore.open(folder), MapStore.open(second / folder.name)
        for index in range(len(one_store)):
            agree = (one_store.read(index).values > 0.5) == (other_store.read(index).values > 0.5)
            same, total = same + int(agree.sum()), total + agree.size
    if not total or same < 0.999 * total:
        raise RedError(f"{same} of {total} labels agree")
    return f"{same / total:.5f} of the labels agree"


def stage_case(recipe: Path, finished: Path, root: Path, stage: str, kind: str, rounds: int) -> Case:
    contenders: dict[str, Callable[[], Path]] = {
        twin: partial(again, recipe, finished, root, stage, f"stages.{stage}.{SETTING[kind]}={twin}")
        for twin in TWINS[kind]
    }
    return Case(kind, f"stage {stage}", contenders, TWINS[kind][0], labels_agree, rounds=rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("run", type=Path, help="a complete run of the recipe")
    parser.add_argument("--kind", choices=tuple(TWINS), action="append", help="stages of this kind alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    if unfinished := [planned.id for planned in plan(load(options.recipe), options.run) if planned.state != "complete"]:
        parser.error(f"{options.run}: not complete: {', '.join(unfinished)}")
    host = machine()
    rows = []
    with tempfile.TemporaryDirectory(prefix="pipeline-") as root:
        for stage in load(options.recipe).recipe.stages:
            if stage.kind in (options.kind or TWINS):
                rows += measure(
                    stage_case(options.recipe, options.run, Path(root), stage.id, stage.kind, options.rounds)
                )
    print(markdown(rows, host))
    if options.csv:
        append_csv(rows, host, options.csv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
