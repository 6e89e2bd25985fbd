"""Dense CRF on maps: one mask an image for each exponent of the background score (OC-CSE eq. 6)."""

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from camshaft.engine.errors import RecipeError
from camshaft.engine.recipe.settings import Settings, runtime_field
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stages import seeds
from camshaft.engine.stages.map_stores import open_maps
from camshaft.engine.stages.per_image import Labelled, fill_mask_folders, open_masks
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext
from camshaft.engine.stores import MapStore
from camshaft.kernels.crf import crf_many
from camshaft.kernels.crf.peer import missing


class CrfParameters(Settings):
    """Parameters of the mean field; the defaults are pydensecrf's usual ones, as psa and OC-CSE use them."""

    iterations: int = Field(10, ge=1)
    """Mean-field steps."""
    gaussian_sxy: float = Field(3.0, gt=0)
    """Standard deviation of the smoothness kernel, pixels."""
    gaussian_compat: float = Field(3.0, ge=0)
    """Weight of the smoothness kernel."""
    bilateral_sxy: float = Field(80.0, gt=0)
    """Standard deviation of the appearance kernel in space, pixels."""
    bilateral_srgb: float = Field(13.0, gt=0)
    """Standard deviation of the appearance kernel in colour, of 255."""
    bilateral_compat: float = Field(10.0, ge=0)
    """Weight of the appearance kernel."""
    implementation: Literal["auto", "numba", "pydensecrf", "torch", "reference"] = runtime_field("auto")
    """Which twin computes it. torch does images of one size and number of labels together, on a GPU if there is one;
    auto is numba everywhere, until torch has been measured on a GPU."""

    def check(self) -> None:
        """See that the implementation that was asked for is there.

        Raises:
            RecipeError: it is not.
        """
        if self.implementation == "pydensecrf" and (reason := missing()) is not None:
            raise RecipeError(f"implementation: pydensecrf was asked for but {reason}")


class Crf(Stage):
    """Dense CRF on maps."""

    kind: Literal["crf"]
    maps: Annotated[str, Input(Product.MAPS)]
    """The maps to refine."""
    splits: Splits = ("train",)
    """The splits to work on."""
    alphas: tuple[Annotated[float, Field(gt=0)], ...] = Field((4.0, 32.0), min_length=1)
    """Exponents of the background score (1 − max)^α; all of an image's share one lattice."""
    parameters: CrfParameters = CrfParameters()
    """Parameters of the mean field."""

    produces: ClassVar[Product] = Product.CRF

    @model_validator(mode="after")
    def _alphas_differ(self) -> "Crf":
        if len({alpha_folder(alpha) for alpha in self.alphas}) < len(self.alphas):
            raise ValueError("alphas: two of them are the same in six digits")
        return self

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """Look for the implementation that was asked for."""
        del classes, base, ranks
        self.parameters.check()

    def needed_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def run(self, context: StageContext) -> Figures:
        """Refine every image's maps at every α."""
        figures: Figures = {}
        for split in self.splits:
            store = open_maps(context, self.maps, split)
            paths = [context.folder / split / alpha_folder(alpha) for alpha in self.alphas]
            work = functools.partial(self._refine, context, store)
            figures[split] = {"images": fill_mask_folders(context, f"{self.id} {split}", split, paths, work)}
        return figures

    def _refine(self, context: StageContext, store: MapStore, ids: Sequence[str]) -> Labelled:
        """Images with tags go through the CRF, many at a time; the others are background."""
        index = {image_id: store.index(image_id) for image_id in ids}
        tagged = [image_id for image_id in ids if len(store.layout.classes_of(index[image_id]))]
        for image_id in sorted(set(ids) - set(tagged)):
            yield image_id, [np.zeros(store.read(index[image_id]).image_size, np.uint8)] * len(self.alphas)

        def problems() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for image_id in tagged:
                maps, _ = seeds.of_image(store, image_id)
                unaries = [seeds.with_background(seeds.background_score(maps, alpha), maps) for alpha in self.alphas]
                yield context.data.image(image_id), np.stack(unaries)

        marginals = crf_many(problems(), threads=context.threads, **self.parameters.model_dump())
        for image_id, q in zip(tagged, marginals, strict=True):
            classes = store.layout.classes_of(index[image_id])
            yield image_id, [seeds.to_labels(of_alpha, classes) for of_alpha in q]


def alpha_folder(alpha: float) -> str:
    """The name of the mask folder of one α."""
    return f"alpha-{alpha:g}"


def confident_masks(context: StageContext, stage_id: str, split: str) -> Callable[[str], np.ndarray]:
    """From an id to the labels, uint8 (H, W), that a CRF stage's masks are sure of: the smallest α decides on classes,
    the largest on background, 255 is in between. Masks of one α are taken as they are.

    Raises:
        StoreError: as `open_masks` says.
    """
    crf = context.inputs[stage_id]
    alphas = sorted(crf.record["settings"]["alphas"])
    low, high = (open_masks(context, crf.folder / split / alpha_folder(a), split) for a in (alphas[0], alphas[-1]))

    def of(image_id: str) -> np.ndarray:
        if len(alphas) == 1:
            return low.read(image_id)
        return seeds.confident_labels(low.read(image_id), high.read(image_id))

    return of
