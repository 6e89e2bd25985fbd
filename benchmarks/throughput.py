"""Training throughput: `python benchmarks/throughput.py [CASE …] [--ranks N] [--markdown FILE] [--json FILE]`.

    loader      the loader with Pillow, DALI on the CPU, and a loader as research scripts write it: same photos, same
                augmentation, same cores
    step        OC-CSE's training step v. one written as research scripts write it
    stores      maps written into whole shards v. a pickled float32 dictionary an image, bytes and rate
    map-stage   the stage that infers maps, on one rank and core and on N
    training    each recipe's first training, on 1 and on N ranks (gloo): step time, images/s, waiting, memory, FLOP

A ratio is worth what the machine's load leaves of it: run it on an idle one.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Row, command_line, measure, report, with_rates
from benchmarks.store import DIFFERENT, write_case
from benchmarks.throughput_loader import PHOTOS, REPEATED, loader_case
from benchmarks.throughput_ranks import map_rows, training_rows
from benchmarks.throughput_step import IMAGES, step_case

RECIPES = ("recipes/demo.yaml",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the files asked for."""
    names = ("loader", "step", "stores", "map-stage", "training")
    parser = command_line(__doc__ or "", names)
    parser.add_argument("--ranks", type=int, default=2, help="ranks that are compared with one")
    parser.add_argument("--recipe", action="append", help=f"a recipe (may be repeated); default: {', '.join(RECIPES)}")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def trainings() -> list[Row]:
            return [row for recipe in options.recipe or RECIPES for row in training_rows(recipe, options.ranks, folder)]

        cases: Mapping[str, Callable[[], list[Row]]] = {
            "loader": lambda: with_rates(measure(loader_case(folder / "photos")), PHOTOS * REPEATED),
            "step": lambda: with_rates(measure(step_case()), IMAGES),
            "stores": lambda: with_rates(measure(write_case("voc", folder)), DIFFERENT),
            "map-stage": partial(map_rows, options.ranks, folder),
            "training": trainings,
        }
        return report(cases, options)


if __name__ == "__main__":
    sys.exit(main())
