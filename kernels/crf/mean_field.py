"""Mean-field inference of the dense CRF (Krähenbühl and Koltun 2011, algorithm 1): the fused twin, tile by tile.

Each thread has a share of the tiles, with its own groups of pixels, and splats onto lattices of its own; these are
summed before they are blurred.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels import simd
from camshaft.kernels.crf import appearance, lattice, passes, smoothness
from camshaft.kernels.crf.parameters import Parameters
from camshaft.kernels.crf.tiles import LARGEST_PERIOD, Tiles, cut
from camshaft.kernels.crf.workspace import Workspace, borrowed

Floats = NDArray[np.float32]
T = TypeVar("T")
ONE = simd.Lanes(1)


@dataclass(frozen=True)
class Share:
    """A thread's tiles, from begin to end, and its scratch arrays."""

    begin: int
    end: int
    space: Workspace


class Team:
    """The threads of one image, and their shares of its tiles."""

    def __init__(self, tiles: Tiles, spaces: list[Workspace], pool: ThreadPoolExecutor) -> None:
        """Share the tiles out evenly."""
        ends = [tiles.number * (t + 1) // len(spaces) for t in range(len(spaces))]
        self.shares = [Share(b, e, s) for b, e, s in zip([0, *ends[:-1]], ends, spaces, strict=True)]
        self._pool = pool

    def each(self, function: Callable[[Share], T]) -> list[T]:
        """Run a function on every share at once; the calling thread does the first."""
        others = [self._pool.submit(function, share) for share in self.shares[1:]]
        return [function(self.shares[0]), *(other.result() for other in others)]

    def total(self, name: str, size: int) -> Floats:
        """Add the shares' arrays of this name onto the first's, clear them, and return the first's."""
        first, *others = (share.space.take(name, size, np.float32) for share in self.shares)
        for other in others:
            first += other
            other[:] = 0
        return first


def unfit(height: int, width: int, parameters: Parameters) -> str | None:
    """Return why an image can't be done by this twin, or None."""
    if parameters.gaussian_sxy != int(parameters.gaussian_sxy) or parameters.gaussian_sxy > LARGEST_PERIOD:
        return f"gaussian_sxy {parameters.gaussian_sxy} is not a whole number up to {LARGEST_PERIOD}"
    try:
        key_strides(height, width, parameters)
    except ValueError:
        return "the bilateral standard deviations are too small for an image of this size"
    return None


def key_strides(height: int, width: int, parameters: Parameters) -> NDArray[np.int64]:
    """Return the strides of the keys of the appearance kernel's vertices."""
    place = np.array([width - 1, height - 1]) / parameters.bilateral_sxy
    colour = np.full(3, 255 / parameters.bilateral_srgb)
    return lattice.key_strides(np.concatenate([place, colour]), 62 - appearance.ORDER_BITS)


def mean_field(
    image: NDArray[np.uint8], unaries: NDArray[np.float32], parameters: Parameters, threads: int = 1
) -> NDArray[np.float32]:
    """Return Q, float32 (U, L, H, W), of one image (H, W, 3) and several unaries (U, L, H, W) on one lattice."""
    height, width = image.shape[:2]
    tiles = cut(height, width, int(parameters.gaussian_sxy))
    result = np.empty(unaries.shape, np.float32)
    threads = min(threads, tiles.number)
    with borrowed(threads) as spaces, ThreadPoolExecutor(threads, "crf") as pool:
        field = Field(tiles, np.ascontiguousarray(image), parameters, Team(tiles, spaces, pool))
        for probabilities, q in zip(unaries, result, strict=True):
            field.infer(np.ascontiguousarray(probabilities).reshape(-1), len(probabilities), q.reshape(-1))
    return result


class Field:
    """One image's two lattices, ready for inference."""

    def __init__(self, tiles: Tiles, image: NDArray[np.uint8], parameters: Parameters, team: Team) -> None:
        """Build the lattices."""
        self.tiles, self.parameters, self.team = tiles, parameters, team
        self.smoothness = smoothness.build(tiles, parameters.gaussian_sxy, parameters.gaussian_compat)
        strides = key_strides(tiles.height, tiles.width, parameters)
        places = appearance.places(tiles.height, tiles.width, parameters.bilateral_sxy, parameters.bilateral_srgb)
        grouped = team.each(
            lambda share: appearance.group(image, tiles, share.begin, share.end, places, strides, share.space)
        )
        self.groups = {share.begin: groups for share, (groups, _, _) in zip(team.shares, grouped, strict=True)}
        table, self.count = appearance.unite(grouped, strides, padded=tiles.height * tiles.width % 4 > 0)
        self.neighbours = team.shares[0].space.take("neighbours", 12 * (self.count + 1), np.int32)
        appearance.link(table, self.count, strides, self.neighbours)
        self._normalise()

    def _normalise(self) -> None:
        """Fold the norm 1 / sqrt(K 1) and the square root of the weight into the appearance kernel's weights."""
        tiles, size = self.tiles, self.count + 1
        compat = np.float32(self.parameters.bilateral_compat)

        def measure(share: Share) -> None:
            z = share.space.zeros("z", tiles.size, np.float32)
            ones = share.space.zeros("lattice", size, np.float32)
            passes.measure(tiles, self.groups[share.begin], share.begin, share.end, ones, z)

        self.team.each(measure)
        mass = self.team.total("lattice", size)
        spare = self.team.shares[0].space.zeros("other lattice", size, np.float32)
        passes.blur(ONE, 1, mass, spare, self.neighbours, self.count)

        def normalise(share: Share) -> None:
            z = share.space.take("z", tiles.size, np.float32)
            passes.normalise_groups(ONE, self.groups[share.begin], share.end - share.begin, mass, compat, z)

        self.team.each(normalise)

    def infer(self, probabilities: Floats, labels: int, q: Floats) -> None:
        """Fill q, flat (L, H, W), from the unary's probabilities, flat (L, H, W)."""
        tiles, team, smooth = self.tiles, self.team, self.smoothness
        lanes, blocks, flat = layout(labels)
        channels = lanes.width * blocks
        lattice_size, grid_size = (self.count + 1) * channels, smooth.columns * smooth.rows * channels
        space = team.shares[0].space
        unary = space.take("unary", tiles.number * tiles.size * channels, np.float32)
        blurred, grid = (
            space.zeros("other lattice", lattice_size, np.float32),
            space.take("grid", grid_size, np.float32),
        )
        folded = space.zeros("folded grid", grid_size, np.float32)
        grid[:] = 0
        clip, iterations = np.float32(self.parameters.clip), self.parameters.iterations

        def start(share: Share) -> None:
            passes.take_logs(lanes, blocks, flat, tiles, share.begin, share.end, probabilities, clip, unary)
            share.space.zeros("z", tiles.size * channels, np.float32)
            share.space.zeros("split grid", smoothness.SPLIT * grid_size, np.float32)

        def step(share: Share) -> None:
            sums = share.space.zeros("lattice", lattice_size, np.float32)
            split = share.space.take("split grid", smoothness.SPLIT * grid_size, np.float32)
            z = share.space.take("z", tiles.size * channels, np.float32)
            passes.step(
                lanes, blocks, flat, tiles, share.begin, share.end, self.groups[share.begin], smooth,
                unary, blurred, grid, sums, split, z, q, done == 0, done == iterations,
            )  # fmt: skip

        team.each(start)
        for done in range(iterations + 1):
            team.each(step)
            if done < iterations:
                sums, split = (
                    team.total("lattice", lattice_size),
                    team.total("split grid", smoothness.SPLIT * grid_size),
                )
                passes.blur(lanes, blocks, sums, blurred, self.neighbours, self.count)
                space.swap("lattice", "other lattice")
                blurred = sums
                smoothness.fold(flat, split, smooth.columns, smooth.rows, channels, folded)
                smoothness.blur(flat, folded, grid, smooth.columns, smooth.rows, smooth.absent, channels)


def layout(labels: int) -> tuple[simd.Lanes, int, simd.Lanes]:
    """Return lanes and blocks of a pixel's channels, and the lanes for what treats labels and pixels alike."""
    if labels == 2:
        return ONE, 1, simd.Lanes(16)
    if labels <= 4:
        return simd.Lanes(4), 1, simd.Lanes(16)
    return simd.Lanes(8), -(-labels // 8), simd.Lanes(8)
