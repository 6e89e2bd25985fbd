from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from camshaft.engine.data.dataset import balanced_subset, digest, tag_matrix
from camshaft.engine.data.scenes import Scenes, ScenesSettings
from camshaft.engine.data.voc import VocSettings
from camshaft.engine.errors import DataError
from camshaft.engine.stores import voc_palette


def test_palette_of_real_masks(voc6: Path) -> None:
    with Image.open(next(voc6.glob("SegmentationClass/*.png"))) as mask:
        stored = mask.getpalette()
    assert stored == voc_palette()[: len(stored or []) // 3].ravel().tolist()


def test_tag_matrix() -> None:
    np.testing.assert_array_equal(tag_matrix([["b"], [], ["a", "b", "z"]], ("a", "b")), [[0, 1], [0, 0], [1, 1]])


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 50), st.integers(0, 2**31))
def test_subset_is_as_balanced_as_it_can_be(n: int, classes: int, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    tags = np.zeros((n, classes), np.uint8)
    tags[np.arange(n), generator.integers(0, classes, n)] = 1
    tags[generator.random(n) < 0.2] = 0
    ids = [f"image{k}" for k in range(n)]
    chosen = balanced_subset(ids, tags, count)
    assert len(chosen) == len(set(chosen)) == min(n, count)
    assert chosen == sorted(chosen)
    taken, there = tags[chosen].sum(0), tags.sum(0)
    # With one class an image: a class may lag behind another only if it has run out of images.
    for lagging in range(classes):
        if taken[lagging] < there[lagging]:
            assert taken.max() <= taken[lagging] + 1
    untagged = sum(1 for k in chosen if not tags[k].any())
    assert untagged == 0 or taken.sum() == there.sum()


def test_subset_does_not_depend_on_the_order_of_ids() -> None:
    ids = [f"image{k}" for k in range(30)]
    tags = np.eye(3, dtype=np.uint8)[np.arange(30) % 3]
    chosen = {ids[k] for k in balanced_subset(ids, tags, 9)}
    assert chosen == {ids[::-1][k] for k in balanced_subset(ids[::-1], tags[::-1], 9)}


def test_digest_tells_lists_of_parts_apart() -> None:
    assert len({digest(["ab", "c"]), digest(["a", "bc"]), digest(["abc"]), digest([b"ab", "c", ""])}) == 4


def test_settings_name_unknown_keys_and_wrong_values() -> None:
    for value in (
        {"root": "x", "clases": []},
        {"root": "x", "on_corrupt": "ignore"},
        {"root": "x", "limit": {"train": 0}},
    ):
        with pytest.raises(ValueError, match=r"clases|on_corrupt|limit"):
            VocSettings.model_validate({"kind": "voc", **value})


def test_unknown_split() -> None:
    data = Scenes(ScenesSettings(kind="scenes", train=2, val=0))
    with pytest.raises(DataError, match="no split 'val'; there is train"):
        data.ids("val")
