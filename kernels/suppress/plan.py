"""How suppression's planes are divided among a GPU's programs: tile sizes for both memory formats."""

from dataclasses import dataclass
from math import ceil

ON_CHIP_ELEMENTS = 32768
"""Elements of one tensor that a program of 32 warps holds in registers: 32 a thread."""
WALK_ELEMENTS = 8192
"""Elements of a tile where a program walks: 16 bytes a thread and load, several loads in flight."""
LINE_BYTES = 128
SECTOR_BYTES = 32


@dataclass(frozen=True)
class Tiles:
    """Tiles of (planes, pixels), both powers of two; `whole`: one tile holds whole planes; `warps` a program."""

    planes: int
    pixels: int
    whole: bool
    warps: int


@dataclass(frozen=True)
class Plan:
    """`once`: tiles of the kernels that see whole planes, or None where too few programs would run; `walk`, `splits`:
    tiles of the kernels that take one walk, and into how many ranges the pixels are divided."""

    once: Tiles | None
    walk: Tiles
    splits: int


def plan(
    shape: tuple[int, int, int], channels_last: bool, element_bytes: int, tensors: int, multiprocessors: int
) -> Plan:
    """Divide (B images, K channels, P pixels) when `tensors` inputs of `element_bytes` are held at once."""
    images, channels, pixels = shape
    budget = ON_CHIP_ELEMENTS // tensors
    walk = _walking(channels, pixels, channels_last, element_bytes)
    programs = images * ceil(channels / walk.planes)
    splits = max(1, min(ceil(4 * multiprocessors / programs), ceil(pixels / walk.pixels), 64))
    once = _whole(channels, pixels, channels_last, element_bytes, budget)
    if once is None and programs >= multiprocessors:
        once = Tiles(walk.planes, walk.pixels, False, 16)
    return Plan(once, walk, splits)


def _whole(channels: int, pixels: int, channels_last: bool, element_bytes: int, budget: int) -> Tiles | None:
    """Tiles that hold whole planes, or None where no tile with coalesced loads does."""
    padded = _power(pixels)
    if channels_last:
        least = min(_power(channels), max(1, SECTOR_BYTES // element_bytes))
        most = min(_power(channels), LINE_BYTES // element_bytes)
        planes = min(most, budget // padded)
    else:
        least = 1
        planes = min(_power(channels), max(1, 2048 // padded), budget // padded)
    return Tiles(planes, padded, True, _warps(planes * padded)) if planes >= least else None


def _walking(channels: int, pixels: int, channels_last: bool, element_bytes: int) -> Tiles:
    if channels_last:
        planes = min(_power(channels), LINE_BYTES // element_bytes)
    else:
        planes = min(_power(channels), max(1, 2048 // _power(pixels)))
    tile = min(_power(pixels), max(16, WALK_ELEMENTS // planes))
    return Tiles(planes, tile, False, _warps(planes * tile))


def _power(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def _warps(elements: int) -> int:
    """Warps for 32 elements a thread, 1 … 32."""
    return max(1, min(32, elements // (32 * 32)))
