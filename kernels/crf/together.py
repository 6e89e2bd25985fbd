"""What each thread of an image's mean field does: its share of every phase, with the others met between the phases.

A member of `members` threads has every members-th tile, and a range of the vertices. It splats onto lattices of its
own; when all have met, the ranges are summed up, and then blurred axis by axis.

    sums     float32, flat (members, size): each member's appearance lattice, flat (vertices + 1, channels) and padding
    split    float32, flat (members, SPLIT, columns, rows, channels): each member's smoothness grids
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.barrier import meet
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf import smoothness as spatial
from camshaft.kernels.crf.channels import Floats, blocks_of
from camshaft.kernels.crf.embedding import CORNERS
from camshaft.kernels.crf.ends import take_logs
from camshaft.kernels.crf.groups import Groups, normalise
from camshaft.kernels.crf.passes import slice_groups, splat_single, step
from camshaft.kernels.crf.smoothness import Smoothness
from camshaft.kernels.crf.tiles import Tiles
from camshaft.kernels.crf.vertices import Table, link

ONE = simd.Lanes(1)


@compiled()
def share(member: int, members: int, begin: int, end: int) -> tuple[int, int]:
    """Return a member's part of begin..end."""
    return begin + (end - begin) * member // members, begin + (end - begin) * (member + 1) // members


@compiled(fastmath=True)
def gather(sums: Floats, members: int, begin: int, end: int, total: Floats) -> None:
    """Add the members' sums up, from index begin to end, and clear them."""
    size = len(sums) // members
    for i in range(begin, end):
        total[i] = sums[i]
        sums[i] = np.float32(0)
    for other in range(1, members):
        for i in range(begin, end):
            total[i] += sums[other * size + i]
            sums[other * size + i] = np.float32(0)


@compiled(fastmath=True)
def blur_axis(
    lanes: simd.Lanes,
    blocks: int,
    lattice: Floats,
    blurred: Floats,
    neighbours: NDArray[np.int32],
    axis: int,
    begin: int,
    end: int,
) -> None:
    """Set vertices begin to end of `blurred` to those of the lattice, blurred with (1/2, 1, 1/2) along an axis."""
    blocks = blocks_of(lanes, blocks)
    channels = lanes.width * blocks
    half = np.float32(0.5)
    first = axis * len(neighbours) // CORNERS
    for v in range(begin, end):
        before = np.int64(simd.peek(neighbours, first + 2 * v)) * channels
        after = np.int64(simd.peek(neighbours, first + 2 * v + 1)) * channels
        for i in range(0, channels, lanes.width):
            sides = simd.load(lattice, before + i, lanes) + simd.load(lattice, after + i, lanes)
            simd.store(blurred, v * channels + i, simd.load(lattice, v * channels + i, lanes) + sides * half)


@compiled(fastmath=True)
def normalise_weights(
    member: int,
    members: int,
    arrivals: NDArray[np.int64],
    tiles: Tiles,
    groups: Groups,
    numbers: NDArray[np.int32],
    table: Table,
    count: int,
    strides: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    sums: Floats,
    mass: Floats,
    spare: Floats,
    z: Floats,
    compat: np.float32,
) -> None:
    """Link the vertices; fold the norm 1 / sqrt(K 1) and the kernel's weight into the groups' weights.

    Args:
        member, members: which thread of how many.
        arrivals: their barrier.
        tiles, groups: the image's, and the member's.
        numbers: the vertices' numbers in the common table by those in the member's own; empty if they are the same.
        table, count, strides: the vertices.
        neighbours: int32, flat (6, vertices + 1, 2), filled.
        sums, mass, spare: zeros; mass and spare flat (vertices + 1,).
        z: float32 (pixels of a tile,).
        compat: the kernel's weight.
    """
    number = len(range(member, tiles.number, members))
    corners = groups.corners
    if len(numbers) > 0:
        for i in range(groups.first[number] * CORNERS):
            simd.poke(corners, i, simd.peek(numbers, np.int64(simd.peek(corners, i))))
    for axis in range(member, CORNERS, members):
        link(table, count, axis, strides, neighbours)
    own = sums[member * len(sums) // members : (member + 1) * len(sums) // members]
    z[:] = np.float32(1)
    splat_single(groups, 0, groups.first[number], z, own)
    meetings = meet(arrivals, members, 0)
    begin, end = share(member, members, 1, count + 1)
    gather(sums, members, begin, end, mass)
    meetings = meet(arrivals, members, meetings)
    for axis in range(CORNERS):
        blur_axis(ONE, 1, mass, spare, neighbours, axis, begin, end)
        mass, spare = spare, mass
        meetings = meet(arrivals, members, meetings)
    for tile in range(number):
        slice_groups(ONE, 1, groups, groups.first[tile], groups.first[tile + 1], mass, z)
        normalise(groups, groups.first[tile], groups.first[tile + 1], z, compat)


@compiled(fastmath=True)
def iterate(
    lanes: simd.Lanes,
    blocks: int,
    flat: simd.Lanes,
    member: int,
    members: int,
    arrivals: NDArray[np.int64],
    tiles: Tiles,
    groups: Groups,
    smoothness: Smoothness,
    neighbours: NDArray[np.int32],
    probabilities: Floats,
    clip: np.float32,
    iterations: int,
    unary: Floats,
    sums: Floats,
    lattice: Floats,
    spare: Floats,
    split: Floats,
    grid: Floats,
    folded: Floats,
    z: Floats,
    q: Floats,
) -> None:
    """Do a member's share of the mean field, from probabilities to q, both flat (L, H, W).

    sums, lattice and spare, split, grid and folded are zeros; unary, flat (tiles, pixels of a tile, channels), is
    scratch. The other arguments are those of `normalise_weights` and `passes.step`.
    """
    channels = lanes.width * blocks_of(lanes, blocks)
    take_logs(lanes, blocks, flat, tiles, member, members, probabilities, clip, unary)
    own = sums[member * len(sums) // members : (member + 1) * len(sums) // members]
    own_split = split[member * len(split) // members : (member + 1) * len(split) // members]
    begin, end = share(member, members, 1, len(neighbours) // (2 * CORNERS))
    left, right = share(member, members, 1, smoothness.columns - 1)
    meetings = 0
    for done in range(iterations + 1):
        step(
            lanes, blocks, flat, tiles, member, members, groups, smoothness,
            unary, lattice, grid, own, own_split, z, q, done == 0, done == iterations,
        )  # fmt: skip
        if done < iterations:
            meetings = meet(arrivals, members, meetings)
            gather(sums, members, begin * channels, end * channels, lattice)
            spatial.fold(flat, split, members, smoothness, left, right, channels, folded)
            meetings = meet(arrivals, members, meetings)
            for axis in range(CORNERS):
                blur_axis(lanes, blocks, lattice, spare, neighbours, axis, begin, end)
                lattice, spare = spare, lattice
                if axis < 3:
                    spatial.blur_axis(flat, folded, grid, smoothness, axis, left, right, channels)
                    folded, grid = grid, folded
                meetings = meet(arrivals, members, meetings)
            folded, grid = grid, folded
