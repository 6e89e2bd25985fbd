"""The random walk of AffinityNet: maps spread over pixels that belong together (Ahn and Kwak, CVPR 2018, Section 3.3).

The result is a map store like any other. Where the background walks along, with the score S_0, a class's map is
S_k / (S_0 + max_j S_j): the strongest class passes 0.5 where it is ahead of the background, and classes keep the ratio
of their scores. So a threshold of 0.5 gives the label of the largest score, as the public code does, and a CRF at α 1
takes S_0 / (S_0 + max_j S_j) for the background.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from pydantic import Field
from torch import Tensor

from camshaft.engine.errors import StoreError
from camshaft.engine.models import AffinityNet
from camshaft.engine.recipe.settings import runtime_field
from camshaft.engine.runtime.precision import autocast
from camshaft.engine.stages import seeds
from camshaft.engine.stages.affinity import Affinity
from camshaft.engine.stages.inference import load
from camshaft.engine.stages.map_stores import fill_map_store, grid_sizes, open_maps
from camshaft.engine.stages.maps import MapInference
from camshaft.engine.stages.networks import open_network
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext
from camshaft.engine.stores import Encoding, MapStore, plan
from camshaft.kernels.alike import batches_alike
from camshaft.kernels.choice import choose
from camshaft.kernels.team import in_order
from camshaft.kernels.walk import affinities, tensors, walk


class Walk(Stage):
    """The random walk on an affinity network's affinities. Defaults are AffinityNet's; SEAM has alpha 6 and steps 64,
    IRN alpha null, beta 10, border none and a network of stride 4."""

    kind: Literal["walk"]
    network: Annotated[str, Input(Product.AFFINITY)]
    """The affinity network."""
    maps: Annotated[str, Input(Product.MAPS)]
    """The maps that walk, on a grid of the network's stride."""
    splits: Splits = ("train",)
    """The splits to work on."""
    alpha: float | None = Field(16.0, gt=0)
    """Exponent of the background's score (1 − max)^α, which walks with the classes; the maps that come out are shares,
    for a threshold of 0.5 or a CRF at α 1. null: classes walk alone, and are divided by their common maximum, as in
    IRN, for a threshold such as its 0.25."""
    beta: float = Field(8.0, ge=0)
    """Exponent of the affinities: a larger one keeps to closer bonds."""
    steps: int = Field(256, ge=0)
    """Steps of the walk."""
    radius: int = Field(5, ge=2, le=16)
    """Pixels that a step joins are closer than this, in cells of the grid."""
    border: Literal["psa", "none"] = "psa"
    """psa: no pair begins within radius - 1 of the left, right and lower border, as in AffinityNet's public code."""
    tolerance: float | None = Field(1e-4, gt=0)
    """Largest error of the polynomial that stands for the steps; null: every step is made."""
    encoding: Encoding = "uint10"
    """How values are stored."""
    implementation: Literal["auto", "numba", "torch", "reference"] = runtime_field("auto")
    """Which twin walks: auto is torch on a GPU, else numba."""
    batch_size: int = runtime_field(8, ge=1)
    """Images of one size that the network sees together, and that walk together on a GPU."""

    produces: ClassVar[Product] = Product.MAPS

    def needed_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def misfits(self, inputs: Mapping[str, Stage]) -> Iterator[str]:
        """Maps must lie as the network's affinities do."""
        network, maps = inputs.get(self.network), inputs.get(self.maps)
        if not (isinstance(network, Affinity) and isinstance(maps, MapInference)):
            return
        if maps.grid_stride != network.stride:
            yield (
                f"maps: {maps.id!r} has maps of {maps.grid_stride} pixels a cell, but {network.id!r} affinities of "
                f"{network.stride}: make stages.{maps.id}.grid_stride or stages.{network.id}.stride the other"
            )
        if maps.align_corners != network.align_corners:
            yield (
                f"maps: align_corners is {str(maps.align_corners).lower()} in {maps.id!r} but not in {network.id!r}, "
                "whose affinities would lie elsewhere: make them the same"
            )

    def run(self, context: StageContext) -> Figures:
        """Walk the blocks that are missing, then complete each split's store."""
        network = open_network(context, self.network, AffinityNet)
        return {split: self._split(context, split, network) for split in self.splits}

    def _split(self, context: StageContext, split: str, network: AffinityNet) -> Figures:
        store = maps_on_grid(context, self.maps, split, network)
        columns = store.layout.images
        layout = plan(
            store.ids,
            [store.layout.classes_of(index).tolist() for index in range(len(store))],
            columns[:, 2:4],
            columns[:, 4:6],
            classes=store.classes,
            encoding=self.encoding,
        )
        walking = _Walking(self, context, network, store)
        provenance = {"align_corners": store.provenance["align_corners"]}
        return fill_map_store(context, split, layout, provenance, walking.maps)


class _Walking:
    """The way from stored maps and images to maps that have walked."""

    def __init__(self, stage: Walk, context: StageContext, network: AffinityNet, store: MapStore) -> None:
        self.stage, self.context, self.network, self.store = stage, context, network, store
        self.on_tensors = stage.implementation == "torch" or (
            stage.implementation == "auto" and context.device.type == "cuda"
        )
        if self.on_tensors:  # the other twins take arrays, and choose among themselves
            choose("walk", stage.implementation, {"torch": None})
        # The tolerance of steps that are all made is not looked at.
        method, tolerance = ("steps", 1.0) if stage.tolerance is None else ("chebyshev", stage.tolerance)
        self.how: dict[str, Any] = {"radius": stage.radius, "beta": stage.beta, "steps": stage.steps}
        self.how |= {"method": method, "tolerance": tolerance}

    def maps(self, images: range) -> list[np.ndarray]:
        """The maps of consecutive images: float32 (K, h, w) each."""
        stored = [self.store.read(index) for index in images]
        found = [maps.values for maps in stored]
        tagged = [position for position, values in enumerate(found) if len(values)]
        sizes = [stored[position].image_size for position in tagged]
        groups = [[tagged[member] for member in group] for group in batches_alike(sizes, self.stage.batch_size)]

        def problems() -> Iterator[tuple[Tensor, list[np.ndarray]]]:
            for group in groups:
                planes = [self._with_background(found[position]) for position in group]
                yield self._embeddings([images[position] for position in group]), planes

        walked = self._walked_on_tensors(problems()) if self.on_tensors else self._walked(problems())
        for position, scores in zip(itertools.chain(*groups), walked, strict=True):
            found[position] = self._shares(scores.clip(0))
        return found

    def _with_background(self, maps: np.ndarray) -> np.ndarray:
        """What walks: float32 (P, h, w)."""
        if self.stage.alpha is None:
            return maps
        return seeds.with_background(seeds.background_score(maps, self.stage.alpha), maps)

    def _shares(self, scores: np.ndarray) -> np.ndarray:
        """The maps of classes that the scores after the walk make."""
        if self.stage.alpha is None:
            return divided(scores, scores.max())
        return divided(scores[1:], scores[0] + scores[1:].max(0))

    def _embeddings(self, indices: Sequence[int]) -> Tensor:
        """Embeddings of images of one size: float32 (B, D, h, w) on the grid of their maps."""
        ids = [self.store.ids[index] for index in indices]
        images = load(self.context.data, ids, self.network.normalization, self.context.device)
        if self.store.provenance["align_corners"]:
            _, height, width = self.store.layout.shape(indices[0])
            size = [(cells - 1) * self.network.stride + 1 for cells in (height, width)]
            if list(images.shape[2:]) != size:
                images = F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
        with torch.inference_mode(), autocast(self.context.arithmetic, images.device):
            embeddings: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return embeddings.float()

    def _walked(self, problems: Iterable[tuple[Tensor, list[np.ndarray]]]) -> Iterator[np.ndarray]:
        """The planes of each image after the walk, float32 (P, h, w), an image a thread."""
        stage = self.stage

        def alone(item: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            features, planes = item
            links = affinities(features, stage.radius, stage.border, implementation=stage.implementation)
            walked: np.ndarray = walk(links, planes, implementation=stage.implementation, **self.how)
            return walked

        items = (
            (np.ascontiguousarray(embedding.cpu()), planes)
            for embeddings, of_group in problems
            for embedding, planes in zip(embeddings, of_group, strict=True)
        )
        return in_order(alone, items, self.context.threads)

    def _walked_on_tensors(self, problems: Iterable[tuple[Tensor, list[np.ndarray]]]) -> Iterator[np.ndarray]:
        """The same, for images of one size together; those with fewer planes than others get empty ones."""
        for embeddings, of_group in problems:
            most = max(map(len, of_group))
            planes = np.zeros((len(of_group), most, *of_group[0].shape[1:]), np.float32)
            for own, given in zip(planes, of_group, strict=True):
                own[: len(given)] = given
            with torch.inference_mode():
                links = tensors.affinities(embeddings, self.stage.radius, self.stage.border)
                walked = tensors.walk(links, torch.from_numpy(planes).to(embeddings.device), **self.how).cpu().numpy()
            for own, given in zip(walked, of_group, strict=True):
                yield own[: len(given)]


def divided(scores: np.ndarray, by: np.ndarray) -> np.ndarray:
    """`scores` over `by`, 0 where that is 0: float32, at most 1."""
    quotient = np.divide(scores, by, out=np.zeros_like(scores), where=np.broadcast_to(by > 0, scores.shape))
    return np.asarray(np.minimum(quotient, 1), np.float32)


def maps_on_grid(context: StageContext, stage_id: str, split: str, network: AffinityNet) -> MapStore:
    """The maps that another stage made of a split, which must lie on the network's grid.

    Raises:
        StoreError: as `open_maps` says, or they lie on another grid.
    """
    store = open_maps(context, stage_id, split)
    stored = store.layout.images[:, 2:4]
    wanted = grid_sizes(context.sizes(split), network.stride, bool(store.provenance["align_corners"]))
    wrong = np.flatnonzero((stored != wanted).any(1))
    if len(wrong):
        (height, width), (high, wide) = stored[wrong[0]].tolist(), wanted[wrong[0]].tolist()
        raise StoreError(
            f"{store.path}: {store.ids[wrong[0]]!r} has maps of a grid of {height}×{width}, but {high}×{wide} is "
            f"needed (stride {network.stride})"
        )
    return store
