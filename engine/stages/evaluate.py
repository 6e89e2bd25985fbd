"""Evaluation by mean intersection over union: the only stage that looks at ground-truth masks."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from camshaft.engine.data import VOID, DataSet
from camshaft.engine.errors import DataError
from camshaft.engine.recipe.settings import Settings
from camshaft.engine.stages import seeds
from camshaft.engine.stages.crf import alpha_folder
from camshaft.engine.stages.map_stores import open_maps
from camshaft.engine.stages.per_image import open_masks
from camshaft.engine.stages.shared import blocks_of, taking
from camshaft.engine.stages.splits import Split
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext, StageOutput
from camshaft.engine.stores import MapStore, MaskFolder
from camshaft.kernels.confusion import confusion, mean_iou, sweep


class Sweep(Settings):
    """Background thresholds at which maps are evaluated, for the report; no choice is made by them."""

    start: float = Field(0.05, gt=0, lt=1)
    """The first threshold."""
    stop: float = Field(0.6, gt=0, lt=1)
    """The last threshold, at most."""
    step: float = Field(0.01, gt=0, lt=1)
    """The distance between two."""

    @model_validator(mode="after")
    def _rises(self) -> "Sweep":
        if self.stop < self.start:
            raise ValueError(f"start {self.start} lies above stop {self.stop}")
        return self

    def thresholds(self) -> list[float]:
        """All thresholds, rounded to six digits."""
        count = int((self.stop - self.start) / self.step + 1.000001)
        return [round(self.start + position * self.step, 6) for position in range(count)]


class Evaluate(Stage):
    """Mean intersection over union of maps, CRF masks, pseudo labels and predictions, by ground truth."""

    kind: Literal["evaluate"]
    of: Annotated[tuple[str, ...], Input(Product.MAPS, Product.CRF, Product.MASKS)] = Field(min_length=1)
    """The stages whose results are evaluated, in the order of the table."""
    split: Split = "val"
    """The images on which they are."""
    threshold: float = Field(0.25, gt=0, lt=1)
    """The background's score against maps: fixed, not chosen on ground truth."""
    sweep: Sweep | None = Sweep()
    """Other thresholds to report for maps; null for none."""

    without_masks: Literal["fail", "skip"] = "fail"
    """What happens where the split has no ground truth: the run stops before it begins, or nothing is evaluated."""

    produces: ClassVar[Product] = Product.FIGURES

    def needed_splits(self) -> tuple[str, ...]:
        """The split that is evaluated."""
        return (self.split,)

    def mask_splits(self) -> tuple[str, ...]:
        """The split that is evaluated."""
        return (self.split,)

    def requires_masks(self) -> bool:
        """As the recipe says."""
        return self.without_masks == "fail"

    def run(self, context: StageContext) -> Figures:
        """Evaluate every result."""
        if not context.data.has_masks(self.split):
            context.note(f"nothing was evaluated: {context.data.name} has no masks for {self.split}")
            return {"split": self.split, "rows": []}
        rows = [row for stage_id in self.of for row in self._rows(context, context.inputs[stage_id])]
        return {"split": self.split, "rows": rows}

    def _rows(self, context: StageContext, output: StageOutput) -> Iterator[Figures]:
        folder = output.folder / self.split
        if output.product == Product.MAPS:
            yield self._maps_row(context, output, open_maps(context, output.id, self.split))
        elif output.product == Product.CRF:
            for alpha in output.record["settings"]["alphas"]:
                masks = open_masks(context, folder / alpha_folder(alpha), self.split)
                row = self._masks_row(context, output, f"{output.id} α={alpha:g}", masks)
                yield {**row, "alpha": alpha}
        else:
            yield self._masks_row(context, output, output.id, open_masks(context, folder, self.split))

    def _masks_row(self, context: StageContext, output: StageOutput, name: str, masks: MaskFolder) -> Figures:
        classes = len(context.data.classes) + 1

        def count(image_id: str) -> np.ndarray:
            truth, prediction = truth_of(context.data, image_id), masks.read(image_id)
            labelled = prediction != VOID
            matrix = confusion(np.where(labelled, prediction, 0), np.where(labelled, truth, VOID), classes)
            judged = truth != VOID
            return np.append(matrix.ravel(), [(labelled & judged).sum(), judged.sum()])

        total = self._sum(context, name, (classes * classes + 2,), count)
        row = self._row(context, output, name, total[:-2].reshape(classes, classes))
        return {**row, "coverage": float(total[-2] / max(1, total[-1]))}

    def _maps_row(self, context: StageContext, output: StageOutput, store: MapStore) -> Figures:
        classes = len(context.data.classes) + 1
        thresholds = [self.threshold, *(self.sweep.thresholds() if self.sweep else [])]

        def count(image_id: str) -> np.ndarray:
            maps, present = seeds.of_image(store, image_id)
            return sweep(maps, present + 1, truth_of(context.data, image_id), thresholds, classes)

        matrices = self._sum(context, output.id, (len(thresholds), classes, classes), count)
        row = {**self._row(context, output, output.id, matrices[0]), "threshold": self.threshold}
        if self.sweep is None:
            return row
        values = [mean_iou(matrix)[0] for matrix in matrices[1:]]
        best = int(np.argmax(np.nan_to_num(values, nan=-1.0)))
        found = {"best_threshold": thresholds[1 + best], "best_miou": values[best]}
        return {**row, "sweep": {"thresholds": thresholds[1:], "miou": values, **found}}

    def _row(self, context: StageContext, output: StageOutput, name: str, matrix: np.ndarray) -> Figures:
        miou, per_class = mean_iou(matrix)
        return {
            "of": output.id,
            "name": name,
            "product": str(output.product),
            "alpha": None,
            "miou": miou,
            "iou": dict(zip(("background", *context.data.classes), per_class.tolist(), strict=True)),
            "coverage": 1.0,
            "threshold": None,
            "images": len(context.ids(self.split)),
            "sweep": None,
        }

    def _sum(
        self, context: StageContext, title: str, shape: tuple[int, ...], count: Callable[[str], np.ndarray]
    ) -> np.ndarray:
        """The sum of `count`, int64 of this shape, over all images of the split, on all ranks."""
        ids = context.ids(self.split)
        blocks = blocks_of(ids)
        total = np.zeros(shape, np.int64)
        with (
            taking(context, f"{self.id} {title}", [len(block) for block in blocks], total=len(ids)) as turns,
            ThreadPoolExecutor(context.threads, "evaluate") as pool,
        ):
            for turn in turns:
                for counted in pool.map(count, chain.from_iterable(blocks[turn.start : turn.stop])):
                    total += counted
                    turns.advance()
        return context.ranks.sum(total)


def truth_of(data: DataSet, image_id: str) -> np.ndarray:
    """The ground-truth mask of an image.

    Raises:
        DataError: it has none.
    """
    mask = data.mask(image_id)
    if mask is None:
        raise DataError(f"{data.name}: image {image_id!r} has no mask to evaluate against")
    return mask
