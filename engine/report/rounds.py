"""The figure of recursive erase-and-infer: what a classifier sees and finds, round after round (OC-CSE, Figure 2)."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from torch import Tensor

from camshaft.engine.data import DataSet, Normalization
from camshaft.engine.errors import StoreError
from camshaft.engine.models import Classifier
from camshaft.engine.report.colours import label_colours
from camshaft.engine.report.figures import Figure, classifier_of, ids_of, photo_of, stage_of
from camshaft.engine.report.overlay import heat_overlay
from camshaft.engine.report.records import Run
from camshaft.engine.report.sheet import Row, sheet
from camshaft.engine.stages.erase_and_infer import EraseAndInfer
from camshaft.engine.stages.inference import load
from camshaft.engine.stages.map_stores import grid_sizes

KIND = "erase_and_infer"


def rounds_figure(run: Run, data: DataSet, stage: str, images: Sequence[str] | None, split: str) -> Figure:
    """Each image, then for every round what was left of it and the maps of that; last, the maps of all rounds.

    The rounds are inferred again, on the CPU: a run keeps only what comes out of them. Where each class is searched for
    by itself, it has a row of its own.

    Args:
        run: a complete run.
        data: its data set.
        stage: the id of an erase_and_infer stage.
        images: ids, in the order of the rows; None for a few, chosen by their tags.
        split: the images' split.

    Raises:
        StoreError: there is no such stage, or it is of another kind.
        DataError: the split has no such image.
        WeightsError: the classifier's file is damaged, or it was made for other classes than the data's.
    """
    record = stage_of(run, stage, lambda one: one.record.kind == KIND).record
    settings = EraseAndInfer.model_validate(record.settings)
    network = classifier_of(run, data, settings.network)
    tags_of = dict(zip(data.ids(split), data.tags(split), strict=True))
    ids = ids_of(run, data, images, split)
    rows = []
    for image_id in ids:
        if not tags_of[image_id].any():
            raise StoreError(f"{run.folder}: image {image_id!r} has no tag, so nothing of it was erased")
        rows += _rows(settings, network, data, image_id, tags_of[image_id])
    later = [heading for number in range(1, settings.rounds + 1) for heading in (f"left {number}", f"maps {number}")]
    words = (
        f"{run.record.name}: {stage}, {settings.rounds} rounds of erasing what {settings.network} finds above "
        f"{settings.threshold:g}; {split}: {', '.join(ids)}; no ground truth is shown"
    )
    return Figure(sheet(["image", "maps 0", *later, "all rounds"], rows), words)


def _rows(
    settings: EraseAndInfer, network: Classifier, data: DataSet, image_id: str, tags: NDArray[np.uint8]
) -> list[Row]:
    """The rows of an image: one, or one for each class that is searched for by itself."""
    batch = load(data, [image_id], network.normalization, torch.device("cpu"))
    size = np.array([batch.shape[2:]], np.int32)
    height, width = grid_sizes(size, settings.grid_stride, settings.align_corners)[0].tolist()
    present = torch.from_numpy(tags[None]).float()
    samples, searched = settings.samples(present)
    rounds = settings.infer_rounds(network, batch[samples], searched, (height, width), arithmetic="fp32")
    whole = settings.aggregated(rounds, samples, present)[0]
    photo, colours = photo_of(data, image_id).pixels, label_colours(data)

    def heat(maps: Tensor, shown: NDArray[np.uint8], classes: NDArray[np.intp]) -> NDArray[np.uint8]:
        size = shown.shape[0], shown.shape[1]
        full = F.interpolate(maps[None, classes], size, mode="bilinear", align_corners=settings.align_corners)[0]
        return heat_overlay(shown, full.clamp(0, 1).numpy(), classes, colours, None)

    rows = []
    for sample, of_sample in enumerate(searched):
        classes = np.flatnonzero(of_sample.numpy())
        cells = [photo, heat(rounds[0].maps[sample], photo, classes)]
        for one in rounds[1:]:
            left = as_photo(one.images[sample], network.normalization, photo.shape[:2])
            cells += [left, heat(one.maps[sample], left, classes)]
        cells.append(heat(whole, photo, classes))
        rows.append(Row(f"{image_id}: {', '.join(data.classes[k] for k in classes)}", tuple(cells)))
    return rows


def as_photo(image: Tensor, normalization: Normalization, size: Sequence[int]) -> NDArray[np.uint8]:
    """A normalised image (3, H, W) as a photograph, uint8 (*size, 3)."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (normalization.mean, normalization.std))
    scaled = F.interpolate((image * std + mean)[None], tuple(size), mode="bilinear", antialias=True)[0]
    return np.asarray((scaled.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous())
