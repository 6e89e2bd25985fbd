"""The loader whose images NVIDIA DALI decodes, resizes, colours and normalises: on a GPU, or with the CPU's threads.

Order, draws and targets are the plain loader's, and so is the geometry of every image; pixels differ a little in how
they are resized. What DALI could read in another way than Pillow (CMYK, an orientation, transparency, 16 bits, a
damaged file) is decoded by Pillow, with its errors, and handed over as bare pixels.
"""

import importlib.util
import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from camshaft.engine.data.augment import draw
from camshaft.engine.data.batch import Batch
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.images import plain_size
from camshaft.engine.data.loader import AHEAD, Loader
from camshaft.engine.data.order import Epoch, Sample
from camshaft.kernels.choice import choose

if TYPE_CHECKING:
    from camshaft.engine.data.dali_graph import Work

LoaderName = Literal["auto", "torch", "dali"]

logger = logging.getLogger("camshaft.data")


def choose_loader(asked: LoaderName, data: DataSet, ids: Sequence[str], device: torch.device) -> type[Loader]:
    """The loader to use; which one and why is logged once, and recorded.

    Args:
        asked: a loader, or "auto": DALI where a GPU can do its work. On a CPU the pixels should not depend on what
            happens to be installed.
        data: where images come from.
        ids: of the images.
        device: where training computes.

    Raises:
        Unavailable: DALI was asked for and can't be used.
    """
    reason = None
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        reason = "NVIDIA DALI is not installed (pip install camshaft[gpu])"
    elif not ids or data.encoded(ids[0]) is None:
        reason = f"{data.name} has no image files to decode"
    elif asked == "auto" and device.type != "cuda":
        reason = "on a CPU it is used only if asked for"
    return {"dali": DaliLoader, "torch": Loader}[choose("loader", asked, {"dali": reason, "torch": None})]


@dataclass(frozen=True)
class _Read:
    """A sample whose file is read."""

    sample: Sample
    work: "Work"
    target: NDArray[np.generic] | None


class DaliLoader(Loader):
    """Augmented batches as `Loader` has them, on the device where training computes."""

    @cached_property
    def _idle(self) -> "list[_Pipeline]":
        """Pipelines that no epoch uses; building one takes seconds, the first time."""
        return []

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """See `Loader.epoch`; threads read files ahead, DALI works on the batch after the one in use."""
        pipeline = self._idle.pop() if self._idle else _Pipeline(self)
        with closing(self._reads(epoch, start_batch)) as batches:
            try:
                pipeline.begin(next(batches, None))
                while pipeline.working:
                    batch, images = pipeline.finish()
                    pipeline.begin(next(batches, None))
                    yield self._batch([read.sample for read in batch], images, [read.target for read in batch])
            finally:
                if pipeline.drained():
                    self._idle.append(pipeline)

    def _reads(self, epoch: int, start_batch: int) -> Generator[list[_Read], None, None]:
        """The samples of each batch, read; threads are a few batches ahead."""
        of_epoch = self._order.epoch(epoch)
        numbers = iter(range(start_batch, len(self)))
        with ThreadPoolExecutor(max(1, self._workers), thread_name_prefix="camshaft-loader") as pool:
            reading: deque[list[Future[_Read]]] = deque()
            try:
                while True:
                    while len(reading) <= AHEAD and (number := next(numbers, None)) is not None:
                        reading.append([pool.submit(self._read, of_epoch, one) for one in of_epoch.batch(number)])
                    if not reading:
                        return
                    yield [future.result() for future in reading.popleft()]
            finally:
                for futures in reading:
                    for future in futures:
                        future.cancel()

    def _read(self, of_epoch: Epoch, sample: Sample) -> _Read:
        """Read one file, draw what happens to it, and augment its target."""
        from camshaft.engine.data.dali_graph import Work  # noqa: PLC0415 - DALI may not be installed

        image_id = self._ids[sample.index]
        try:
            data = self._dataset.encoded(image_id)
            size = None if data is None else plain_size(data)
            drawn = draw(self._augmentation, of_epoch.generator(sample), size or self._dataset.size(image_id))
            if data is None or size is None:
                encoded = self._bare(image_id, (2 * drawn.resized[0], 2 * drawn.resized[1]))
            else:
                encoded = np.frombuffer(data, np.uint8)
            return _Read(sample, Work(encoded, drawn), self._target(image_id, drawn))
        except Exception as error:
            error.add_note(f"while loading {image_id!r} of {self._dataset.name}")
            raise

    def _bare(self, image_id: str, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """An image decoded by Pillow, as a file of bare pixels (PPM)."""
        pixels = self._dataset.image(image_id, at_least=at_least)
        header = b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0])
        return np.concatenate((np.frombuffer(header, np.uint8), pixels.reshape(-1)))

    def _decoded_by_pillow(self, batch: Sequence[_Read]) -> list[_Read]:
        """A batch at which DALI failed, with bare pixels.

        Raises:
            ImageError: Pillow can't decode an image either; names it.
        """
        found = []
        for read in batch:
            image_id = self._ids[read.sample.index]
            try:
                found.append(replace(read, work=replace(read.work, encoded=self._bare(image_id))))
            except Exception as error:
                error.add_note(f"while loading {image_id!r} of {self._dataset.name}")
                raise
        return found


class _Pipeline:
    """A DALI pipeline and the batch that is in it."""

    def __init__(self, loader: DaliLoader) -> None:
        """Build it when the first batch comes."""
        self.working: list[_Read] = []
        self._loader = loader
        self._pipeline: Any = None

    def begin(self, batch: list[_Read] | None) -> None:
        """Let the work on a batch begin, where there is one."""
        if batch is None:
            return
        from camshaft.engine.data import dali_graph  # noqa: PLC0415 - DALI may not be installed

        loader = self._loader
        gpu = (loader._device.index or 0) if loader._device.type == "cuda" else None
        if self._pipeline is None:
            self._pipeline = dali_graph.build(
                loader._augmentation,
                loader._normalization,
                batch_size=loader._order.batch_size,
                threads=max(1, loader._workers),
                gpu=gpu,
                channels_last=loader._channels_last,
            )
        dali_graph.feed(self._pipeline, loader._augmentation, [read.work for read in batch], gpu=gpu is not None)
        self.working = batch

    def finish(self) -> tuple[list[_Read], torch.Tensor]:
        """The batch in work and its images, (B, 3, H, W) float32.

        Raises:
            ImageError: an image can't be decoded; names it.
        """
        batch, self.working = self.working, []
        try:
            images = self._images()
        except RuntimeError as error:  # DALI's errors name no sample, and end the pipeline
            self._pipeline = None
            bare = self._loader._decoded_by_pillow(batch)
            reason = next((line for line in str(error).splitlines() if "rror" in line), type(error).__name__)
            logger.warning("DALI failed at a batch that Pillow can decode, and does (%s)", reason.strip())
            self.begin(bare)
            self.working = []
            images = self._images()
        return batch, images

    def _images(self) -> torch.Tensor:
        (outputs,) = self._pipeline.share_outputs()
        try:
            images = _copied(outputs.as_tensor(), self._loader._device)
        finally:
            self._pipeline.release_outputs()
        return images.permute(0, 3, 1, 2) if self._loader._channels_last else images

    def drained(self) -> bool:
        """Let go of what is in work; whether the pipeline can be used again."""
        if self.working:
            self.working = []
            try:
                self._images()
            except (RuntimeError, AttributeError):  # bytes that it can't decode, or the interpreter ends
                return False
        return True


def _copied(outputs: Any, device: torch.device) -> torch.Tensor:
    """DALI's dense output as a tensor of its own; what is on a GPU stays on it: `device`."""
    from nvidia.dali.backend import TensorGPU  # noqa: PLC0415 - DALI may not be installed
    from nvidia.dali.plugin.pytorch import feed_ndarray  # noqa: PLC0415

    if not isinstance(outputs, TensorGPU):
        images = torch.empty(outputs.shape(), dtype=torch.float32)
        np.copyto(images.numpy(), np.asarray(outputs))
        return images
    images = torch.empty(outputs.shape(), dtype=torch.float32, device=device)
    feed_ndarray(outputs, images, cuda_stream=torch.cuda.current_stream(images.device))
    return images
