"""The frame of every stage that makes maps: blocks for whichever rank is free, done ones skipped, manifest last; and
how every stage that reads maps opens them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.errors import StoreError
from camshaft.engine.stages.shared import check_images, taking
from camshaft.engine.stages.stage import Figures, StageContext
from camshaft.engine.stores import Layout, MapStore, MapStoreWriter, finalize


def grid_sizes(sizes: NDArray[np.int32], stride: int, align_corners: bool) -> NDArray[np.int32]:
    """Heights and widths of maps with a cell for each `stride` pixels, (N, 2), for images of these sizes."""
    if align_corners:
        return -(-(sizes - 1) // stride) + 1
    return -(-sizes // stride)


def fill_map_store(
    context: StageContext,
    split: str,
    layout: Layout,
    provenance: Mapping[str, Any],
    work: Callable[[range], Sequence[np.ndarray]],
) -> Figures:
    """Write the maps of a split's images into a store in the stage's folder, going on from what is there.

    Args:
        context: the stage's.
        split: whose images; the store bears its name.
        layout: the store's.
        provenance: kept in the store's manifest, besides stage and split.
        work: given consecutive images of the layout, their maps: float32 (K, h, w) each, in [0, 1].

    Returns:
        The number of images, and of bytes on disk.
    """
    path = context.folder / split
    stage_id = context.seed[-1]
    # One rank looks for all: another would see what is written meanwhile.
    missing = context.ranks.agree(lambda: MapStoreWriter.open_or_create(path, layout).blocks_missing())
    writer = MapStoreWriter.open_or_create(path, layout)
    sizes = [len(layout.block(block)) for block in missing]
    with taking(context, f"{stage_id} {split}", sizes, total=len(layout.ids), largest=1) as turns:
        for turn in turns:
            block = missing[turn.start]
            writer.write_block(block, work(layout.block(block)))
            turns.advance(len(layout.block(block)))
            context.stop.raise_if_set()
    context.ranks.agree(lambda: finalize(path, {"stage": stage_id, "split": split, **provenance}))
    return {
        "images": len(layout.ids),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    }


def open_maps(context: StageContext, stage_id: str, split: str) -> MapStore:
    """The maps that another stage made of a split, which must be of this run's data.

    Raises:
        StoreError: the store is not complete, or truncated; or its maps are of other classes, images, sizes or tags
            than the data's.
    """
    store = MapStore.open(context.inputs[stage_id].folder / split)
    classes = context.data.classes
    if store.classes != classes:
        raise StoreError(
            f"{store.path}: maps of the classes {', '.join(store.classes)}, but the data has {', '.join(classes)}"
        )
    check_images(context, split, "maps", store.path, store.ids)
    for index, (size, row) in enumerate(zip(context.sizes(split), context.tags(split), strict=True)):
        (height, width), (high, wide) = store.layout.images[index, 4:6].tolist(), size.tolist()
        if (height, width) != (high, wide):
            raise StoreError(
                f"{store.path}: {store.ids[index]!r} has maps of an image of {height}×{width}, but the data's is of "
                f"{high}×{wide}"
            )
        found, tagged = store.layout.classes_of(index), np.flatnonzero(row)
        if not np.array_equal(found, tagged):
            stored, wanted = (", ".join(classes[k] for k in some) or "no class" for some in (found, tagged))
            raise StoreError(
                f"{store.path}: {store.ids[index]!r} has maps of {stored}, but the data's tags name {wanted}"
            )
    return store
