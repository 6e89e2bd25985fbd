"""Both ends of the mean field: logarithms in the order of tiles go in, marginals in that of the image come out."""

import numpy as np

from camshaft.kernels import simd
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf.channels import Channels, Floats, keeps_differences, labels_of, width_of
from camshaft.kernels.crf.tiles import WIDTH, Tiles
from camshaft.kernels.crf.workspace import CACHE_LINE

BLOCK = 16  # columns that are written together, so that the next rows still find what they read in the cache
ABSENT = np.float32(-1e30)  # the logit of a channel that is no label


@compiled()
def emit(channels: Channels, tiles: Tiles, tile: int, z: Floats, q: Floats) -> None:
    """Write a tile's marginals to q, flat (L, H, W)."""
    lanes, width = channels.lanes, width_of(channels)
    tall = tiles.period * tiles.run
    plane = tiles.height * tiles.width
    left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tall
    wide, high = min(WIDTH, tiles.width - left), min(tall, tiles.height - top)
    for begin in range(0, wide, BLOCK):
        end = min(wide, begin + BLOCK)
        for y in range(high):
            source = (y % tiles.period * tiles.run + y // tiles.period) * width
            target = (top + y) * tiles.width + left
            if lanes.width < 8:
                for x in range(begin, end):
                    emit_pixel(lanes, plane, z, source + x * tall * width, q, target + x)
            else:
                for label in range(len(q) // plane):
                    for x in range(begin, end):
                        simd.poke(q, label * plane + target + x, simd.peek(z, source + x * tall * width + label))


@compiled()
def emit_pixel(lanes: simd.Lanes, plane: int, z: Floats, source: int, q: Floats, target: int) -> None:
    """Write the marginals of a pixel of two to four labels, which z has from index `source` on."""
    width = lanes.width
    if keeps_differences(lanes):
        last = np.float32(1)
        for c in range(width):
            last -= simd.peek(z, source + c)
        last = max(np.float32(0), last / np.float32(width + 1))
        for c in range(width):
            simd.poke(q, c * plane + target, max(np.float32(0), simd.peek(z, source + c) + last))
        simd.poke(q, width * plane + target, last)
    else:
        for label in range(width):
            simd.poke(q, label * plane + target, simd.peek(z, source + label))


@compiled(fastmath=True)
def take_logs(
    channels: Channels,
    tiles: Tiles,
    first: int,
    end: int,
    probabilities: Floats,
    clip: np.float32,
    unary: Floats,
) -> None:
    """Fill the unary of tiles first to end with the logarithms of clipped probabilities, flat (L, H, W)."""
    lanes, width = channels.lanes, width_of(channels)
    tall = tiles.period * tiles.run
    plane = tiles.height * tiles.width
    labels = labels_of(lanes, len(probabilities) // plane)
    run = np.ones((tiles.run, labels * WIDTH + CACHE_LINE // 4), np.float32)  # else rows fall on the same cache sets
    for tile in range(first, end):
        left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tall
        wide, high = min(WIDTH, tiles.width - left), min(tall, tiles.height - top)
        base = tile * WIDTH * tall * width
        if high < tall or labels < width:
            fill(unary, base, base + WIDTH * tall * width, np.float32(0) if keeps_differences(lanes) else ABSENT)
        for residue in range(min(tiles.period, high)):
            count = 0
            for y in range(residue, high, tiles.period):
                source = (top + y) * tiles.width + left
                row_logs(channels.flat, labels, plane, wide, probabilities, source, clip, run[count])
                count += 1
            for x in range(wide):
                target = base + (x * tall + residue * tiles.run) * width
                for m in range(count):
                    row = run[m]
                    if keeps_differences(lanes):
                        last = simd.peek(row, width * WIDTH + x)
                        for c in range(width):
                            simd.poke(unary, target + c, simd.peek(row, c * WIDTH + x) - last)
                    else:
                        for label in range(labels):
                            simd.poke(unary, target + label, simd.peek(row, label * WIDTH + x))
                    target += width


@compiled(fastmath=True)
def row_logs(
    flat: simd.Lanes,
    labels: int,
    plane: int,
    wide: int,
    probabilities: Floats,
    source: int,
    clip: np.float32,
    row: Floats,
) -> None:
    """Fill row, flat (L, WIDTH), with the logarithms of clipped probabilities, from index `source` of each plane on."""
    lowest, highest = simd.broadcast(clip, flat), simd.broadcast(np.float32(1), flat)
    for label in range(labels):
        for x in range(wide):
            simd.poke(row, label * WIDTH + x, simd.peek(probabilities, label * plane + source + x))
    for i in range(0, labels * WIDTH, flat.width):
        clipped = simd.minimum(simd.maximum(simd.load(row, i, flat), lowest), highest)
        simd.store(row, i, simd.log(clipped))


@compiled()
def fill(array: Floats, begin: int, end: int, value: np.float32) -> None:
    """Set array[begin : end] to value."""
    for i in range(begin, end):
        array[i] = value
