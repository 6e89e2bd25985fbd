"""What each thread of an image's mean field does: its share of every phase, with the others met between the phases.

A member of the team has every team-th tile, and a range of the vertices. It splats onto a lattice of its own; when all
have met, the ranges are summed up, and then blurred axis by axis.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.barrier import Member, meet, share
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf import smoothness as spatial
from camshaft.kernels.crf.channels import ONE, Channels, Floats, width_of
from camshaft.kernels.crf.embedding import CORNERS
from camshaft.kernels.crf.ends import take_logs
from camshaft.kernels.crf.groups import Groups, normalise
from camshaft.kernels.crf.passes import slice_groups, splat_single, step
from camshaft.kernels.crf.smoothness import Smoothness
from camshaft.kernels.crf.tiles import Tiles
from camshaft.kernels.crf.vertices import Table, link


class Lattice(NamedTuple):
    """Values at a kernel's vertices, zeros at first.

    Attributes:
        splat: float32, flat (members, ...): what each member's pixels add up to; zeros again when summed up.
        sums: float32: over all members, and then what is sliced.
        spare: float32, of the same size.
    """

    splat: Floats
    sums: Floats
    spare: Floats


@compiled()
def own(splat: Floats, member: Member) -> Floats:
    """Return a member's part of what all splat onto."""
    begin, end = share(member, 0, len(splat))
    return splat[begin:end]


@compiled(fastmath=True)
def gather(splat: Floats, members: int, begin: int, end: int, total: Floats) -> None:
    """Add up what the members have splat, from index begin to end, and clear it."""
    size = len(splat) // members
    for i in range(begin, end):
        total[i] = splat[i]
        splat[i] = np.float32(0)
    for other in range(1, members):
        for i in range(begin, end):
            total[i] += splat[other * size + i]
            splat[other * size + i] = np.float32(0)


@compiled(fastmath=True)
def blur_axis(
    channels: Channels,
    lattice: Floats,
    blurred: Floats,
    neighbours: NDArray[np.int32],
    axis: int,
    begin: int,
    end: int,
) -> None:
    """Set vertices begin to end of `blurred` to those of the lattice, blurred with (1/2, 1, 1/2) along an axis."""
    lanes, width = channels.lanes, width_of(channels)
    half = np.float32(0.5)
    first = axis * len(neighbours) // CORNERS
    for v in range(begin, end):
        before = np.int64(simd.peek(neighbours, first + 2 * v)) * width
        after = np.int64(simd.peek(neighbours, first + 2 * v + 1)) * width
        for i in range(0, width, lanes.width):
            sides = simd.load(lattice, before + i, lanes) + simd.load(lattice, after + i, lanes)
            simd.store(blurred, v * width + i, simd.load(lattice, v * width + i, lanes) + sides * half)


@compiled(fastmath=True)
def normalise_weights(
    member: Member,
    tiles: Tiles,
    groups: Groups,
    numbers: NDArray[np.int32],
    table: Table,
    count: int,
    strides: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    lattice: Lattice,
    z: Floats,
    compat: np.float32,
) -> None:
    """Link the vertices; fold the norm 1 / sqrt(K 1) and the kernel's weight into the groups' weights.

    Args:
        member: which thread of how many.
        tiles, groups: the image's, and the member's.
        numbers: the vertices' numbers in the common table by those in the member's own; empty if they are the same.
        table, count, strides: the vertices.
        neighbours: int32, flat (6, vertices + 1, 2), filled.
        lattice: of one channel, flat (vertices + 1,).
        z: float32 (pixels of a tile,).
        compat: the kernel's weight.
    """
    number = len(range(member.number, tiles.number, member.team))
    corners = groups.corners
    if len(numbers) > 0:
        for i in range(groups.first[number] * CORNERS):
            simd.poke(corners, i, simd.peek(numbers, np.int64(simd.peek(corners, i))))
    for axis in range(member.number, CORNERS, member.team):
        link(table, count, axis, strides, neighbours)
    mass, spare = lattice.sums, lattice.spare
    z[:] = np.float32(1)
    splat_single(groups, 0, groups.first[number], z, own(lattice.splat, member))
    meetings = meet(member, 0)
    begin, end = share(member, 1, count + 1)
    gather(lattice.splat, member.team, begin, end, mass)
    meetings = meet(member, meetings)
    for axis in range(CORNERS):
        blur_axis(ONE, mass, spare, neighbours, axis, begin, end)
        mass, spare = spare, mass
        meetings = meet(member, meetings)
    for tile in range(number):
        slice_groups(ONE, groups, groups.first[tile], groups.first[tile + 1], mass, z)
        normalise(groups, groups.first[tile], groups.first[tile + 1], z, compat)


@compiled(fastmath=True)
def iterate(
    channels: Channels,
    member: Member,
    tiles: Tiles,
    groups: Groups,
    smoothness: Smoothness,
    neighbours: NDArray[np.int32],
    probabilities: Floats,
    clip: np.float32,
    iterations: int,
    unary: Floats,
    appearance: Lattice,
    grids: Lattice,
    z: Floats,
    q: Floats,
) -> None:
    """Do a member's share of the mean field.

    Args:
        channels: of a pixel.
        member: which thread of how many.
        tiles, groups, smoothness, neighbours: the image's, the member's, and the two lattices' own.
        probabilities: flat (L, H, W).
        clip, iterations: as `crf` has them.
        unary: scratch, flat (tiles, pixels of a tile, channels).
        appearance: flat (vertices + 1, channels), and padding.
        grids: the smoothness kernel's, flat (columns, rows, channels); a member splats onto SPLIT of them.
        z: flat (pixels of a tile, channels): zeros.
        q: flat (L, H, W), filled.
    """
    flat, width = channels.flat, width_of(channels)
    take_logs(channels, member, tiles, probabilities, clip, unary)
    own_vertices, own_grids = own(appearance.splat, member), own(grids.splat, member)
    lattice, spare, grid, folded = appearance.sums, appearance.spare, grids.sums, grids.spare
    begin, end = share(member, 1, len(neighbours) // (2 * CORNERS))
    left, right = share(member, 1, smoothness.columns - 1)
    meetings = 0
    for done in range(iterations + 1):
        step(
            channels, member, tiles, groups, smoothness,
            unary, lattice, grid, own_vertices, own_grids, z, q, done == 0, done == iterations,
        )  # fmt: skip
        if done < iterations:
            meetings = meet(member, meetings)
            gather(appearance.splat, member.team, begin * width, end * width, lattice)
            spatial.fold(flat, grids.splat, member.team, smoothness, left, right, width, folded)
            meetings = meet(member, meetings)
            for axis in range(CORNERS):
                blur_axis(channels, lattice, spare, neighbours, axis, begin, end)
                lattice, spare = spare, lattice
                if axis < 3:
                    spatial.blur_axis(flat, folded, grid, smoothness, axis, left, right, width)
                    folded, grid = grid, folded
                meetings = meet(member, meetings)
            folded, grid = grid, folded
