"""The pixels of the appearance kernel, grouped by simplex, tile by tile.

The pixels of a tile that share a simplex form a group, and are kept side by side: the group's six vertices are then
read, and written, once for all of them. Groups of one size follow one another, so that the loops over their pixels
are predicted.

    groups in the order of tiles; pixels ("records") in the order of groups
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf import lattice
from camshaft.kernels.crf.embedding import (
    CORNERS,
    EIGHT,
    ORDER_BITS,
    ROWS,
    D,
    Places,
    embed,
    name_simplices,
    put_weights,
    read_row,
)
from camshaft.kernels.crf.lattice import GOLDEN
from camshaft.kernels.crf.tiles import WIDTH, Tiles
from camshaft.kernels.crf.vertices import Table, find, merge, with_room
from camshaft.kernels.crf.workspace import Workspace
from camshaft.kernels.simd import Lanes, load, peek, poke, store

ALPHA = np.float32(1 / (1 + 2.0**-D))  # the blur's gain
SLOT_BITS = 14  # of a tile's own hash table: at least twice its pixels
LARGEST_SIZE = 24  # groups are sorted by size up to this
EMPTY = np.int64(-1)
FOUR, TWO = Lanes(4), Lanes(2)  # the six numbers of a record, which no vector may overrun


class Groups(NamedTuple):
    """The pixels of some tiles, grouped by simplex.

    Attributes:
        first: int64 (tiles + 1,), the first group of each tile.
        starts: int64 (groups + 1,), the first record of each group.
        corners: int32, flat (groups, 6): the vertices, from 1 on.
        weights: float32, flat (records, 6): barycentric weights.
        places: int32 (records,): which pixel of its tile a record is.
    """

    first: NDArray[np.int64]
    starts: NDArray[np.int64]
    corners: NDArray[np.int32]
    weights: NDArray[np.float32]
    places: NDArray[np.int32]


def room(tiles: Tiles, team: int, space: Workspace) -> Groups:
    """Take arrays for the groups of all members' tiles, member after member."""
    pixels = tiles.number * tiles.size
    return Groups(
        space.take("first", tiles.number + team, np.int64),
        space.take("starts", pixels + team, np.int64),
        space.take("corners", pixels * CORNERS, np.int32),
        space.take("weights", pixels * CORNERS + 2, np.float32),  # the last record is read as eight numbers too
        space.take("places", pixels, np.int32),
    )


@compiled()
def part(groups: Groups, tiles: Tiles, team: int, number: int) -> Groups:
    """Return the groups of a member's tiles, every team-th, of all members' groups."""
    own = len(range(number, tiles.number, team))
    before = number * (tiles.number // team) + min(number, tiles.number % team)
    size = len(groups.places) // tiles.number
    begin, end = before * size, (before + own) * size
    return Groups(
        groups.first[before + number : before + own + number + 1],
        groups.starts[begin + number : end + number + 1],
        groups.corners[begin * CORNERS : end * CORNERS],
        groups.weights[begin * CORNERS : end * CORNERS + 2],
        groups.places[begin:end],
    )


class Scratch(NamedTuple):
    """What is known of the tile at work.

    Attributes:
        features: float32, flat (ROWS, WIDTH), of one row of pixels; `embed` puts their simplices there.
        simplices: int64 (WIDTH,), the row's simplices: keys that tell them apart.
        weights: float32, flat (pixels of a tile, 8): the pixels' six barycentric weights, and zeros.
        members: int32 (pixels,): the group of a pixel.
        slots, owners: the simplices' hash table: the key, and its group.
        used, sizes: int64, of a group: its slot, and how many pixels it has.
        corners: int32, flat (groups, 6): its vertices.
        order: int64: the groups by size.
        by_rank: int64 (6,): what a simplex's next vertex takes from its key.
    """

    features: NDArray[np.float32]
    simplices: NDArray[np.int64]
    weights: NDArray[np.float32]
    members: NDArray[np.int32]
    slots: NDArray[np.int64]
    owners: NDArray[np.int32]
    used: NDArray[np.int64]
    sizes: NDArray[np.int64]
    corners: NDArray[np.int32]
    order: NDArray[np.int64]
    by_rank: NDArray[np.int64]


def group(
    image: NDArray[np.uint8],
    tiles: Tiles,
    member: Member,
    quotients: Places,
    strides: NDArray[np.int64],
    space: Workspace,
    groups: Groups,
) -> tuple[Table, int]:
    """Group the pixels of a member's tiles by simplex; fills its part of the groups.

    Returns:
        The table of their vertices, and how many vertices there are.
    """
    own = part(groups, tiles, member.team, member.number)
    size = 1 << max(12, int(np.log2(len(own.places))) - 2)
    table = Table(space.take("slots", size, np.int32), space.take("keys", size + 1, np.int64))
    return build(image, tiles, member, quotients, strides, table, scratch(tiles, space), own)


def unite(
    tables: list[tuple[Table, int]], strides: NDArray[np.int64], padded: bool
) -> tuple[Table, int, list[NDArray[np.int32]]]:
    """Number the vertices of all tables in common.

    Args:
        tables: each with its number of vertices.
        strides: of the keys.
        padded: add the vertices around the origin, at which pydensecrf fills its last block of four pixels.

    Returns:
        The common table, how many vertices it has, and for each table its vertices' numbers in the common one (none
        for the first, whose vertices keep theirs).
    """
    table, count = tables[0]
    numbers = [np.empty(0, np.int32)]
    for other, vertices in tables[1:]:
        table, count, renamed = merge(table, count, other.keys, vertices)
        numbers.append(renamed)
    if padded:
        keys = np.zeros((1, CORNERS), np.int64)
        lattice.embed(np.zeros((1, D), np.float32), keys, np.empty((1, CORNERS), np.float32), strides)
        table, count, _ = merge(table, count, np.concatenate([[0], keys[0]]), CORNERS)
    return table, count, numbers


def scratch(tiles: Tiles, space: Workspace) -> Scratch:
    """Take it from a workspace."""
    slots = space.take("tile slots", 1 << SLOT_BITS, np.int64)
    slots[:] = EMPTY
    return Scratch(
        features=space.zeros("features", ROWS * WIDTH, np.float32),
        simplices=space.take("simplices", WIDTH, np.int64),
        weights=space.take("tile weights", (tiles.size + WIDTH) * EIGHT.width, np.float32),
        members=space.take("members", tiles.size, np.int32),
        slots=slots,
        owners=space.take("owners", 1 << SLOT_BITS, np.int32),
        used=space.take("used", tiles.size, np.int64),
        sizes=space.take("sizes", tiles.size, np.int64),
        corners=space.take("tile corners", tiles.size * CORNERS, np.int32),
        order=space.take("order", tiles.size, np.int64),
        by_rank=space.take("by rank", CORNERS, np.int64),
    )


@compiled()
def number_corners(row: Scratch, local: int, strides: NDArray[np.int64], table: Table, count: int) -> int:
    """Number the six vertices of each of the tile's simplices; returns how many vertices there are now."""
    simplices, used, corners, by_rank = row.slots, row.used, row.corners, row.by_rank
    slots, keys = table.slots, table.keys
    step = np.int64(0)
    for i in range(D):
        step += strides[i]
    for g in range(local):
        simplex = peek(simplices, peek(used, g))
        for i in range(CORNERS):
            poke(by_rank, i, 0)
        for i in range(D):
            poke(by_rank, (simplex >> (3 * i)) & 7, CORNERS * strides[i])
        key = simplex >> ORDER_BITS
        for r in range(CORNERS):
            if r > 0:  # each vertex adds one to all coordinates, and takes six from the one that is next in rank
                key += step - peek(by_rank, CORNERS - r)
            slot = find(slots, keys, key)
            v = peek(slots, slot)
            if v == 0:
                count += 1
                v = np.int32(count)
                poke(slots, slot, v)
                poke(keys, count, key)
            poke(corners, g * CORNERS + r, v)
    return count


@compiled()
def join_row(row: Scratch, wide: int, pixel: int, local: int) -> int:
    """Add a row of pixels to the tile's groups; returns the number of groups."""
    simplices, slots, owners, used = row.simplices, row.slots, row.owners, row.used
    sizes, members = row.sizes, row.members
    last = (1 << SLOT_BITS) - 1
    for x in range(wide):
        simplex = peek(simplices, x)
        slot = np.int64((np.uint64(simplex) * GOLDEN) >> np.uint64(64 - SLOT_BITS))
        while True:
            found = peek(slots, slot)
            if found == simplex:
                break
            if found == EMPTY:
                poke(slots, slot, simplex)
                poke(owners, slot, np.int32(local))
                poke(used, local, slot)
                poke(sizes, local, 0)
                local += 1
                break
            slot = (slot + 1) & last
        group = peek(owners, slot)
        poke(members, pixel + x, group)
        poke(sizes, np.int64(group), peek(sizes, np.int64(group)) + 1)
    return local


@compiled()
def sort_groups(row: Scratch, local: int, groups: Groups, group: int, record: int) -> int:
    """Append the tile's groups by size, and give each its records; returns the number of records."""
    slots, used, sizes, order, corners = row.slots, row.used, row.sizes, row.order, row.corners
    starts, sorted_corners = groups.starts, groups.corners
    histogram = np.zeros(LARGEST_SIZE + 2, np.int64)
    for g in range(local):
        poke(slots, peek(used, g), EMPTY)
        histogram[min(peek(sizes, g), LARGEST_SIZE) + 1] += 1
    for n in range(LARGEST_SIZE + 1):
        histogram[n + 1] += histogram[n]
    for g in range(local):
        n = min(peek(sizes, g), LARGEST_SIZE)
        poke(order, peek(histogram, n), g)
        poke(histogram, n, peek(histogram, n) + 1)
    for k in range(local):
        g = peek(order, k)
        poke(starts, group + k, record)
        for r in range(CORNERS):
            poke(sorted_corners, (group + k) * CORNERS + r, peek(corners, g * CORNERS + r))
        size = peek(sizes, g)
        poke(sizes, g, record)  # from here on: where the group's next pixel goes
        record += size
    return record


@compiled()
def place_pixels(row: Scratch, tiles: Tiles, wide: int, high: int, groups: Groups) -> None:
    """Copy each pixel of the tile into its record."""
    members, sizes, weights = row.members, row.sizes, row.weights
    sorted_weights, places = groups.weights, groups.places
    stride = tiles.period * tiles.run
    pixel = 0
    for y in range(high):
        place = y % tiles.period * tiles.run + y // tiles.period
        for x in range(wide):
            group = np.int64(peek(members, pixel))
            record = peek(sizes, group)
            poke(sizes, group, record + 1)
            store(sorted_weights, record * CORNERS, load(weights, pixel * EIGHT.width, FOUR))
            store(sorted_weights, record * CORNERS + FOUR.width, load(weights, pixel * EIGHT.width + FOUR.width, TWO))
            poke(places, record, np.int32(place + x * stride))
            pixel += 1


@compiled()
def build(
    image: NDArray[np.uint8],
    tiles: Tiles,
    member: Member,
    quotients: Places,
    strides: NDArray[np.int64],
    table: Table,
    row: Scratch,
    groups: Groups,
) -> tuple[Table, int]:
    """Do `group`'s work; returns the table, perhaps grown, and the number of vertices."""
    tall = tiles.period * tiles.run
    vertices, group, record, number = 0, 0, 0, len(groups.first) - 1
    table.slots[:] = 0
    for done, tile in enumerate(range(member.number, tiles.number, member.team)):
        groups.first[done] = group
        left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tall
        wide, high = min(WIDTH, tiles.width - left), min(tall, tiles.height - top)
        local = 0
        for y in range(high):
            read_row(image, top + y, left, wide, quotients, row.features)
            embed(row.features)
            put_weights(row.features, row.weights, y * wide)
            name_simplices(row.features, strides, row.simplices)
            local = join_row(row, wide, y * wide, local)
        table = with_room(table, vertices, local * CORNERS)
        vertices = number_corners(row, local, strides, table, vertices)
        record = sort_groups(row, local, groups, group, record)
        group += local
        place_pixels(row, tiles, wide, high, groups)
    groups.first[number] = group
    groups.starts[group] = record
    return table, vertices


@compiled()
def normalise(groups: Groups, begin: int, end: int, mass: NDArray[np.float32], compat: np.float32) -> None:
    """Multiply the weights of each record by sqrt(alpha compat / (alpha mass)); mass, by pixel, is overwritten."""
    weights, places, factors = groups.weights, groups.places, mass
    for p in range(len(mass)):
        factors[p] = np.sqrt(ALPHA * compat / (ALPHA * mass[p] + np.float32(1e-20)))
    for i in range(groups.starts[begin], groups.starts[end]):
        factor, w = peek(factors, np.int64(peek(places, i))), i * CORNERS
        store(weights, w, load(weights, w, FOUR) * factor)
        store(weights, w + FOUR.width, load(weights, w + FOUR.width, TWO) * factor)
