"""Masks predicted by a segmentation network: no tags are used, as for images that nobody has labelled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from pydantic import Field

from camshaft.engine.models import Segmenter
from camshaft.engine.runtime.ranks import Ranks
from camshaft.engine.stages.crf import CrfParameters
from camshaft.engine.stages.inference import Passes, Scale, batches_of_one_size, load, outputs
from camshaft.engine.stages.networks import open_network
from camshaft.engine.stages.per_image import Labelled, fill_mask_folders
from camshaft.engine.stages.splits import Splits
from camshaft.engine.stages.stage import Figures, Input, Product, Stage, StageContext
from camshaft.kernels.crf import crf


class Predict(Stage, Passes):
    """Multi-scale, flipped prediction, with a dense CRF where asked for."""

    kind: Literal["predict"]
    network: Annotated[str, Input(Product.SEGMENTER)]
    """The network that predicts."""
    splits: Splits = ("val",)
    """The splits to predict."""
    scales: tuple[Scale, ...] = Field((1.0,), min_length=1)
    """Sizes of the image, relative to its own; probabilities are averaged."""
    crf: CrfParameters | None = None
    """Parameters of a CRF on the probabilities; null for none."""

    produces: ClassVar[Product] = Product.MASKS

    def check(self, classes: Sequence[str], base: Path, ranks: Ranks) -> None:
        """Look for the CRF's implementation that was asked for."""
        del classes, base, ranks
        if self.crf is not None:
            self.crf.check()

    def needed_splits(self) -> tuple[str, ...]:
        """A network fits any split."""
        return ()

    def made_splits(self) -> tuple[str, ...]:
        """As asked for."""
        return self.splits

    def run(self, context: StageContext) -> Figures:
        """Predict the images that are missing."""
        network = open_network(context, self.network, Segmenter)

        def work(ids: Sequence[str]) -> Labelled:
            sizes = [context.data.size(image_id) for image_id in ids]
            for group in batches_of_one_size(sizes, self.batch_size):
                members = [ids[position] for position in group]
                for image_id, probabilities in zip(members, self._infer(context, network, members), strict=True):
                    yield image_id, [self._label(context, image_id, probabilities)]

        return {
            split: {"images": fill_mask_folders(context, f"{self.id} {split}", split, [context.folder / split], work)}
            for split in self.splits
        }

    def _infer(self, context: StageContext, network: Segmenter, ids: Sequence[str]) -> np.ndarray:
        """Probabilities of images of one size: float32 (B, C + 1, H, W), the mean over scales and flips."""
        images = load(context.data, ids, network.normalization, context.device)
        total = torch.zeros((len(ids), len(network.classes) + 1, *images.shape[2:]), device=context.device)
        count = 0
        for logits, mirrored in outputs(network, images, self, context.arithmetic):
            upright = logits.flip(3) if mirrored else logits
            size = images.shape[2:]
            total += F.interpolate(upright, size=size, mode="bilinear", align_corners=self.align_corners).softmax(1)
            count += 1
        mean: np.ndarray = total.div_(count).cpu().numpy()
        return mean

    def _label(self, context: StageContext, image_id: str, probabilities: np.ndarray) -> np.ndarray:
        if self.crf is not None:
            image = context.data.image(image_id)
            probabilities = crf(image, probabilities, threads=context.threads, **self.crf.model_dump())
        labels: np.ndarray = probabilities.argmax(0).astype(np.uint8)
        return labels
