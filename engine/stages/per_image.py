"""The frame of every stage that makes one mask an image: a share for each rank, done ones skipped, manifest last."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from camshaft.engine.stages.stage import StageContext
from camshaft.engine.stores import MaskFolder

Labelled = Iterable[tuple[str, Sequence[np.ndarray]]]
"""For each image its id and one label image for each folder that is being filled."""


def fill_mask_folders(
    context: StageContext, title: str, split: str, paths: Sequence[Path], work: Callable[[Sequence[str]], Labelled]
) -> int:
    """Write one mask for each image of a split into each of `paths`, going on from what is there.

    Args:
        context: the stage's.
        title: what the progress line says.
        split: whose images.
        paths: the mask folders; `work` yields a label image for each, in their order.
        work: given the ids that are still to do, yields them with their label images, uint8 (H, W), in any order.

    Returns:
        The number of images of the split.
    """
    folders = [MaskFolder.create(path, context.data.palette, context.data.file_values) for path in paths]
    ids = context.ids(split)
    share = ids[context.ranks.rank :: context.ranks.world_size]
    done = set.intersection(*(set(folder.ids_done()) for folder in folders))
    waiting = [image_id for image_id in share if image_id not in done]
    with (
        context.ranks.failing_together(),
        context.console.progress(title, total=len(share), done=len(share) - len(waiting), unit="images") as progress,
    ):
        for image_id, labels in work(waiting):
            for folder, label in zip(folders, labels, strict=True):
                folder.write(image_id, label)
            progress.advance()
            context.stop.raise_if_set()
    for folder in folders:
        context.ranks.agree(partial(folder.finalize, ids, {"stage": context.seed[-1], "split": split}))
    return len(ids)
