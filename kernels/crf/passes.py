"""One mean-field step (Krähenbühl and Koltun 2011, algorithm 1), fused: slice, softmax and splat of a tile at a time.

    z        float32, flat (pixels of a tile, channels): messages, logits, then marginals, in turn
    unary    float32, flat (tiles, pixels of a tile, channels)
    lattice  float32, flat (vertices, channels): the appearance kernel's; grid: the smoothness kernel's

What the channels of a pixel are, says channels.py.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf.channels import Channels, Floats, blocks_of, keeps_differences, width_of
from camshaft.kernels.crf.embedding import CORNERS, EIGHT
from camshaft.kernels.crf.ends import emit
from camshaft.kernels.crf.groups import Groups, part
from camshaft.kernels.crf.smoothness import Smoothness
from camshaft.kernels.crf.tiles import WIDTH, Tiles


class Sums(NamedTuple):
    """What is splat onto: see kernels/simd/sums.py.

    Attributes:
        values: float32 or int32, flat (vertices, channels).
        scale: float32, of int32 sums.
    """

    values: NDArray[np.float32] | NDArray[np.int32]
    scale: np.float32


@compiled(fastmath=True)
def slice_groups(channels: Channels, groups: Groups, begin: int, end: int, lattice: Floats, z: Floats) -> None:
    """Set z of each record of groups begin to end to what it interpolates between its six vertices."""
    starts, corners, weights, places = groups.starts, groups.corners, groups.weights, groups.places
    lanes, blocks, width = channels.lanes, blocks_of(channels), width_of(channels)
    for g in range(begin, end):
        c = g * CORNERS
        first, last = simd.peek(starts, g), simd.peek(starts, g + 1)
        for block in range(blocks):
            offset = block * lanes.width
            v0 = simd.load(lattice, np.int64(simd.peek(corners, c)) * width + offset, lanes)
            v1 = simd.load(lattice, np.int64(simd.peek(corners, c + 1)) * width + offset, lanes)
            v2 = simd.load(lattice, np.int64(simd.peek(corners, c + 2)) * width + offset, lanes)
            v3 = simd.load(lattice, np.int64(simd.peek(corners, c + 3)) * width + offset, lanes)
            v4 = simd.load(lattice, np.int64(simd.peek(corners, c + 4)) * width + offset, lanes)
            v5 = simd.load(lattice, np.int64(simd.peek(corners, c + 5)) * width + offset, lanes)
            for i in range(first, last):
                w = i * CORNERS
                even = v0 * simd.peek(weights, w) + v2 * simd.peek(weights, w + 2) + v4 * simd.peek(weights, w + 4)
                odd = v1 * simd.peek(weights, w + 1) + v3 * simd.peek(weights, w + 3) + v5 * simd.peek(weights, w + 5)
                simd.store(z, np.int64(simd.peek(places, i)) * width + offset, even + odd)


@compiled(fastmath=True)
def splat_groups(channels: Channels, groups: Groups, begin: int, end: int, z: Floats, sums: Sums) -> None:
    """Add z of each record of groups begin to end onto its six vertices."""
    lattice, scale = sums.values, sums.scale
    starts, corners, weights, places = groups.starts, groups.corners, groups.weights, groups.places
    lanes, blocks, width = channels.lanes, blocks_of(channels), width_of(channels)
    nothing = simd.broadcast(np.float32(0), lanes)
    for g in range(begin, end):
        c = g * CORNERS
        first, last = simd.peek(starts, g), simd.peek(starts, g + 1)
        for block in range(blocks):
            offset = block * lanes.width
            s0 = s1 = s2 = s3 = s4 = s5 = nothing
            for i in range(first, last):
                w = i * CORNERS
                q = simd.load(z, np.int64(simd.peek(places, i)) * width + offset, lanes)
                s0 = s0 + q * simd.peek(weights, w)
                s1 = s1 + q * simd.peek(weights, w + 1)
                s2 = s2 + q * simd.peek(weights, w + 2)
                s3 = s3 + q * simd.peek(weights, w + 3)
                s4 = s4 + q * simd.peek(weights, w + 4)
                s5 = s5 + q * simd.peek(weights, w + 5)
            simd.add_to_sum(lattice, np.int64(simd.peek(corners, c)) * width + offset, s0, scale)
            simd.add_to_sum(lattice, np.int64(simd.peek(corners, c + 1)) * width + offset, s1, scale)
            simd.add_to_sum(lattice, np.int64(simd.peek(corners, c + 2)) * width + offset, s2, scale)
            simd.add_to_sum(lattice, np.int64(simd.peek(corners, c + 3)) * width + offset, s3, scale)
            simd.add_to_sum(lattice, np.int64(simd.peek(corners, c + 4)) * width + offset, s4, scale)
            simd.add_to_sum(lattice, np.int64(simd.peek(corners, c + 5)) * width + offset, s5, scale)


@compiled(fastmath=True)
def splat_single(groups: Groups, begin: int, end: int, z: Floats, sums: Sums) -> None:
    """Do splat_groups for one channel: there the lanes are the vertices, and the last two idle."""
    starts, corners, weights, places = groups.starts, groups.corners, groups.weights, groups.places
    lattice, scale = sums.values, sums.scale
    terms = np.empty(EIGHT.width, lattice.dtype)
    for g in range(begin, end):
        total = simd.broadcast(np.float32(0), EIGHT)
        for i in range(simd.peek(starts, g), simd.peek(starts, g + 1)):
            total = total + simd.load(weights, i * CORNERS, EIGHT) * simd.peek(z, np.int64(simd.peek(places, i)))
        simd.store_terms(terms, 0, total, scale)
        for r in range(CORNERS):
            vertex = np.int64(simd.peek(corners, g * CORNERS + r))
            simd.poke(lattice, vertex, simd.peek(lattice, vertex) + simd.peek(terms, r))


@compiled(fastmath=True)
def softmax(channels: Channels, z: Floats, begin: int, end: int) -> None:
    """Turn the logits z[begin : end] into marginals, or differences of logits into those of marginals."""
    lanes, flat, width = channels.lanes, channels.flat, width_of(channels)
    if lanes.width == 1:
        one, two = np.float32(1), np.float32(2)
        for i in range(begin, end, flat.width):
            simd.store(z, i, one - two / (one + simd.exp(simd.load(z, i, flat))))
    elif keeps_differences(lanes):
        nothing = simd.broadcast(np.float32(0), flat)
        for i in range(begin, end, lanes.width * flat.width):
            logits = simd.load_planes(z, i, lanes, flat)
            highest = simd.maximum(simd.largest(logits), nothing)
            q, q_last = simd.exp_beyond(logits, highest), simd.exp(nothing - highest)
            scale = np.float32(1) / (simd.total(q) + q_last)
            simd.store_planes(z, i, simd.scaled(simd.shifted(q, nothing - q_last), scale))
    elif lanes.width < flat.width:
        for i in range(begin, end, lanes.width * flat.width):
            logits = simd.load_planes(z, i, lanes, flat)
            q = simd.exp_beyond(logits, simd.largest(logits))
            simd.store_planes(z, i, simd.scaled(q, np.float32(1) / simd.total(q)))
    else:
        for pixel in range(begin, end, width):
            highest = simd.load(z, pixel, lanes)
            for i in range(pixel + lanes.width, pixel + width, lanes.width):
                highest = simd.maximum(highest, simd.load(z, i, lanes))
            highest = simd.max_among(highest, lanes)
            total = simd.broadcast(np.float32(0), lanes)
            for i in range(pixel, pixel + width, lanes.width):
                q = simd.exp(simd.load(z, i, lanes) - highest)
                total = total + q
                simd.store(z, i, q)
            scale = np.float32(1) / simd.sum_among(total, lanes)
            for i in range(pixel, pixel + width, lanes.width):
                simd.store(z, i, simd.load(z, i, lanes) * scale)


@compiled(fastmath=True)
def smooth(
    channels: Channels,
    tiles: Tiles,
    tile: int,
    smoothness: Smoothness,
    unary: Floats,
    grid: Floats,
    out: Sums,
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
    lanes, flat, width = channels.lanes, channels.flat, width_of(channels)
    size = WIDTH * tiles.period * tiles.run
    left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tiles.run
    span = tiles.run * width
    together = max(1, flat.width // lanes.width)  # pixels of a vector
    for run in range(min(WIDTH, tiles.width - left) * tiles.period):
        t = (left * tiles.period + run) * 3
        w0, w1, w2 = simd.peek(weights, t), simd.peek(weights, t + 1), simd.peek(weights, t + 2)
        g0 = (np.int64(simd.peek(vertices, t)) + top) * width
        g1 = (np.int64(simd.peek(vertices, t + 1)) + top) * width
        g2 = (np.int64(simd.peek(vertices, t + 2)) + top) * width
        here = run * span
        there = tile * size * width + here
        pixel = tile * size + run * tiles.run
        if first:
            for i in range(0, span, flat.width):
                simd.store(z, here + i, simd.load(unary, there + i, flat))
        else:
            for p in range(0, tiles.run, together):
                scale = simd.load_repeated(norm, pixel + p, lanes, flat)
                for i in range(p * width, (p + together) * width, flat.width):
                    message = simd.load(grid, g0 + i, flat) * w0
                    message = message + simd.load(grid, g1 + i, flat) * w1
                    message = message + simd.load(grid, g2 + i, flat) * w2
                    logits = simd.load(unary, there + i, flat) + simd.load(z, here + i, flat)
                    simd.store(z, here + i, logits + message * scale)
        softmax(channels, z, here, here + span)
        if not last:
            s0 = (np.int64(simd.peek(slots, t)) + top) * width
            s1 = (np.int64(simd.peek(slots, t + 1)) + top) * width
            s2 = (np.int64(simd.peek(slots, t + 2)) + top) * width
            for p in range(0, tiles.run, together):
                scale = simd.load_repeated(norm, pixel + p, lanes, flat)
                for i in range(p * width, (p + together) * width, flat.width):
                    q = simd.load(z, here + i, flat) * scale
                    simd.add_to_sum(out.values, s0 + i, q * w0, out.scale)
                    simd.add_to_sum(out.values, s1 + i, q * w1, out.scale)
                    simd.add_to_sum(out.values, s2 + i, q * w2, out.scale)


@compiled(fastmath=True)
def step(
    channels: Channels,
    team: int,
    tiles: Tiles,
    begin: int,
    end: int,
    groups: Groups,
    smoothness: Smoothness,
    unary: Floats,
    lattice: Floats,
    grid: Floats,
    lattice_out: Sums,
    grid_out: Sums,
    z: Floats,
    q: Floats,
    first: bool,
    last: bool,
) -> None:
    """Do one step on tiles begin to end: from the blurred lattices to q's sums on the next ones, or to q itself.

    Args:
        team: how many members have built the groups, each those of every team-th tile.
        groups: of all members.
        first: start from the unary alone.
        last: write q, float32 flat (L, H, W), instead of splatting it.
    """
    for tile in range(begin, end):
        own, built = part(groups, tiles, team, tile % team), tile // team
        g0, g1 = own.first[built], own.first[built + 1]
        if not first:
            slice_groups(channels, own, g0, g1, lattice, z)
        smooth(channels, tiles, tile, smoothness, unary, grid, grid_out, z, first, last)
        if last:
            emit(channels, tiles, tile, z, q)
        elif channels.lanes.width == 1:
            splat_single(own, g0, g1, z, lattice_out)
        else:
            splat_groups(channels, own, g0, g1, z, lattice_out)
