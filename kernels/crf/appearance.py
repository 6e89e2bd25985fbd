"""The appearance kernel's lattice: five dimensions, built tile by tile.

The pixels of a tile that share a simplex form a group, and are kept side by side: the group's six vertices are then
read, and written, once for all of them. Groups of one size follow one another, so that the loops over their pixels
are predicted. Embedding follows section 3.2 of Adams et al. (2010), a row of a tile at a time.

    groups in the order of tiles; pixels ("records") in the order of groups
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.compiled import compiled
from camshaft.kernels.crf import lattice
from camshaft.kernels.crf.lattice import GOLDEN
from camshaft.kernels.crf.tiles import WIDTH, Tiles
from camshaft.kernels.crf.workspace import Workspace
from camshaft.kernels.simd import peek, poke

D = 5
CORNERS = D + 1
SCALE = (np.sqrt(2 / 3) * CORNERS / np.sqrt([(i + 1) * (i + 2) for i in range(D)])).astype(np.float32)
ALPHA = np.float32(1 / (1 + 2.0**-D))  # the blur's gain
ORDER_BITS = 15  # of a simplex's key: the ranks of its first five coordinates, three bits each
SLOT_BITS = 13  # of a tile's own hash table: at least twice its pixels
LARGEST_SIZE = 24  # groups are sorted by size up to this
EMPTY = np.int64(-1)


Floats = NDArray[np.float32]


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


class Table(NamedTuple):
    """The vertices' numbers by key, open addressing.

    Attributes:
        slots: int32 (a power of two,): the number of the vertex, 0 where there is none.
        keys: int64 (vertices + 1,), by number.
    """

    slots: NDArray[np.int32]
    keys: NDArray[np.int64]


class Places(NamedTuple):
    """A pixel's features by its column, by its row, and by the value of a channel; divided by their deviations.

    The quotients are rounded as pydensecrf rounds them.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    colour: NDArray[np.float32]


class Scratch(NamedTuple):
    """What is known of the tile at work.

    Attributes:
        features: float32, flat (5, WIDTH), of one row.
        simplices: int64 (WIDTH,), the row's simplices: keys that tell them apart.
        weights: float32, flat (6, pixels of a tile): the pixels' barycentric weights.
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


def places(height: int, width: int, sxy: float, srgb: float) -> Places:
    """Divide the features by their standard deviations."""
    return Places(
        np.arange(width, dtype=np.float32) / np.float32(sxy),
        np.arange(height, dtype=np.float32) / np.float32(sxy),
        np.arange(256, dtype=np.float32) / np.float32(srgb),
    )


def group(
    image: NDArray[np.uint8],
    tiles: Tiles,
    begin: int,
    end: int,
    quotients: Places,
    strides: NDArray[np.int64],
    space: Workspace,
) -> tuple[Groups, Table, int]:
    """Group the pixels of tiles begin to end by simplex; returns also the table and the number of vertices."""
    pixels = (end - begin) * tiles.size
    groups = Groups(
        space.take("first", end - begin + 1, np.int64),
        space.take("starts", pixels + 1, np.int64),
        space.take("corners", pixels * CORNERS, np.int32),
        space.take("weights", pixels * CORNERS + 2, np.float32),  # the last record is read as eight numbers too
        space.take("places", pixels, np.int32),
    )
    size = 1 << max(12, int(np.log2(pixels)) - 2)
    table = Table(space.take("slots", size, np.int32), space.take("keys", size + 1, np.int64))
    row = scratch(tiles)
    table, vertices = build(image, tiles, begin, end, quotients, SCALE, strides, table, row, groups)
    return groups, table, vertices


def unite(grouped: list[tuple[Groups, Table, int]], strides: NDArray[np.int64], padded: bool) -> tuple[Table, int]:
    """Number the vertices of all in common; returns the table and how many there are.

    Args:
        grouped: results of `group`; the corners are renumbered in place.
        strides: of the keys.
        padded: add the vertices around the origin, at which pydensecrf fills its last block of four pixels.
    """
    _, table, count = grouped[0]
    for groups, others, vertices in grouped[1:]:
        table, count = merge(table, count, others.keys, vertices, groups.corners[: groups.first[-1] * CORNERS])
    if padded:
        keys = np.zeros((1, CORNERS), np.int64)
        lattice.embed(np.zeros((1, D), np.float32), keys, np.empty((1, CORNERS), np.float32), strides)
        table, count = merge(table, count, np.concatenate([[0], keys[0]]), CORNERS, np.empty(0, np.int32))
    return table, count


def scratch(tiles: Tiles) -> Scratch:
    """Allocate it."""
    return Scratch(
        features=np.zeros(D * WIDTH, np.float32),
        simplices=np.empty(WIDTH, np.int64),
        weights=np.empty(CORNERS * tiles.size + WIDTH, np.float32),
        members=np.empty(tiles.size, np.int32),
        slots=np.full(1 << SLOT_BITS, EMPTY),
        owners=np.empty(1 << SLOT_BITS, np.int32),
        used=np.empty(tiles.size, np.int64),
        sizes=np.empty(tiles.size, np.int64),
        corners=np.empty(tiles.size * CORNERS, np.int32),
        order=np.empty(tiles.size, np.int64),
        by_rank=np.empty(CORNERS, np.int64),
    )


@compiled()
def less(a: np.float32, b: np.float32) -> np.int32:
    """Return 1 if a < b, else 0."""
    return np.int32(a < b)


@compiled()
def beyond(rank: np.int32) -> np.int32:
    """Return what to add to a coordinate, in steps of 6, for its rank to come to lie in 0..5."""
    return np.int32(rank < 0) - np.int32(rank > D)


@compiled()
def exchange(a: np.float32, b: np.float32) -> tuple[np.float32, np.float32]:
    """Return the smaller and the larger."""
    return (a, b) if a < b else (b, a)


@compiled()
def embed(row: Scratch, pixel: int, scale: NDArray[np.float32], strides: NDArray[np.int64]) -> None:
    """Find the simplices and the weights of a row, whose first pixel is the tile's pixel-th (reference.embed).

    Its sums and products come in pydensecrf's order: on the edge between two simplices rounding decides.
    """
    features, simplices, weights, size = row.features, row.simplices, row.weights, len(row.members)
    six, sixth, one = np.float32(6), np.float32(1 / 6), np.float32(1)
    k0, k1, k2, k3, k4 = strides[0], strides[1], strides[2], strides[3], strides[4]
    for x in range(WIDTH):
        # elevate
        f0, f1 = peek(features, x) * scale[0], peek(features, WIDTH + x) * scale[1]
        f2, f3 = peek(features, 2 * WIDTH + x) * scale[2], peek(features, 3 * WIDTH + x) * scale[3]
        f4 = peek(features, 4 * WIDTH + x) * scale[4]
        sum3 = f4 + f3
        sum2 = sum3 + f2
        sum1 = sum2 + f1
        e0, e1, e2 = sum1 + f0, sum1 - f0, sum2 - np.float32(2) * f1
        e3, e4, e5 = sum3 - np.float32(3) * f2, f4 - np.float32(4) * f3, -np.float32(5) * f4
        # the nearest remainder-0 point, and the ranks of the differences from it
        n0, n1, n2 = np.rint(e0 * sixth), np.rint(e1 * sixth), np.rint(e2 * sixth)
        n3, n4, n5 = np.rint(e3 * sixth), np.rint(e4 * sixth), np.rint(e5 * sixth)
        d0, d1, d2, d3, d4, d5 = (
            e0 - n0 * six,
            e1 - n1 * six,
            e2 - n2 * six,
            e3 - n3 * six,
            e4 - n4 * six,
            e5 - n5 * six,
        )
        excess = np.int32(n0 + n1 + n2 + n3 + n4 + n5)
        b01, b02, b03, b04, b05 = less(d0, d1), less(d0, d2), less(d0, d3), less(d0, d4), less(d0, d5)
        b12, b13, b14, b15 = less(d1, d2), less(d1, d3), less(d1, d4), less(d1, d5)
        b23, b24, b25, b34, b35, b45 = (
            less(d2, d3),
            less(d2, d4),
            less(d2, d5),
            less(d3, d4),
            less(d3, d5),
            less(d4, d5),
        )
        r0 = excess + b01 + b02 + b03 + b04 + b05
        r1 = excess + np.int32(1) - b01 + b12 + b13 + b14 + b15
        r2 = excess + np.int32(2) - b02 - b12 + b23 + b24 + b25
        r3 = excess + np.int32(3) - b03 - b13 - b23 + b34 + b35
        r4 = excess + np.int32(4) - b04 - b14 - b24 - b34 + b45
        r5 = excess + np.int32(5) - b05 - b15 - b25 - b35 - b45
        s0, s1, s2, s3, s4, s5 = beyond(r0), beyond(r1), beyond(r2), beyond(r3), beyond(r4), beyond(r5)
        i0, i1, i2 = np.int32(n0) + s0, np.int32(n1) + s1, np.int32(n2) + s2
        i3, i4, i5 = np.int32(n3) + s3, np.int32(n4) + s4, np.int32(n5) + s5
        corner = np.int64(i0) * k0 + np.int64(i1) * k1 + np.int64(i2) * k2 + np.int64(i3) * k3 + np.int64(i4) * k4
        shape = (r0 + 6 * s0) + ((r1 + 6 * s1) << 3) + ((r2 + 6 * s2) << 6) + ((r3 + 6 * s3) << 9)
        shape += (r4 + 6 * s4) << 12
        poke(simplices, x, ((corner * CORNERS) << ORDER_BITS) + np.int64(shape))
        # barycentric weights are the gaps between the sorted differences: a sorting network
        t0, t5 = exchange((e0 - np.float32(i0) * six) * sixth, (e5 - np.float32(i5) * six) * sixth)
        t1, t3 = exchange((e1 - np.float32(i1) * six) * sixth, (e3 - np.float32(i3) * six) * sixth)
        t2, t4 = exchange((e2 - np.float32(i2) * six) * sixth, (e4 - np.float32(i4) * six) * sixth)
        t1, t2 = exchange(t1, t2)
        t3, t4 = exchange(t3, t4)
        t0, t3 = exchange(t0, t3)
        t2, t5 = exchange(t2, t5)
        t0, t1 = exchange(t0, t1)
        t2, t3 = exchange(t2, t3)
        t4, t5 = exchange(t4, t5)
        t1, t2 = exchange(t1, t2)
        t3, t4 = exchange(t3, t4)
        poke(weights, pixel + x, one + (t0 - t5))
        poke(weights, size + pixel + x, t1 - t0)
        poke(weights, 2 * size + pixel + x, t2 - t1)
        poke(weights, 3 * size + pixel + x, t3 - t2)
        poke(weights, 4 * size + pixel + x, t4 - t3)
        poke(weights, 5 * size + pixel + x, t5 - t4)


@compiled()
def find(slots: NDArray[np.int32], keys: NDArray[np.int64], key: np.int64) -> np.int64:
    """Return the slot that holds the vertex, or the empty slot where it belongs."""
    mask = len(slots) - 1
    slot = np.int64((np.uint64(key) * GOLDEN) >> np.uint64(32)) & mask
    while True:
        v = np.int64(peek(slots, slot))
        if v == 0 or peek(keys, v) == key:
            return slot
        slot = (slot + 1) & mask


@compiled()
def with_room(table: Table, count: int, more: int) -> Table:
    """Return a table that stays at most half full with `more` vertices: this one, or a larger one."""
    if 2 * (count + more) < len(table.slots):
        return table
    size = len(table.slots)
    while 2 * (count + more) >= size:
        size *= 2
    keys = np.empty(size + 1, np.int64)
    larger = Table(np.zeros(size, np.int32), keys)
    for v in range(1, count + 1):
        keys[v] = table.keys[v]
        larger.slots[find(larger.slots, larger.keys, keys[v])] = v
    return larger


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
def read_row(image: NDArray[np.uint8], y: int, left: int, wide: int, quotients: Places, features: Floats) -> None:
    """Set the features of a row of a tile."""
    pixels = image.reshape(-1)
    across, colour, down = quotients.x, quotients.colour, quotients.y[y]
    base = (y * image.shape[1] + left) * 3
    for x in range(wide):
        poke(features, x, peek(across, left + x))
        poke(features, WIDTH + x, down)
        poke(features, 2 * WIDTH + x, peek(colour, np.int64(peek(pixels, base + 3 * x))))
        poke(features, 3 * WIDTH + x, peek(colour, np.int64(peek(pixels, base + 3 * x + 1))))
        poke(features, 4 * WIDTH + x, peek(colour, np.int64(peek(pixels, base + 3 * x + 2))))


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
    size = len(members)
    stride = tiles.period * tiles.run
    pixel = 0
    for y in range(high):
        place = y % tiles.period * tiles.run + y // tiles.period
        for x in range(wide):
            group = np.int64(peek(members, pixel))
            record = peek(sizes, group)
            poke(sizes, group, record + 1)
            for r in range(CORNERS):
                poke(sorted_weights, record * CORNERS + r, peek(weights, r * size + pixel))
            poke(places, record, np.int32(place + x * stride))
            pixel += 1


@compiled()
def build(
    image: NDArray[np.uint8],
    tiles: Tiles,
    begin: int,
    end: int,
    quotients: Places,
    scale: NDArray[np.float32],
    strides: NDArray[np.int64],
    table: Table,
    row: Scratch,
    groups: Groups,
) -> tuple[Table, int]:
    """Group the pixels of tiles begin to end; returns the table, perhaps grown, and the number of vertices."""
    tall = tiles.period * tiles.run
    vertices, group, record = 0, 0, 0
    table.slots[:] = 0
    for tile in range(begin, end):
        groups.first[tile - begin] = group
        left, top = tile % tiles.columns * WIDTH, tile // tiles.columns * tall
        wide, high = min(WIDTH, tiles.width - left), min(tall, tiles.height - top)
        local = 0
        for y in range(high):
            read_row(image, top + y, left, wide, quotients, row.features)
            embed(row, y * wide, scale, strides)
            local = join_row(row, wide, y * wide, local)
        table = with_room(table, vertices, local * CORNERS)
        vertices = number_corners(row, local, strides, table, vertices)
        record = sort_groups(row, local, groups, group, record)
        group += local
        place_pixels(row, tiles, wide, high, groups)
    groups.first[end - begin] = group
    groups.starts[group] = record
    return table, vertices


@compiled()
def link(table: Table, count: int, strides: NDArray[np.int64], neighbours: NDArray[np.int32]) -> None:
    """Fill neighbours, int32 flat (6, vertices + 1, 2): every vertex's, along each axis; 0 for none."""
    slots, keys = table.slots, table.keys
    step = np.int64(0)
    for i in range(D):
        step += strides[i]
    neighbours[:] = 0
    for axis in range(CORNERS):
        first = axis * (count + 1) * 2
        delta = step - CORNERS * strides[axis] if axis < D else step
        for v in range(1, count + 1):
            other = peek(slots, find(slots, keys, peek(keys, v) + delta))
            if other != 0:
                poke(neighbours, first + 2 * v + 1, other)
                poke(neighbours, first + 2 * np.int64(other), np.int32(v))


@compiled()
def merge(
    table: Table, count: int, keys: NDArray[np.int64], others: int, corners: NDArray[np.int32]
) -> tuple[Table, int]:
    """Number another table's vertices here, and renumber the corners that name them."""
    table = with_room(table, count, others)
    renamed = np.empty(others + 1, np.int32)
    for v in range(1, others + 1):
        slot = find(table.slots, table.keys, keys[v])
        if table.slots[slot] == 0:
            count += 1
            table.slots[slot] = count
            table.keys[count] = keys[v]
        renamed[v] = table.slots[slot]
    for i in range(len(corners)):
        corners[i] = renamed[corners[i]]
    return table, count


@compiled()
def normalise(groups: Groups, begin: int, end: int, mass: NDArray[np.float32], compat: np.float32) -> None:
    """Multiply the weights of each record by sqrt(alpha compat / (alpha mass)); mass by pixel of the tile."""
    weights, places = groups.weights, groups.places
    for i in range(groups.starts[begin], groups.starts[end]):
        factor = np.sqrt(ALPHA * compat / (ALPHA * peek(mass, np.int64(peek(places, i))) + np.float32(1e-20)))
        for k in range(i * CORNERS, (i + 1) * CORNERS):
            poke(weights, k, peek(weights, k) * factor)
