"""The look at all files before anything runs: what is missing, damaged or of another size, all in one error.

`look` reads a rank's part of the files; `conclude` turns the findings of all ranks into an `Inspection` or an error.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from camshaft.engine.data.dataset import Checked, DataSet
from camshaft.engine.errors import DataError

OnCorrupt = Literal["fail", "skip"]
Progress = Callable[[int, int], None]
"""Called with the number of images done and of all."""

SHOWN = 20
"""Problems that an error lists one by one."""

_CHUNK = 16


@dataclass(frozen=True)
class Finding:
    """What was found about one image; plain values, so that ranks can send it."""

    split: str
    image_id: str
    checked: Checked


@dataclass(frozen=True)
class Skipped:
    """An image that is left out because it can't be read."""

    image_id: str
    reason: str


@dataclass(frozen=True)
class SplitInspection:
    """What there is to work with in a split."""

    ids: tuple[str, ...]
    """The N images that can be read, in the split's order."""
    sizes: NDArray[np.int32]
    """(N, 2): their heights and widths, pixels."""
    skipped: tuple[Skipped, ...]
    """The others."""
    untagged: tuple[str, ...]
    """Those of `ids` without any tag: background alone for segmentation, of no use to classification."""


@dataclass(frozen=True)
class Inspection:
    """What there is to work with."""

    splits: dict[str, SplitInspection]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            name: {
                "ids": list(split.ids),
                "sizes": split.sizes.tolist(),
                "skipped": [{"id": one.image_id, "reason": one.reason} for one in split.skipped],
                "untagged": list(split.untagged),
            }
            for name, split in self.splits.items()
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Inspection":
        """The inverse of `to_json`."""
        return Inspection(
            {
                name: SplitInspection(
                    ids=tuple(split["ids"]),
                    sizes=np.array(split["sizes"], np.int32).reshape(-1, 2),
                    skipped=tuple(Skipped(one["id"], one["reason"]) for one in split["skipped"]),
                    untagged=tuple(split["untagged"]),
                )
                for name, split in value.items()
            }
        )


def inspect(
    dataset: DataSet,
    splits: Sequence[str],
    *,
    masks: Collection[str] = (),
    saliency: Collection[str] = (),
    on_corrupt: OnCorrupt = "fail",
    progress: Progress | None = None,
    workers: int = 2,
) -> Inspection:
    """Read all files of these splits that are asked for, in one process: `look` and `conclude`."""
    findings = look(dataset, splits, masks=masks, saliency=saliency, progress=progress, workers=workers)
    return conclude(dataset, splits, findings, on_corrupt=on_corrupt)


def look(
    dataset: DataSet,
    splits: Sequence[str],
    *,
    masks: Collection[str] = (),
    saliency: Collection[str] = (),
    progress: Progress | None = None,
    workers: int = 2,
    rank: int = 0,
    world_size: int = 1,
) -> list[Finding]:
    """Read the files of every `world_size`-th image, from the `rank`-th on.

    Args:
        dataset: which data.
        splits: which of its splits.
        masks: those of them whose masks will be used: every image must have one. Masks of others are not opened.
        saliency: the same of saliency maps.
        progress: told now and then how far it is.
        workers: threads.
        rank: this process among `world_size`.
        world_size: processes that share the images.
    """
    images = [(split, image_id) for split in splits for image_id in dataset.ids(split)][rank::world_size]

    def examine(chunk: Sequence[tuple[str, str]]) -> list[Finding]:
        return [
            Finding(split, one, dataset.check(one, masks=split in masks, saliency=split in saliency))
            for split, one in chunk
        ]

    findings: list[Finding] = []
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="camshaft-inspect") as pool:
        try:
            for found in pool.map(examine, chunks):
                findings.extend(found)
                if progress is not None:
                    progress(len(findings), len(images))
        finally:
            pool.shutdown(cancel_futures=True)
    return findings


def conclude(
    dataset: DataSet, splits: Sequence[str], findings: Iterable[Finding], *, on_corrupt: OnCorrupt = "fail"
) -> Inspection:
    """Put the findings of all ranks together.

    Args:
        dataset: which data.
        splits: which of its splits.
        findings: of `look`, in any order, one for each image.
        on_corrupt: whether an image that can't be read is a problem or is left out. A mask or saliency map that can't
            be read, is missing or has another size is a problem always: figures over fewer images would not say so.

    Raises:
        DataError: something is wrong; lists the first problems and the number of all, or names a split without any
            readable image.
    """
    found = {(finding.split, finding.image_id): finding.checked for finding in findings}
    every = [found[split, image_id] for split in splits for image_id in dataset.ids(split)]
    problems = [line for one in every for line in one.problems]
    if on_corrupt == "fail":
        problems = [one.unreadable for one in every if one.unreadable is not None] + problems
    if problems:
        raise DataError(_listed(dataset, problems))
    return Inspection({split: _concluded(dataset, split, found) for split in splits})


def _concluded(dataset: DataSet, split: str, found: dict[tuple[str, str], Checked]) -> SplitInspection:
    ids, sizes, skipped, untagged = [], [], [], []
    for image_id, tags in zip(dataset.ids(split), dataset.tags(split), strict=True):
        checked = found[split, image_id]
        if checked.size is None:
            skipped.append(Skipped(image_id, checked.unreadable or ""))
            continue
        ids.append(image_id)
        sizes.append(checked.size)
        if not tags.any():
            untagged.append(image_id)
    if not ids:
        raise DataError(f"{dataset.name}: no image of the split {split!r} can be read; the first: {skipped[0].reason}")
    return SplitInspection(tuple(ids), np.array(sizes, np.int32).reshape(-1, 2), tuple(skipped), tuple(untagged))


def _listed(dataset: DataSet, problems: Sequence[str]) -> str:
    lines = list(dict.fromkeys(problems))
    if len(lines) == 1:
        return lines[0]
    rest = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([f"{dataset.name}: {len(lines)} problems with the data:", *lines[:SHOWN], *rest])
