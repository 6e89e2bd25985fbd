"""One mean-field step (Krähenbühl and Koltun 2011, algorithm 1), fused: slice, softmax and splat of a tile at a time.

    z        float32, flat (pixels of a tile, channels): messages, logits, then marginals, in turn
    unary    float32, flat (tiles, pixels of a tile, channels)
    lattice  float32, flat (vertices, channels): the appearance kernel's; grid: the smoothness kernel's

The channels of a pixel are its labels, padded to whole vectors. Two labels need one channel alone: with
D = q0 - q1 and z = z0 - z1, D = tanh(z / 2), and as filters are linear, D is all that they need.
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf.appearance import CORNERS, Groups, normalise
from camshaft.kernels.crf.smoothness import Smoothness
from camshaft.kernels.crf.tiles import WIDTH, Tiles

Floats = NDArray[np.float32]
EIGHT = simd.Lanes(8)
ABSENT = np.float32(-1e30)  # the logit of a channel that is no label


@compiled()
def spread(lanes: simd.Lanes, blocks: int) -> int:
    """Return the blocks of a pixel: a constant, 1, for narrow lanes, so that indices are shifted, not multiplied."""
    return 1 if lanes.width < 8 else blocks


@compiled(fastmath=True)
def slice_groups(
    lanes: simd.Lanes, blocks: int, groups: Groups, begin: int, end: int, lattice: Floats, z: Floats
) -> None:
    """Set z of each record of groups begin to end to what it interpolates between its six vertices."""
    starts, corners, weights, places = groups.starts, groups.corners, groups.weights, groups.places
    blocks = spread(lanes, blocks)
    channels = lanes.width * blocks
    for g in range(begin, end):
        c = g * CORNERS
        first, last = simd.peek(starts, g), simd.peek(starts, g + 1)
        for block in range(blocks):
            offset = block * lanes.width
            v0 = simd.load(lattice, np.int64(simd.peek(corners, c)) * channels + offset, lanes)
            v1 = simd.load(lattice, np.int64(simd.peek(corners, c + 1)) * channels + offset, lanes)
            v2 = simd.load(lattice, np.int64(simd.peek(corners, c + 2)) * channels + offset, lanes)
            v3 = simd.load(lattice, np.int64(simd.peek(corners, c + 3)) * channels + offset, lanes)
            v4 = simd.load(lattice, np.int64(simd.peek(corners, c + 4)) * channels + offset, lanes)
            v5 = simd.load(lattice, np.int64(simd.peek(corners, c + 5)) * channels + offset, lanes)
            for i in range(first, last):
                w = i * CORNERS
                even = v0 * simd.peek(weights, w) + v2 * simd.peek(weights, w + 2) + v4 * simd.peek(weights, w + 4)
                odd = v1 * simd.peek(weights, w + 1) + v3 * simd.peek(weights, w + 3) + v5 * simd.peek(weights, w + 5)
                simd.store(z, np.int64(simd.peek(places, i)) * channels + offset, even + odd)


@compiled(fastmath=True)
def splat_groups(
    lanes: simd.Lanes, blocks: int, groups: Groups, begin: int, end: int, z: Floats, lattice: Floats
) -> None:
    """Add z of each record of groups begin to end onto its six vertices."""
    starts, corners, weights, places = groups.starts, groups.corners, groups.weights, groups.places
    blocks = spread(lanes, blocks)
    channels = lanes.width * blocks
    nothing = simd.broadcast(np.float32(0), lanes)
    for g in range(begin, end):
        c = g * CORNERS
        first, last = simd.peek(starts, g), simd.peek(starts, g + 1)
        for block in range(blocks):
            offset = block * lanes.width
            s0 = s1 = s2 = s3 = s4 = s5 = nothing
            for i in range(first, last):
                w = i * CORNERS
                q = simd.load(z, np.int64(simd.peek(places, i)) * channels + offset, lanes)
                s0 = s0 + q * simd.peek(weights, w)
                s1 = s1 + q * simd.peek(weights, w + 1)
                s2 = s2 + q * simd.peek(weights, w + 2)
                s3 = s3 + q * simd.peek(weights, w + 3)
                s4 = s4 + q * simd.peek(weights, w + 4)
                s5 = s5 + q * simd.peek(weights, w + 5)
            simd.add_to(lattice, np.int64(simd.peek(corners, c)) * channels + offset, s0)
            simd.add_to(lattice, np.int64(simd.peek(corners, c + 1)) * channels + offset, s1)
            simd.add_to(lattice, np.int64(simd.peek(corners, c + 2)) * channels + offset, s2)
            simd.add_to(lattice, np.int64(simd.peek(corners, c + 3)) * channels + offset, s3)
            simd.add_to(lattice, np.int64(simd.peek(corners, c + 4)) * channels + offset, s4)
            simd.add_to(lattice, np.int64(simd.peek(corners, c + 5)) * channels + offset, s5)


@compiled(fastmath=True)
def splat_single(groups: Groups, begin: int, end: int, z: Floats, lattice: Floats) -> None:
    """Do splat_groups for one channel: there the lanes are the vertices, and the last two idle."""
    starts, corners, weights, places = groups.starts, groups.corners, groups.weights, groups.places
    sums = np.empty(EIGHT.width, np.float32)
    for g in range(begin, end):
        total = simd.broadcast(np.float32(0), EIGHT)
        for i in range(simd.peek(starts, g), simd.peek(starts, g + 1)):
            total = total + simd.load(weights, i * CORNERS, EIGHT) * simd.peek(z, np.int64(simd.peek(places, i)))
        simd.store(sums, 0, total)
        for r in range(CORNERS):
            vertex = np.int64(simd.peek(corners, g * CORNERS + r))
            simd.poke(lattice, vertex, simd.peek(lattice, vertex) + simd.peek(sums, r))


@compiled(fastmath=True)
def softmax(lanes: simd.Lanes, blocks: int, flat: simd.Lanes, z: Floats, begin: int, end: int) -> None:
    """Turn the logits z[begin : end] into marginals."""
    if lanes.width == 1:
        one, two = np.float32(1), np.float32(2)
        for i in range(begin, end, flat.width):
            simd.store(z, i, one - two / (one + simd.exp(simd.load(z, i, flat))))
    elif lanes.width < 8:
        for i in range(begin, end, flat.width):
            logits = simd.load(z, i, flat)
            q = simd.exp(logits - simd.max_among(logits, lanes))
            simd.store(z, i, q / simd.sum_among(q, lanes))
    else:
        channels = lanes.width * blocks
        for pixel in range(begin, end, channels):
            highest = simd.load(z, pixel, lanes)
            for i in range(pixel + lanes.width, pixel + channels, lanes.width):
                highest = simd.maximum(highest, simd.load(z, i, lanes))
            highest = simd.max_among(highest, lanes)
            total = simd.broadcast(np.float32(0), lanes)
            for i in range(pixel, pixel + channels, lanes.width):
                q = simd.exp(simd.load(z, i, lanes) - highest)
                total = total + q
                simd.store(z, i, q)
            scale = np.float32(1) / simd.sum_among(total, lanes)
            for i in range(pixel, pixel + channels, lanes.width):
                simd.store(z, i, simd.load(z, i, lanes) * scale)


@compiled(fastmath=True)
def smooth(
    lanes: simd.Lanes,
    blocks: int,
    flat: simd.Lanes,
    tiles: Tiles,
    tile: int,
    smoothness: Smoothness,
    unary: Floats,
    grid: Floats,
    out: Floats,
    z: Floats,
    first: bool,
    last: bool,
) -> None:
    """Add unary and the smoothness kernel's message to a tile's z, take the softmax, and splat it onto `out`.

    Args:
        first: z holds no message yet, and grid neither: q is the softmax of the unary.
        last: nothing is to be splat.
    """
    vertices, slots, weights, norm = smoothness.vertices, smoothness.slots, smoothness.weights, smoothness.norm
    blocks = spread(lanes, blocks)
    channels = lanes.width * blocks
    size = WIDTH * tiles.period * tiles.run
    left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tiles.run
    span = tiles.run * channels
    together = max(1, flat.width // lanes.width)  # pixels of a vector
    for run in range(min(WIDTH, tiles.width - left) * tiles.period):
        t = (left * tiles.period + run) * 3
        w0, w1, w2 = simd.peek(weights, t), simd.peek(weights, t + 1), simd.peek(weights, t + 2)
        g0 = (np.int64(simd.peek(vertices, t)) + top) * channels
        g1 = (np.int64(simd.peek(vertices, t + 1)) + top) * channels
        g2 = (np.int64(simd.peek(vertices, t + 2)) + top) * channels
        here = run * span
        there = tile * size * channels + here
        pixel = tile * size + run * tiles.run
        if first:
            for i in range(0, span, flat.width):
                simd.store(z, here + i, simd.load(unary, there + i, flat))
        else:
            for p in range(0, tiles.run, together):
                scale = simd.load_repeated(norm, pixel + p, lanes, flat)
                for i in range(p * channels, (p + together) * channels, flat.width):
                    message = simd.load(grid, g0 + i, flat) * w0
                    message = message + simd.load(grid, g1 + i, flat) * w1
                    message = message + simd.load(grid, g2 + i, flat) * w2
                    logits = simd.load(unary, there + i, flat) + simd.load(z, here + i, flat)
                    simd.store(z, here + i, logits + message * scale)
        softmax(lanes, blocks, flat, z, here, here + span)
        if not last:
            s0 = (np.int64(simd.peek(slots, t)) + top) * channels
            s1 = (np.int64(simd.peek(slots, t + 1)) + top) * channels
            s2 = (np.int64(simd.peek(slots, t + 2)) + top) * channels
            for p in range(0, tiles.run, together):
                scale = simd.load_repeated(norm, pixel + p, lanes, flat)
                for i in range(p * channels, (p + together) * channels, flat.width):
                    q = simd.load(z, here + i, flat) * scale
                    simd.add_to(out, s0 + i, q * w0)
                    simd.add_to(out, s1 + i, q * w1)
                    simd.add_to(out, s2 + i, q * w2)


@compiled(fastmath=True)
def step(
    lanes: simd.Lanes,
    blocks: int,
    flat: simd.Lanes,
    tiles: Tiles,
    begin: int,
    end: int,
    groups: Groups,
    smoothness: Smoothness,
    unary: Floats,
    lattice: Floats,
    grid: Floats,
    lattice_out: Floats,
    grid_out: Floats,
    z: Floats,
    q: Floats,
    first: bool,
    last: bool,
) -> None:
    """Do one step on tiles begin to end: from the blurred lattices to q's sums on the next ones, or to q itself.

    Args:
        first: start from the unary alone.
        last: write q, float32 flat (L, H, W), instead of splatting it.
    """
    for tile in range(begin, end):
        g0, g1 = groups.first[tile - begin], groups.first[tile - begin + 1]
        if not first:
            slice_groups(lanes, blocks, groups, g0, g1, lattice, z)
        smooth(lanes, blocks, flat, tiles, tile, smoothness, unary, grid, grid_out, z, first, last)
        if last:
            emit(lanes, blocks, tiles, tile, z, q)
        elif lanes.width == 1:
            splat_single(groups, g0, g1, z, lattice_out)
        else:
            splat_groups(lanes, blocks, groups, g0, g1, z, lattice_out)


@compiled()
def emit(lanes: simd.Lanes, blocks: int, tiles: Tiles, tile: int, z: Floats, q: Floats) -> None:
    """Write a tile's marginals to q, flat (L, H, W)."""
    blocks = spread(lanes, blocks)
    channels = lanes.width * blocks
    tall = tiles.period * tiles.run
    plane = tiles.height * tiles.width
    left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tall
    wide = min(WIDTH, tiles.width - left)
    for y in range(min(tall, tiles.height - top)):
        source = (y % tiles.period * tiles.run + y // tiles.period) * channels
        target = (top + y) * tiles.width + left
        if lanes.width == 1:
            for x in range(wide):
                q0 = np.float32(0.5) + np.float32(0.5) * simd.peek(z, source + x * tall)
                simd.poke(q, target + x, q0)
                simd.poke(q, plane + target + x, np.float32(1) - q0)
        else:
            for label in range(len(q) // plane):
                for x in range(wide):
                    simd.poke(q, label * plane + target + x, simd.peek(z, source + x * tall * channels + label))


@compiled(fastmath=True)
def take_logs(
    lanes: simd.Lanes,
    blocks: int,
    flat: simd.Lanes,
    tiles: Tiles,
    begin: int,
    end: int,
    probabilities: Floats,
    clip: np.float32,
    unary: Floats,
) -> None:
    """Fill the unary of tiles begin to end with the logarithms of clipped probabilities, flat (L, H, W)."""
    blocks = spread(lanes, blocks)
    channels = lanes.width * blocks
    tall = tiles.period * tiles.run
    plane = tiles.height * tiles.width
    labels = len(probabilities) // plane
    row = np.ones(labels * WIDTH, np.float32)
    lowest, highest = simd.broadcast(clip, flat), simd.broadcast(np.float32(1), flat)
    for tile in range(begin, end):
        left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tall
        wide, high = min(WIDTH, tiles.width - left), min(tall, tiles.height - top)
        base = tile * WIDTH * tall * channels
        if high < tall or labels < channels:
            fill(unary, base, base + WIDTH * tall * channels, ABSENT if lanes.width > 1 else np.float32(0))
        for y in range(high):
            source = (top + y) * tiles.width + left
            target = base + (y % tiles.period * tiles.run + y // tiles.period) * channels
            for label in range(labels):
                for x in range(wide):
                    simd.poke(row, label * WIDTH + x, simd.peek(probabilities, label * plane + source + x))
            for i in range(0, labels * WIDTH, flat.width):
                clipped = simd.minimum(simd.maximum(simd.load(row, i, flat), lowest), highest)
                simd.store(row, i, simd.log(clipped))
            if lanes.width == 1:
                for x in range(wide):
                    simd.poke(unary, target + x * tall, simd.peek(row, x) - simd.peek(row, WIDTH + x))
            else:
                for label in range(labels):
                    for x in range(wide):
                        simd.poke(unary, target + x * tall * channels + label, simd.peek(row, label * WIDTH + x))


@compiled()
def fill(array: Floats, begin: int, end: int, value: np.float32) -> None:
    """Set array[begin : end] to value."""
    for i in range(begin, end):
        array[i] = value


@compiled(fastmath=True)
def blur(
    lanes: simd.Lanes, blocks: int, lattice: Floats, other: Floats, neighbours: NDArray[np.int32], count: int
) -> Floats:
    """Blur with (1/2, 1, 1/2) along the six axes; returns the one of the two arrays that holds the result."""
    blocks = spread(lanes, blocks)
    channels = lanes.width * blocks
    half = np.float32(0.5)
    for axis in range(CORNERS):
        first = axis * (count + 1) * 2
        for v in range(1, count + 1):
            before = np.int64(simd.peek(neighbours, first + 2 * v)) * channels
            after = np.int64(simd.peek(neighbours, first + 2 * v + 1)) * channels
            for i in range(0, channels, lanes.width):
                sides = simd.load(lattice, before + i, lanes) + simd.load(lattice, after + i, lanes)
                simd.store(other, v * channels + i, simd.load(lattice, v * channels + i, lanes) + sides * half)
        lattice, other = other, lattice
    return lattice


@compiled(fastmath=True)
def measure(tiles: Tiles, groups: Groups, begin: int, end: int, lattice: Floats, z: Floats) -> None:
    """Splat ones, of tiles begin to end, onto the appearance kernel's lattice of one channel."""
    fill(z, 0, WIDTH * tiles.period * tiles.run, np.float32(1))
    for tile in range(end - begin):
        splat_single(groups, groups.first[tile], groups.first[tile + 1], z, lattice)


@compiled(fastmath=True)
def normalise_groups(
    lanes: simd.Lanes, groups: Groups, count: int, lattice: Floats, compat: np.float32, z: Floats
) -> None:
    """Multiply the weights of `count` tiles' groups by the norm that the blurred lattice of ones gives."""
    for tile in range(count):
        begin, end = groups.first[tile], groups.first[tile + 1]
        slice_groups(lanes, 1, groups, begin, end, lattice, z)
        normalise(groups, begin, end, z, compat)
