"""Batches from a data set with Pillow in threads: the plain loader, at home on any machine."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from camshaft.engine.data.augment import Augmentation, Drawn, draw
from camshaft.engine.data.batch import Batch, Normalization
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.order import Epoch, Order, Sample
from camshaft.engine.data.transform import write_image, write_target

Targets = Callable[[str], NDArray[np.generic]]
"""From an id to its (H, W) uint8 labels or (C, h, w) float maps."""

CPU = torch.device("cpu")
AHEAD = 2
"""Batches prepared in advance."""


class Loader:
    """Augmented batches; see `BatchSource`.

    Every sample is a pure function of (seed, epoch, index): batches don't depend on the number of workers, nor global
    batches on the number of ranks, and an epoch entered at `start_batch` goes on as if it had never been left.
    """

    def __init__(
        self,
        dataset: DataSet,
        ids: Sequence[str],
        tags: NDArray[np.uint8],
        *,
        augmentation: Augmentation,
        normalization: Normalization,
        batch_size: int,
        seed: int,
        indices: Sequence[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        targets: Targets | None = None,
        workers: int = 2,
        shuffle: bool = True,
        drop_last: bool = True,
        channels_last: bool = False,
        device: torch.device = CPU,
    ) -> None:
        """Describe the batches; nothing is read yet.

        Args:
            dataset: where images come from.
            ids: N images.
            tags: (N, C) of 0 and 1.
            augmentation: what happens to them.
            normalization: the network's.
            batch_size: samples a batch and rank.
            seed: of the order and of all augmentation.
            indices: positions in `ids` of the images that take part; default: all.
            rank: this process among `world_size`.
            world_size: processes that share each global batch.
            targets: per-pixel targets by id; default: none.
            workers: threads; 0 works in the caller's.
            shuffle: a new order each epoch.
            drop_last: leave out what doesn't fill a global batch.
            channels_last: memory format of the images.
            device: where training computes; batches of this loader stay on the CPU all the same.

        Raises:
            TrainingError: no images take part.
            ValueError: `ids` and `tags` don't match, or images of several sizes can't form a batch.
        """
        if len(ids) != len(tags):
            raise ValueError(f"{len(ids)} ids, but tags of {len(tags)} images")
        if batch_size > 1 and augmentation.fixed_size is None:
            raise ValueError("images of several sizes don't form a batch: set crop or resize.square, or batch size 1")
        self._dataset, self._ids, self._tags = dataset, tuple(ids), tags
        self._augmentation, self._normalization = augmentation, normalization
        self._targets, self._workers, self._channels_last = targets, workers, channels_last
        self._device = device
        chosen = tuple(range(len(ids))) if indices is None else tuple(map(int, indices))
        self._order = Order(chosen, batch_size, seed, rank, world_size, shuffle, drop_last)

    def __len__(self) -> int:
        """This rank's batches an epoch."""
        return len(self._order)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """This rank's batches of an epoch, from `start_batch` on.

        Threads work a few batches ahead and end when the iterator does, be it exhausted or closed early.

        Raises:
            DataError: an image or target can't be read; names the file.
        """
        of_epoch = self._order.epoch(epoch)
        batches = (of_epoch.batch(number) for number in range(start_batch, len(self)))
        if self._workers == 0:
            for samples in batches:
                images = self._empty(len(samples))
                yield self._collated(samples, images, [self._load(of_epoch, *work) for work in _rows(samples, images)])
            return
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="camshaft-loader")
        waiting: deque[tuple[list[Sample], _Images, list[Future[_Loaded]]]] = deque()
        try:
            for samples in batches:
                images = self._empty(len(samples))
                futures = [pool.submit(self._load, of_epoch, *work) for work in _rows(samples, images)]
                waiting.append((samples, images, futures))
                if len(waiting) > AHEAD:
                    yield self._awaited(*waiting.popleft())
            for pending in waiting:
                yield self._awaited(*pending)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _awaited(self, samples: Sequence[Sample], images: "_Images", futures: "Sequence[Future[_Loaded]]") -> Batch:
        return self._collated(samples, images, [future.result() for future in futures])

    def _empty(self, count: int) -> "_Images":
        """Room for the images of a batch, (B, 3, H, W) in the memory format asked for; None if H and W vary."""
        size = self._augmentation.fixed_size
        if size is None:
            return None
        if self._channels_last:
            return np.empty((count, *size, 3), np.float32).transpose(0, 3, 1, 2)
        return np.empty((count, 3, *size), np.float32)

    def _load(self, of_epoch: Epoch, sample: Sample, row: NDArray[np.float32] | None) -> "_Loaded":
        """Read and augment one sample; its image goes into `row` if there is one."""
        image_id = self._ids[sample.index]
        try:
            drawn = draw(self._augmentation, of_epoch.generator(sample), self._dataset.size(image_id))
            # Twice the size leaves the quality of the resizing to its own filter.
            image = self._dataset.image(image_id, at_least=(2 * drawn.resized[0], 2 * drawn.resized[1]))
            _, _, height, width = drawn.window
            if row is None:
                row = np.empty((3, height, width), np.float32)
            write_image(image, drawn, self._normalization, row)
            return row, self._target(image_id, drawn)
        except Exception as error:
            error.add_note(f"while loading {image_id!r} of {self._dataset.name}")
            raise

    def _target(self, image_id: str, drawn: Drawn) -> NDArray[np.generic] | None:
        """A sample's target, augmented as its image."""
        if self._targets is None:
            return None
        target = self._targets(image_id)
        shape = (*target.shape[:-2], *drawn.window[2:])
        augmented = np.empty(shape, np.uint8 if target.ndim == 2 else np.float32)
        write_target(target, drawn, augmented)
        return augmented

    def _collated(self, samples: Sequence[Sample], images: "_Images", loaded: "Sequence[_Loaded]") -> Batch:
        image = torch.from_numpy(images if images is not None else loaded[0][0][None])
        return self._batch(samples, image, [target for _, target in loaded])

    def _batch(
        self, samples: Sequence[Sample], image: torch.Tensor, of_samples: Sequence[NDArray[np.generic] | None]
    ) -> Batch:
        index = [sample.index for sample in samples]
        if self._channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        targets = [target for target in of_samples if target is not None]
        return Batch(
            image=image,
            tags=torch.from_numpy(self._tags[index].astype(np.float32)),
            index=torch.tensor(index),
            target=torch.from_numpy(np.stack(targets)) if targets else None,
        )


_Images = NDArray[np.float32] | None
_Loaded = tuple[NDArray[np.float32], NDArray[np.generic] | None]


def _rows(samples: Sequence[Sample], images: _Images) -> Iterator[tuple[Sample, NDArray[np.float32] | None]]:
    return zip(samples, images if images is not None else [None] * len(samples), strict=True)
