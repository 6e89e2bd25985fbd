"""What each thread of an image's mean field does, phase by phase: on tiles, and then on ranges of the vertices.

A member of the team splats onto a lattice of its own; afterwards these are summed up, and blurred axis by axis. The
groups of every team-th tile are built by one member. In the iterations each takes tiles as it comes to them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.barrier import Member, meet, share
from camshaft.kernels.claims import claim, finish
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf import smoothness as spatial
from camshaft.kernels.crf.channels import ONE, Channels, Floats, width_of
from camshaft.kernels.crf.embedding import CORNERS
from camshaft.kernels.crf.ends import take_logs
from camshaft.kernels.crf.groups import Groups, normalise, part
from camshaft.kernels.crf.passes import Sums, slice_groups, splat_single, step
from camshaft.kernels.crf.smoothness import Smoothness
from camshaft.kernels.crf.tiles import Tiles
from camshaft.kernels.crf.vertices import Table, link


class Lattice(NamedTuple):
    """Values at a kernel's vertices, zeros at first.

    Attributes:
        splat: flat (members, ...): what each member's pixels add up to; zeros again when summed up. Of one member
            float32; of several int32, so that it does not matter who adds what, and when.
        unit: float32, the value of 1 in int32 sums.
        sums: float32: over all members, and then what is sliced.
        spare: float32, of the same size.
    """

    splat: NDArray[np.float32] | NDArray[np.int32]
    unit: np.float32
    sums: Floats
    spare: Floats


@compiled()
def own(lattice: Lattice, member: Member) -> Sums:
    """Return what a member splats onto."""
    begin, end = share(member, 0, len(lattice.splat))
    return Sums(lattice.splat[begin:end], np.float32(1) / lattice.unit)


@compiled(fastmath=True)
def gather(lattice: Lattice, members: int, begin: int, end: int, total: Floats) -> None:
    """Add up what the members have splat, from index begin to end, and clear it."""
    splat, unit = lattice.splat, lattice.unit
    size = len(splat) // members
    for other in range(1, members):
        for i in range(begin, end):
            splat[i] += splat[other * size + i]
            splat[other * size + i] = 0
    for i in range(begin, end):
        total[i] = np.float32(splat[i]) * unit
        splat[i] = 0


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
) -> np.float32:
    """Link the vertices; fold the norm 1 / sqrt(K 1) and the kernel's weight into the groups' weights.

    Returns the largest sum of such weights among a member's vertices, which bounds what marginals may add up to; of a
    single member 0.

    Args:
        member: which thread of how many.
        tiles, groups: the image's.
        numbers: the vertices' numbers in the common table by those in the member's own; empty if they are the same.
        table, count, strides: the vertices.
        neighbours: int32, flat (6, vertices + 1, 2), filled.
        lattice: of one channel, flat (vertices + 1,).
        z: float32 (pixels of a tile,).
        compat: the kernel's weight.
    """
    groups = part(groups, tiles, member.team, member.number)
    number = len(groups.first) - 1
    corners = groups.corners
    if len(numbers) > 0:
        for i in range(groups.first[number] * CORNERS):
            simd.poke(corners, i, simd.peek(numbers, np.int64(simd.peek(corners, i))))
    for axis in range(member.number, CORNERS, member.team):
        link(table, count, axis, strides, neighbours)
    mass, spare = lattice.sums, lattice.spare
    z[:] = np.float32(1)
    splat_single(groups, 0, groups.first[number], z, own(lattice, member))
    meetings = meet(member, 0)
    begin, end = share(member, 1, count + 1)
    gather(lattice, member.team, begin, end, mass)
    meetings = meet(member, meetings)
    for axis in range(CORNERS):
        blur_axis(ONE, mass, spare, neighbours, axis, begin, end)
        mass, spare = spare, mass
        meetings = meet(member, meetings)
    for tile in range(number):
        slice_groups(ONE, groups, groups.first[tile], groups.first[tile + 1], mass, z)
        normalise(groups, groups.first[tile], groups.first[tile + 1], z, compat)
    peak = np.float32(0)
    if member.team > 1:
        z[:] = np.float32(1)
        splat_single(groups, 0, groups.first[number], z, own(lattice, member))
        meet(member, meetings)
        gather(lattice, member.team, begin, end, mass)
        for v in range(begin, end):
            peak = max(peak, mass[v])
    return peak


@compiled(fastmath=True)
def blur(
    channels: Channels,
    member: Member,
    phase: int,
    smoothness: Smoothness,
    neighbours: NDArray[np.int32],
    appearance: Lattice,
    grids: Lattice,
) -> int:
    """Sum up what has been splat onto both lattices, and blur the sums along all axes; returns the next phase.

    An item of the members' work is a column of the grid, and as large a part of the vertices.
    """
    flat, width, team = channels.flat, width_of(channels), member.team
    lattice, spare, folded, grid = appearance.sums, appearance.spare, grids.spare, grids.sums
    vertices, columns = len(neighbours) // (2 * CORNERS) - 1, smoothness.columns - 2
    for axis in range(-1, CORNERS):  # before the first they are summed up
        done = 0
        while True:
            begin, end = claim(member, phase, columns)
            if begin == end:
                break
            first, last = 1 + vertices * begin // columns, 1 + vertices * end // columns
            left, right = 1 + begin, 1 + end
            if axis < 0:
                gather(appearance, team, first * width, last * width, lattice)
                spatial.fold(flat, grids.splat, team, grids.unit, smoothness, left, right, width, folded)
            else:
                blur_axis(channels, lattice, spare, neighbours, axis, first, last)
                if axis < 3:
                    spatial.blur_axis(flat, folded, grid, smoothness, axis, left, right, width)
            done += end - begin
        phase = finish(member, phase, columns, done)
        if axis >= 0:  # with six axes and three, the last results are in appearance.sums and grids.sums
            lattice, spare = spare, lattice
            folded, grid = grid, folded
    return phase


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
    """Do the mean field, together with the other members.

    Args:
        channels: of a pixel.
        member: which thread of how many.
        tiles, groups, smoothness, neighbours: the image's, and the two lattices' own.
        probabilities: flat (L, H, W).
        clip, iterations: as `crf` has them.
        unary: scratch, flat (tiles, pixels of a tile, channels).
        appearance: flat (vertices + 1, channels), and padding.
        grids: the smoothness kernel's, flat (columns, rows, channels); a member splats onto SPLIT of them.
        z: flat (pixels of a tile, channels): zeros.
        q: flat (L, H, W), filled.
    """
    phase, done = 1, 0
    while True:
        begin, end = claim(member, phase, tiles.number)
        if begin == end:
            break
        take_logs(channels, tiles, begin, end, probabilities, clip, unary)
        done += end - begin
    phase = finish(member, phase, tiles.number, done)
    vertices_out, grids_out = own(appearance, member), own(grids, member)
    for turn in range(iterations + 1):
        done = 0
        while True:
            begin, end = claim(member, phase, tiles.number)
            if begin == end:
                break
            step(
                channels, member.team, tiles, begin, end, groups, smoothness,
                unary, appearance.sums, grids.sums, vertices_out, grids_out, z, q, turn == 0, turn == iterations,
            )  # fmt: skip
            done += end - begin
        phase = finish(member, phase, tiles.number, done)
        if turn < iterations:
            phase = blur(channels, member, phase, smoothness, neighbours, appearance, grids)
