"""The frame of every stage that makes one mask an image: blocks for whichever rank is free, manifest last; and how
every stage that reads masks opens them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from camshaft.engine.errors import StoreError
from camshaft.engine.stages.shared import blocks_of, check_images, taking
from camshaft.engine.stages.stage import StageContext
from camshaft.engine.stores import MaskFolder

Labelled = Iterable[tuple[str, Sequence[np.ndarray]]]
"""For each image its id and one label image for each folder that is being filled."""


def fill_mask_folders(
    context: StageContext,
    title: str,
    split: str,
    paths: Sequence[Path],
    work: Callable[[Sequence[str]], Labelled],
    *,
    together: Sequence[Sequence[str]] | None = None,
) -> int:
    """Write one mask for each image of a split into each of `paths`, going on from what is there.

    Args:
        context: the stage's.
        title: what the progress line says.
        split: whose images.
        paths: the mask folders; `work` yields a label image for each, in their order.
        work: given ids that are still to do, yields them with their label images, uint8 (H, W), in any order.
        together: the ids in groups that are computed together, where what else is in a group may show in a result's
            last bit: `work` is given whole groups only. None: each image stands alone.

    Returns:
        The number of images of the split.
    """
    folders = [MaskFolder.create(path, context.data.palette, context.data.file_values) for path in paths]
    ids = context.ids(split)
    blocks = blocks_of(ids) if together is None else together

    def to_do() -> list[list[str]]:
        done = set.intersection(*(set(folder.ids_done()) for folder in folders))
        waiting = [[image_id for image_id in block if image_id not in done] for block in blocks]
        return [
            list(block) if together is not None else left for block, left in zip(blocks, waiting, strict=True) if left
        ]

    # One rank looks for all: another would see what is written meanwhile.
    units = context.ranks.agree(to_do)
    with taking(context, title, [len(unit) for unit in units], total=len(ids)) as turns:
        for taken in turns:
            for image_id, labels in work([image_id for unit in units[taken.start : taken.stop] for image_id in unit]):
                for folder, label in zip(folders, labels, strict=True):
                    folder.write(image_id, label)
                turns.advance()
                context.stop.raise_if_set()
    for folder in folders:
        context.ranks.agree(partial(folder.finalize, ids, {"stage": context.seed[-1], "split": split}))
    return len(ids)


def open_masks(context: StageContext, path: Path, split: str) -> MaskFolder:
    """The masks that another stage left in `path`, which must be of this run's data.

    Raises:
        StoreError: the folder is not complete, or its tables are damaged; or its masks are of other classes than the
            data's, or of other images than the split's.
    """
    masks = MaskFolder.open(path)
    if masks.file_values != context.data.file_values:
        found, wanted = (", ".join(map(str, values)) for values in (masks.file_values, context.data.file_values))
        raise StoreError(f"{path}: masks of other classes: their values are {found}, but the data's are {wanted}")
    check_images(context, split, "masks", path, masks.ids)
    return masks
