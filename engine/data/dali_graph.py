"""The DALI pipeline that decodes, resizes, changes the colours of, normalises, flips and cuts images.

It draws nothing: all that is random about a sample comes in, as `camshaft.engine.data.augment.draw` drew it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.plugin.numba.fn.experimental import numba_function

from camshaft.engine.data.augment import Adjustment, Augmentation, Drawn
from camshaft.engine.data.batch import Normalization
from camshaft.engine.data.colour import KINDS, adjust_into
from camshaft.kernels.compiled import compiled

_INTERPOLATIONS = {
    "nearest": types.INTERP_NN,
    "bilinear": types.INTERP_LINEAR,
    "bicubic": types.INTERP_CUBIC,
    "lanczos": types.INTERP_LANCZOS3,
}
_LINEAR = len(KINDS) - 1
"""Changes of colour that are no turn of the hue, at most so many before it and after it."""


@dataclass(frozen=True)
class Work:
    """What the pipeline is given for one sample."""

    encoded: NDArray[np.uint8]
    """The bytes of an image file."""
    drawn: Drawn
    """What happens to it."""


def build(
    augmentation: Augmentation,
    normalization: Normalization,
    *,
    batch_size: int,
    threads: int,
    gpu: int | None,
    channels_last: bool,
) -> Any:
    """A pipeline that is ready to be fed.

    Args:
        augmentation: what may happen to the images.
        normalization: the network's.
        batch_size: samples a batch, at most.
        threads: of the CPU that take part.
        gpu: the CUDA device that decodes (with the CPU: DALI's "mixed") and does the rest; None works on the CPU.
        channels_last: whether images come out as (H, W, 3) instead of (3, H, W).
    """

    # DALI's decorator has no types. With a deeper queue the first `schedule_run` would begin several runs at once, all
    # but one without input, which fails as soon as a thread comes to it.
    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=batch_size, num_threads=threads, device_id=gpu, prefetch_queue_depth=1
    )
    def graph() -> Any:
        encoded = fn.external_source(name="encoded", dtype=types.UINT8, ndim=1)
        image = fn.decoders.image(
            encoded,
            device="cpu" if gpu is None else "mixed",
            output_type=types.RGB,
            # As Pillow has it.
            jpeg_fancy_upsampling=True,
            adjust_orientation=False,
        )
        if augmentation.resize is not None:
            filter_ = _INTERPOLATIONS[augmentation.resize.interpolation]
            size = fn.external_source(name="size", dtype=types.FLOAT, ndim=1)
            image = fn.resize(image, size=size, interp_type=filter_, antialias=True)
        if augmentation.jitter is not None:
            colours = fn.external_source(name="colours", dtype=types.FLOAT, ndim=1)
            image = adjusted(image, colours) if gpu is None else adjusted_by_arithmetic(image, colours)
        cut: dict[str, Any] = {}
        if augmentation.crop is not None:
            place = fn.external_source(name="place", dtype=types.FLOAT, ndim=1)
            cut = {
                "crop": (augmentation.crop, augmentation.crop),
                "crop_pos_y": place[0],
                "crop_pos_x": place[1],
                "rounding": "round",
                "out_of_bounds_policy": "pad",
                "fill_values": 0.0,
            }
        return fn.crop_mirror_normalize(
            image,
            mirror=fn.external_source(name="mirror", dtype=types.INT32, ndim=0),
            mean=[255 * value for value in normalization.mean],
            std=[255 * value for value in normalization.std],
            dtype=types.FLOAT,
            output_layout="HWC" if channels_last else "CHW",
            **cut,
        )

    pipeline = graph()
    pipeline.build()
    return pipeline


def feed(pipeline: Any, augmentation: Augmentation, batch: Sequence[Work], *, gpu: bool) -> None:
    """Give the pipeline a batch, and let it begin."""
    pipeline.feed_input("encoded", [work.encoded for work in batch])
    pipeline.feed_input("mirror", [np.array(work.drawn.flip, np.int32) for work in batch])
    if augmentation.resize is not None:
        pipeline.feed_input("size", [np.array(work.drawn.resized, np.float32) for work in batch])
    if augmentation.jitter is not None:
        pack = packed_for_arithmetic if gpu else packed
        pipeline.feed_input("colours", [pack(work.drawn.adjustments) for work in batch])
    if augmentation.crop is not None:
        pipeline.feed_input("place", [_place(work.drawn) for work in batch])
    pipeline.schedule_run()


def _place(drawn: Drawn) -> NDArray[np.float32]:
    """Where the window begins in the image that is not flipped yet, as DALI has it: 0 … 1 of what is to spare."""
    top, left, height, width = drawn.window
    full_height, full_width = drawn.resized
    spare = full_height - height, full_width - width
    begin = top, (spare[1] - left if drawn.flip else left)
    return np.array([place / room if room else 0 for place, room in zip(begin, spare, strict=True)], np.float32)


def packed(adjustments: Sequence[tuple[Adjustment, float]]) -> NDArray[np.float32]:
    """Changes of colour for `adjusted`: all kinds' numbers, then all amounts; what is missing changes nothing."""
    filled = [*adjustments, *[("brightness", 1.0)] * (len(KINDS) - len(adjustments))]
    return np.array([*(KINDS.index(kind) for kind, _ in filled), *(amount for _, amount in filled)], np.float32)


@compiled(fastmath=True)
def _adjust(image: NDArray[np.uint8], colours: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    count = len(colours) // 2
    adjust_into(image, colours[:count].astype(np.int64), colours[count:], out)


def _run(out: NDArray[np.uint8], _: Any, image: NDArray[np.uint8], colours: NDArray[np.float32]) -> None:
    _adjust(image, colours, out)


def adjusted(image: Any, colours: Any) -> Any:
    """Changes of colour on the CPU: the compiled loops of `camshaft.engine.data.colour`."""
    # Without a function that says the outputs' shapes, they are the inputs', all of them.
    kinds = [types.UINT8, types.FLOAT]
    changed, _ = numba_function(
        image,
        colours,
        run_fn=_run,
        in_types=kinds,
        ins_ndim=[3, 1],
        out_types=kinds,
        outs_ndim=[3, 1],
        batch_processing=False,
    )
    return fn.reshape(changed, layout="HWC")


def packed_for_arithmetic(adjustments: Sequence[tuple[Adjustment, float]]) -> NDArray[np.float32]:
    """Changes of colour for `adjusted_by_arithmetic`: the hue's turn, and f, g, h of each change before and after it.

    Any change that is no turn of the hue is x ← f·x + g·grey(x) + h·(mean of grey over the image).
    """
    kinds = [kind for kind, _ in adjustments]
    hue = kinds.index("hue") if "hue" in kinds else len(kinds)
    factors: list[tuple[float, float, float]] = []
    for part in (adjustments[:hue], adjustments[hue + 1 :]):
        factors += [(f, (1 - f) * (kind == "saturation"), (1 - f) * (kind == "contrast")) for kind, f in part]
        factors += [(1.0, 0.0, 0.0)] * (_LINEAR - len(part))
    turn = adjustments[hue][1] if hue < len(kinds) else 0.0
    return np.array([turn, *np.ravel(factors)], np.float32)


def adjusted_by_arithmetic(image: Any, colours: Any) -> Any:
    """Changes of colour as `camshaft.engine.data.colour` has them, in DALI's arithmetic, which a GPU computes too."""
    channels = [fn.cast(image[:, :, channel], dtype=types.FLOAT) for channel in range(3)]
    for part in range(2):
        for step in range(_LINEAR):
            first = 1 + 3 * (part * _LINEAR + step)
            channels = _blended(channels, colours[first], colours[first + 1], colours[first + 2])
        if part == 0:
            channels = _turned(channels, colours[0])
    whole = [fn.cast(math.floor(channel + 0.5), dtype=types.UINT8) for channel in channels]
    return fn.reshape(fn.stack(*whole, axis=2), layout="HWC")


def _blended(channels: Sequence[Any], factor: Any, of_grey: Any, of_mean: Any) -> list[Any]:
    grey = 0.2989 * channels[0] + 0.587 * channels[1] + 0.114 * channels[2]
    added = of_grey * grey + of_mean * fn.reductions.mean(grey)
    return [math.clamp(factor * channel + added, 0.0, 255.0) for channel in channels]


def _turned(channels: Sequence[Any], turn: Any) -> list[Any]:
    red, green, blue = channels
    value = math.max(red, math.max(green, blue))
    chroma = value - math.min(red, math.min(green, blue))
    inverse = 1.0 / math.max(chroma, 1e-6)
    is_red = fn.cast(value == red, dtype=types.FLOAT)
    is_green = fn.cast(value == green, dtype=types.FLOAT)
    rest = is_green * (2.0 + (blue - red) * inverse) + (1.0 - is_green) * (4.0 + (red - green) * inverse)
    angle = is_red * (green - blue) * inverse + (1.0 - is_red) * rest + 6.0 * turn + 6.0
    turned = []
    for phase in (5.0, 3.0, 1.0):
        sixth = angle + phase
        sixth = sixth - 6.0 * math.floor(sixth / 6.0)
        turned.append(value - chroma * math.clamp(math.min(sixth, 4.0 - sixth), 0.0, 1.0))
    return turned
