"""What a guide says as an erasing mask shrinks and grows, which is how erasing teaches CGNet (OC-CSE, Figure 4).

The mask of training is max(A, 0) / max(A), A being the map of the class that is erased. Here it is shifted:
min(max(A / max(A) + s, 0), 1), so that s = 0 is training's own mask, a negative s leaves only its strongest parts and a
positive one takes in what the map is less sure of. A target class that is still seen says that the mask is too small, a
remaining class that is no longer seen that it is too large.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from camshaft.engine.data import DataSet
from camshaft.engine.errors import DataError
from camshaft.engine.objectives.tags import bce_per_image, pooled_scores, without_class
from camshaft.engine.report.chart_file import save_chart
from camshaft.engine.report.charts import Chart, Mark, Series, line_chart
from camshaft.engine.report.figures import Figure, classifier_of, ids_of, image_for, photo_of, save_figure, stage_of
from camshaft.engine.report.records import Run
from camshaft.engine.report.rounds import as_photo
from camshaft.engine.report.sheet import Row, sheet
from camshaft.engine.report.wording import number
from camshaft.engine.runtime.files import write_bytes

SHIFTS = tuple(round(step / 10 - 1, 1) for step in range(21))
"""Where the guide is asked: from nothing erased to all that the map leaves open."""
SHOWN = (-0.8, -0.4, 0.0, 0.4, 0.8)
"""The shifts whose images are shown."""
EPS = 1e-5
WIDTH, HEIGHT = 560.0, 280.0


@dataclass(frozen=True)
class Reading:
    """What the guide says of an image under one mask."""

    shift: float
    erased: float
    """The mask's mean: the share of the image that it takes."""
    scores: tuple[float, ...]
    """The guide's probability of each class, in what is left."""
    loss: float
    """The class-specific erasing loss: OC-CSE eq. 4, second term, without λ."""


@dataclass(frozen=True)
class Balance:
    """The readings of one image and target class, and the pictures that go with them."""

    classes: tuple[str, ...]
    target: int
    remaining: tuple[int, ...]
    readings: tuple[Reading, ...]
    figure: Figure

    def save(self, path: Path) -> tuple[Path, ...]:
        """Write the pictures to `path` (PNG), and beside it the readings as CSV and as a chart (SVG); their paths."""
        table, drawing = path.with_suffix(".csv"), path.with_suffix(".svg")
        save_figure(self.figure, path)
        write_bytes(table, self.as_csv().encode())
        save_chart(self.chart(), drawing)
        return path, table, drawing

    def as_csv(self) -> str:
        """A line a reading: shift, erased, loss, then the score of each class."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["shift", "erased", "loss", *self.classes])
        for one in self.readings:
            writer.writerow([one.shift, *(f"{value:.6g}" for value in (one.erased, one.loss, *one.scores))])
        return text.getvalue()

    def chart(self) -> Chart:
        """Loss and scores over the share of the image that is erased; a line marks training's own mask."""
        erased = [100 * one.erased for one in self.readings]
        own = next(one for one in self.readings if one.shift == 0)
        lines = {"loss": [one.loss for one in self.readings]}
        for index in (self.target, *self.remaining):
            role = "erased" if index == self.target else "remains"
            lines[f"{self.classes[index]} ({role})"] = [one.scores[index] for one in self.readings]
        best = min(self.readings, key=lambda one: one.loss)
        mark = Mark(100 * best.erased, best.loss, False, f"least loss: {number(best.loss)} at shift {best.shift:g}")
        series = [Series(name, erased, y, (mark,) if name == "loss" else ()) for name, y in lines.items()]
        return line_chart(
            "the guide's scores, and the erasing loss",
            "% of the image erased",
            series,
            width=WIDTH,
            height=HEIGHT,
            from_zero=True,
            guides={"the mask as it is": 100 * own.erased},
        )


def balance(run: Run, data: DataSet, stage: str, image_id: str, target: str, split: str) -> Balance:
    """Read what the guide of an erase stage says of one image, as the mask of one of its classes shrinks and grows.

    The image is seen once, at its own size as far as the network's stride allows; the map is upsampled first and
    divided by its own maximum then.

    Args:
        run: a complete run.
        data: its data set.
        stage: the id of an erase stage; its guide judges, or with shared guidance its own network.
        image_id: the image.
        target: the class that is erased, one of the image's tags.
        split: the image's split.

    Raises:
        StoreError: there is no such stage, or it is of another kind.
        DataError: the split has no such image, or the image not this class.
        WeightsError: a network's file is damaged, or it was made for other classes than the data's.
    """
    record = stage_of(run, stage, lambda one: one.record.kind == "erase").record
    guide_id = record.settings["guide"] or stage
    network, guide = (classifier_of(run, data, name) for name in (stage, guide_id))
    (image_id,) = ids_of(run, data, [image_id], split)
    tags = data.tags(split)[data.ids(split).index(image_id)]
    present = [data.classes[index] for index in np.flatnonzero(tags)]
    if target not in present:
        raise DataError(
            f"{data.name}: image {image_id!r} has no tag {target!r} (it has {', '.join(present) or 'none at all'})"
        )
    index = data.classes.index(target)
    aligned = bool(record.settings["align_corners"])
    image = image_for(network, data, image_id, network.stride if aligned else None)
    full = unrectified(network, image, index, aligned)
    readings = read(guide, image, full, torch.from_numpy(tags).float(), index, SHIFTS)
    photo = photo_of(data, image_id).pixels
    shown = [one for one in readings if one.shift in SHOWN]
    left = [(image * (1 - shifted(full, one.shift)))[0] for one in shown]
    cells = [as_photo(one, network.normalization, photo.shape[:2]) for one in left]
    remaining = tuple(other for other in np.flatnonzero(tags).tolist() if other != index)
    captions = [
        ", ".join(f"{data.classes[k]} {one.scores[k]:.2f}" for k in (index, *remaining)) + f"; loss {one.loss:.3f}"
        for one in shown
    ]
    headings = ["image", *(f"shift {one.shift:+g}: {one.erased:.0%} erased" for one in shown)]
    row = Row(f"{image_id}: {target} is erased", (photo, *cells), tuple(captions))
    words = (
        f"{run.record.name}: {stage} erases {target} from {image_id} of {split}, {guide_id} judges; no ground truth is "
        f"shown; {'; '.join(captions)}"
    )
    return Balance(tuple(data.classes), index, remaining, readings, Figure(sheet(headings, [row]), words))


def unrectified(network: nn.Module, image: Tensor, target: int, align_corners: bool) -> Tensor:
    """The target's map A / max(A), before ReLU, at the image's size: (1, 1, H, W)."""
    with torch.inference_mode():
        maps = network(image)[:, target, None].float()
    full = F.interpolate(maps, image.shape[2:], mode="bilinear", align_corners=align_corners)
    return full / (full.amax().clamp(min=0) + EPS)


def shifted(full: Tensor, shift: float) -> Tensor:
    """The mask of `unrectified`'s map at a shift, in [0, 1]."""
    return (full + shift).clamp(0, 1)


def read(
    guide: nn.Module, image: Tensor, full: Tensor, tags: Tensor, target: int, shifts: Sequence[float]
) -> tuple[Reading, ...]:
    """The guide's reading of an image at each shift.

    Args:
        guide: from an image to maps, in inference mode.
        image: normalised, (1, 3, H, W).
        full: of `unrectified`.
        tags: float32 (C,).
        target: the class that is erased.
        shifts: the shifts.
    """
    remaining = without_class(tags[None], torch.tensor([target]))
    readings = []
    for shift in shifts:
        mask = shifted(full, shift)
        with torch.inference_mode():
            scores = pooled_scores(guide(image * (1 - mask)))
        loss = float(bce_per_image(scores, remaining))
        readings.append(Reading(shift, float(mask.mean()), tuple(scores.sigmoid()[0].tolist()), loss))
    return tuple(readings)
