"""Training throughput: `python benchmarks/throughput.py [CASE …] [--ranks N] [--markdown FILE] [--json FILE]`.

    loader      the loader with Pillow v. DALI on the CPU: same photos, same augmentation, same cores
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

import numpy as np
import torch
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.harness import Case, RedError, Row, command_line, measure, report, with_rates
from benchmarks.store import DIFFERENT, write_case
from benchmarks.throughput_ranks import cores_here, map_rows, training_rows
from benchmarks.throughput_step import IMAGES, step_case
from camshaft.engine.data import Augmentation, Batch, ColourJitter, Loader, Normalization, Resize, open_data
from camshaft.engine.data.dali import DaliLoader
from camshaft.engine.data.folder import FolderSettings

RECIPES = ("recipes/demo.yaml",)
OC_CSE = Augmentation(
    resize=Resize(long_side=(256, 448)),
    flip=0.5,
    jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    crop=384,
)
PHOTOS, REPEATED, BATCH = 32, 2, 8


def photos(folder: Path) -> None:
    """A data set of JPEGs with the sizes of PASCAL VOC's."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = ["id,thing"]
    for number in range(PHOTOS):
        height, width = [(375, 500), (500, 375), (333, 500)][number % 3]
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3)).astype(np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
        grain = rng.normal(0, 6, (height, width, 1)).astype(np.float32)
        photo = np.clip(smooth + grain, 0, 255).astype(np.uint8)
        Image.fromarray(photo).save(folder / "images" / f"{number:03}.jpg", quality=90)
        lines.append(f"{number:03},1")
    (folder / "tags.csv").write_text("\n".join(lines) + "\n")


def loader_case(folder: Path) -> Case:
    """Whole epochs: batches that a loader prepared ahead would take the time of the other's turn."""
    photos(folder)
    settings = FolderSettings.model_validate({"kind": "folder", "root": folder, "val_fraction": 0})
    data = open_data(settings, Path())
    cores = len(cores_here())

    def epochs(kind: type[Loader]) -> Callable[[], list[Batch]]:
        ids, tags = data.ids("train"), data.tags("train")
        loader = kind(
            data,
            ids,
            tags,
            augmentation=OC_CSE,
            normalization=Normalization(),
            batch_size=BATCH,
            seed=0,
            indices=list(range(len(ids))) * REPEATED,
            workers=cores,
            channels_last=True,
        )
        return lambda: list(loader.epoch(0))

    def check(results: Mapping[str, list[Batch]]) -> str:
        worst = 0.0
        for one, other in zip(*results.values(), strict=True):
            worst = max(worst, float((one.image - other.image).abs().mean()))
            if not torch.equal(one.index, other.index) or worst > 0.02:
                raise RedError(f"batches differ: {worst:.4f} standard deviations in the mean")
        return f"the same samples; pixels differ by {worst:.4f} standard deviations in the mean"

    images = f"{PHOTOS * REPEATED} photos at {OC_CSE.crop} px in batches of {BATCH}, {cores} threads"
    contenders = {"torch + Pillow": epochs(Loader), "DALI on the CPU": epochs(DaliLoader)}
    return Case("loader", images, contenders, "torch + Pillow", check, rounds=6)


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
