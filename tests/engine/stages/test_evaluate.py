"""Evaluation: figures worked by hand, pixels that are ignored, and maps swept over thresholds."""

from pathlib import Path

import numpy as np
import pytest

from camshaft.engine.data import DataSet
from camshaft.engine.stages.evaluate import Evaluate, Sweep
from camshaft.engine.stages.stage import Product
from camshaft.engine.stores import MapStoreWriter, MaskFolder, finalize, plan


def masks_of_truth(folder: Path, scenes: DataSet, *, ignored_rows: int = 0, background: bool = False) -> None:
    masks = MaskFolder.create(folder, scenes.palette, scenes.file_values)
    for image_id in scenes.ids("val"):
        mask = scenes.mask(image_id)
        assert mask is not None
        mask = np.zeros_like(mask) if background else mask.copy()
        mask[:ignored_rows] = 255
        masks.write(image_id, mask)
    masks.finalize(scenes.ids("val"), {})


def evaluate(make_context, product: Product, folder: Path, **settings: object):  # type: ignore[no-untyped-def]
    stage = Evaluate.model_validate({"id": "scores", "kind": "evaluate", "of": ["masks"], **settings})
    record = {"settings": {"alphas": [4.0, 32.0]}}
    return stage.run(make_context({"masks": (product, folder, record)}))["rows"]


def test_the_truth_itself_scores_one(make_context, scenes: DataSet, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    masks_of_truth(tmp_path / "m" / "val", scenes)
    (row,) = evaluate(make_context, Product.MASKS, tmp_path / "m")
    assert (row["miou"], row["coverage"], row["images"]) == (1.0, 1.0, 4)


def test_ignored_pixels_are_left_out_and_said_to_be(make_context, scenes: DataSet, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    masks_of_truth(tmp_path / "m" / "val", scenes, ignored_rows=10)
    (row,) = evaluate(make_context, Product.MASKS, tmp_path / "m")
    truths = [scenes.mask(image_id) for image_id in scenes.ids("val")]
    counted = sum(int((truth[10:] != 255).sum()) for truth in truths if truth is not None)
    judged = sum(int((truth != 255).sum()) for truth in truths if truth is not None)
    assert row["miou"] == 1.0
    assert row["coverage"] == pytest.approx(counted / judged)


def test_background_alone_scores_its_share(make_context, scenes: DataSet, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for alpha in ("alpha-4", "alpha-32"):
        masks_of_truth(tmp_path / "m" / "val" / alpha, scenes, background=True)
    rows = evaluate(make_context, Product.CRF, tmp_path / "m")
    assert [row["name"] for row in rows] == ["masks α=4", "masks α=32"]
    truth = np.concatenate([scenes.mask(image_id).ravel() for image_id in scenes.ids("val")])  # type: ignore[union-attr]
    truth = truth[truth != 255]
    present = len(np.unique(truth))
    assert rows[0]["iou"]["background"] == pytest.approx((truth == 0).mean())
    assert rows[0]["miou"] == pytest.approx((truth == 0).mean() / present)


def test_a_sweep_agrees_with_each_threshold_by_itself(make_context, scenes: DataSet, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ids, tags = scenes.ids("val"), scenes.tags("val")
    sizes = np.array([scenes.size(image_id) for image_id in ids])
    classes = [np.flatnonzero(row).tolist() for row in tags]
    layout = plan(ids, classes, -(-sizes // 8), sizes, classes=scenes.classes)
    writer = MapStoreWriter.create(tmp_path / "m" / "val", layout)
    generator = np.random.default_rng(0)
    for block in writer.blocks_missing():
        writer.write_block(block, [generator.random(layout.shape(index), np.float32) for index in layout.block(block)])
    finalize(tmp_path / "m" / "val", {"align_corners": False})
    sweep = {"start": 0.2, "stop": 0.6, "step": 0.2}
    (row,) = evaluate(make_context, Product.MAPS, tmp_path / "m", threshold=0.4, sweep=sweep)
    assert row["sweep"]["thresholds"] == [0.2, 0.4, 0.6]
    assert row["sweep"]["miou"][1] == row["miou"]
    alone = [
        evaluate(make_context, Product.MAPS, tmp_path / "m", threshold=threshold, sweep=None)[0]["miou"]
        for threshold in row["sweep"]["thresholds"]
    ]
    assert row["sweep"]["miou"] == alone
    assert row["sweep"]["best_miou"] == max(alone)


def test_thresholds_of_a_sweep_end_where_they_should() -> None:
    assert Sweep(start=0.1, stop=0.3, step=0.1).thresholds() == [0.1, 0.2, 0.3]
    assert Sweep(start=0.1, stop=0.35, step=0.1).thresholds() == [0.1, 0.2, 0.3]
    assert len(Sweep().thresholds()) == 56
