"""The CRF stage: each twin makes the masks that the definition makes of seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from camshaft.engine.data import DataSet
from camshaft.engine.stages import seeds
from camshaft.engine.stages.crf import Crf, alpha_folder
from camshaft.engine.stages.stage import Product, StageContext
from camshaft.engine.stores import MapStore, MaskFolder
from camshaft.kernels.crf import Parameters, reference

ALPHAS = (2, 6)


@pytest.mark.parametrize("implementation", ["numba", "torch", "pydensecrf"])
def test_masks_equal_their_definition(
    make_context: Callable[..., StageContext],
    write_maps: Callable[..., Path],
    scenes: DataSet,
    tmp_path: Path,
    implementation: str,
) -> None:
    write_maps(tmp_path / "maps/train", "train")
    parameters = {"iterations": 3, "bilateral_sxy": 30, "implementation": implementation}
    settings: dict[str, Any] = {"id": "crf", "kind": "crf", "maps": "maps", "alphas": ALPHAS, "parameters": parameters}
    context = make_context({"maps": (Product.MAPS, tmp_path / "maps", {})})
    assert Crf.model_validate(settings).run(context) == {"train": {"images": 6}}
    store, labelled = MapStore.open(tmp_path / "maps/train"), set()
    for alpha in ALPHAS:
        masks = MaskFolder.open(context.folder / "train" / alpha_folder(alpha))
        for image_id in scenes.ids("train"):
            maps, classes = seeds.of_image(store, image_id)
            expected = np.zeros(scenes.image(image_id).shape[:2], np.uint8)
            if len(classes):
                unary = seeds.with_background(seeds.background_score(maps, alpha), maps)
                q = reference.mean_field(scenes.image(image_id), unary, Parameters(iterations=3, bilateral_sxy=30))
                expected = seeds.to_labels(q, classes)
            assert (masks.read(image_id) == expected).mean() >= 0.9995
            labelled |= set(np.unique(expected).tolist())
    assert len(labelled) > 2
