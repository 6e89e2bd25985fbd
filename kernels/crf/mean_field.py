"""Mean-field inference of the dense CRF (Krähenbühl and Koltun 2011, algorithm 1): the fused twin, tile by tile.

Here the lattices are built and arrays provided; what the threads then do together is in together.py.
"""

import numpy as np
from numpy.typing import NDArray

from camshaft.kernels.barrier import Member
from camshaft.kernels.crf import embedding, groups, lattice, smoothness, together
from camshaft.kernels.crf.channels import Floats, layout
from camshaft.kernels.crf.embedding import CORNERS
from camshaft.kernels.crf.parameters import Parameters
from camshaft.kernels.crf.tiles import LARGEST_PERIOD, Tiles, cut
from camshaft.kernels.crf.together import Lattice
from camshaft.kernels.crf.workspace import CACHE_LINE, Workspace, borrowed
from camshaft.kernels.team import Team, team

LINE = CACHE_LINE // 4  # float32 in a cache line


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
    return lattice.key_strides(np.concatenate([place, colour]), 62 - embedding.ORDER_BITS)


def mean_field(
    image: NDArray[np.uint8], unaries: NDArray[np.float32], parameters: Parameters, threads: int = 1
) -> NDArray[np.float32]:
    """Return Q, float32 (U, L, H, W), of one image (H, W, 3) and several unaries (U, L, H, W) on one lattice."""
    height, width = image.shape[:2]
    tiles = cut(height, width, int(parameters.gaussian_sxy))
    result = np.empty(unaries.shape, np.float32)
    threads = min(threads, tiles.number)
    with borrowed(threads) as spaces, team(threads) as workers:
        field = Field(tiles, np.ascontiguousarray(image), parameters, workers, spaces)
        for probabilities, q in zip(unaries, result, strict=True):
            field.infer(np.ascontiguousarray(probabilities).reshape(-1), len(probabilities), q.reshape(-1))
    return result


class Field:
    """One image's two lattices, ready for inference."""

    def __init__(
        self, tiles: Tiles, image: NDArray[np.uint8], parameters: Parameters, team: Team, spaces: list[Workspace]
    ) -> None:
        """Build the lattices; every member of the team has a workspace."""
        self.tiles, self.parameters, self.team, self.spaces = tiles, parameters, team, spaces
        self.smoothness = smoothness.build(tiles, parameters.gaussian_sxy, parameters.gaussian_compat)
        strides = key_strides(tiles.height, tiles.width, parameters)
        quotients = embedding.places(tiles.height, tiles.width, parameters.bilateral_sxy, parameters.bilateral_srgb)
        space = spaces[0]
        self.groups = groups.room(tiles, team.size, space)
        tables = team.each(
            lambda member: groups.group(image, tiles, member, quotients, strides, spaces[member.number], self.groups)
        )
        padded = tiles.height * tiles.width % 4 > 0
        vertices, self.count, numbers = groups.unite(tables, strides, padded)
        self.neighbours = space.take("neighbours", 2 * CORNERS * (self.count + 1), np.int32)
        mass = self._lattice(1, 0)
        own = [s.take("z", tiles.size, np.float32) for s in spaces]
        compat = np.float32(parameters.bilateral_compat)

        def normalise(member: Member) -> np.float32:
            return together.normalise_weights(
                member, tiles, self.groups, numbers[member.number], vertices, self.count,
                strides, self.neighbours, mass, own[member.number], compat,
            )  # fmt: skip

        self.peak = float(max(team.each(normalise)))

    def _lattice(self, width: int, peak: float) -> Lattice:
        """Return the appearance kernel's, for so many channels."""
        size = (self.count + 1) * width
        return self._zeros("lattice", size + -size % LINE, 1, peak)

    def _zeros(self, name: str, size: int, split: int, peak: float) -> Lattice:
        """Return a lattice of this size, of which each member splats onto `split`.

        Several members splat in whole numbers, of which the largest sum, `peak`, takes 30 bits; if it is 0, in float32.
        """
        space, splat = self.spaces[0], self.team.size * split * size
        sums, spare = space.zeros(name, size, np.float32), space.zeros(f"{name}, spare", size, np.float32)
        if self.team.size == 1 or peak == 0:
            return Lattice(space.zeros(f"{name}, splat", splat, np.float32), np.float32(1), sums, spare)
        unit = np.float32(2 ** (np.ceil(np.log2(peak)) - 30))
        return Lattice(space.zeros(f"{name}, whole", splat, np.int32), unit, sums, spare)

    def infer(self, probabilities: Floats, labels: int, q: Floats) -> None:
        """Fill q, flat (L, H, W), from the unary's probabilities, flat (L, H, W)."""
        tiles, team, smooth, spaces = self.tiles, self.team, self.smoothness, self.spaces
        channels = layout(labels)
        width = channels.lanes.width * channels.blocks
        unary = spaces[0].take("unary", tiles.number * tiles.size * width, np.float32)
        lattice = self._lattice(width, self.peak)
        size = smooth.columns * smooth.rows * width
        grids = self._zeros("grid", size, smoothness.SPLIT, smooth.peak)
        own = [s.take("z", tiles.size * width, np.float32) for s in spaces]
        for z in own:
            z[:] = 0  # pixels outside the image keep this
        clip = np.float32(self.parameters.clip)

        def iterate(member: Member) -> None:
            together.iterate(
                channels, member, tiles, self.groups, smooth, self.neighbours, probabilities, clip,
                self.parameters.iterations, unary, lattice, grids, own[member.number], q,
            )  # fmt: skip

        team.each(iterate)
