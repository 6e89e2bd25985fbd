import numpy as np
import pytest

from camshaft.engine.data.creatures import BUILD_OF
from camshaft.engine.data.layout import draw_scene
from camshaft.engine.data.scenes import CLASSES, Scenes, ScenesSettings
from camshaft.engine.errors import DataError


@pytest.fixture(scope="module")
def data() -> Scenes:
    return Scenes(ScenesSettings(kind="scenes", train=120, val=20, height=96, width=128))


def test_tags_are_the_classes_of_the_masks(data: Scenes) -> None:
    for split in ("train", "val"):
        for image_id, tags in zip(data.ids(split), data.tags(split), strict=True):
            mask = data.mask(image_id)
            assert mask is not None
            present, counts = np.unique(mask, return_counts=True)
            assert set(present.tolist()) - {0} == set((np.flatnonzero(tags) + 1).tolist())
            assert counts.min() > 0.002 * mask.size


def test_sizes_vary_and_fit(data: Scenes) -> None:
    sizes = [data.size(image_id) for image_id in data.ids("train")]
    for image_id, size in zip(data.ids("train")[:20], sizes, strict=False):
        mask, saliency = data.mask(image_id), data.saliency(image_id)
        assert mask is not None
        assert saliency is not None
        assert data.image(image_id).shape == (*size, 3)
        assert mask.shape == saliency.shape == size
        assert data.image(image_id).dtype == mask.dtype == saliency.dtype == np.uint8
    assert len(set(sizes)) > 40
    assert 0.15 < np.mean([height > width for height, width in sizes]) < 0.4


def test_the_mix_of_classes(data: Scenes) -> None:
    tags = data.tags("train")
    an_image = tags.sum(1)
    assert tags.sum(0).min() > 12
    assert (an_image == 0).sum() >= 2
    assert (an_image == 1).sum() >= 30
    assert (an_image >= 2).sum() >= 30


def test_saliency_tells_foreground_but_not_perfectly(data: Scenes) -> None:
    both, either = 0, 0
    for image_id in data.ids("train"):
        mask, saliency = data.mask(image_id), data.saliency(image_id)
        assert mask is not None
        assert saliency is not None
        both += int(((mask > 0) & (saliency > 50)).sum())
        either += int(((mask > 0) | (saliency > 50)).sum())
    assert 0.6 < both / either < 0.95


def test_a_class_differs_by_a_small_part_alone(data: Scenes) -> None:
    """Bodies of one build share coats and shape: the mean colour of whole animals tells classes apart poorly."""
    assert sorted(BUILD_OF.values()).count("walker") == sorted(BUILD_OF.values()).count("bird") == 3
    colours: dict[int, list[np.ndarray]] = {k + 1: [] for k in range(len(CLASSES))}
    for image_id, tags in zip(data.ids("train"), data.tags("train"), strict=True):
        if tags.sum() == 1:
            mask = data.mask(image_id)
            assert mask is not None
            colours[int(np.flatnonzero(tags)[0]) + 1].append(np.median(data.image(image_id)[mask > 0], axis=0))
    for build in ("walker", "bird"):
        members = [k + 1 for k, name in enumerate(CLASSES) if BUILD_OF[name] == build]
        means = [np.mean(colours[k], axis=0) for k in members]
        spread = np.mean([np.std(colours[k], axis=0) for k in members], axis=0)
        assert (np.ptp(means, axis=0) < 1.5 * spread).all()


def test_equal_settings_give_equal_scenes_in_any_order(data: Scenes) -> None:
    again = Scenes(ScenesSettings(kind="scenes", train=3, val=20, height=96, width=128, cache_mb=0))
    for image_id in ("val-000007", "train-000001", "train-000001"):
        np.testing.assert_array_equal(again.image(image_id), data.image(image_id))
        np.testing.assert_array_equal(again.mask(image_id), data.mask(image_id))
        np.testing.assert_array_equal(again.saliency(image_id), data.saliency(image_id))
    other = Scenes(ScenesSettings(kind="scenes", train=3, val=0, height=96, width=128, seed=1))
    assert other.size("train-000001") != data.size("train-000001") or not np.array_equal(
        other.image("train-000001"), data.image("train-000001")
    )


def test_splits_differ(data: Scenes) -> None:
    assert not set(data.ids("train")) & set(data.ids("val"))
    assert data.size("train-000000") != data.size("val-000000") or not np.array_equal(
        data.image("train-000000"), data.image("val-000000")
    )


def test_fingerprint_ignores_what_changes_no_pixel(data: Scenes) -> None:
    def of(**settings: object) -> str:
        base = {"kind": "scenes", "train": 2, "val": 2, "height": 64, "width": 64}
        return Scenes(ScenesSettings.model_validate({**base, **settings})).fingerprint("train")

    assert of() == of(cache_mb=0) == of(on_corrupt="skip") == of(val=9)
    data = Scenes(ScenesSettings(kind="scenes", train=2, val=2, height=64, width=64))
    assert data.fingerprint("train", masks=True, saliency=True) == of()
    assert len({of(), of(train=3), of(seed=1), of(height=70), of(width=70)}) == 5


def test_extreme_sizes() -> None:
    for height, width in ((64, 64), (64, 400), (400, 64)):
        scenes = Scenes(ScenesSettings(kind="scenes", train=4, val=0, height=height, width=width))
        for image_id in scenes.ids("train"):
            assert scenes.image(image_id).shape[:2] == scenes.size(image_id)


def test_unknown_image(data: Scenes) -> None:
    with pytest.raises(DataError, match="there is no image 'train-9'"):
        data.image("train-9")


def test_nothing_covers_what_tells_a_class() -> None:
    crowded = 0
    for seed in range(150):
        scene = draw_scene(np.random.default_rng(seed), 96, 128)
        crowded += len(scene.creatures) > 1
        for animal in scene.creatures:
            x0, y0, x1, y1 = animal.head
            assert 0 <= x0 < x1 <= scene.width
            assert 0 <= y0 < y1 <= scene.height
            for thing in (*scene.creatures, *scene.obstacles):
                if thing is not animal and thing.feet > animal.feet:
                    left, top, right, bottom = thing.box
                    assert right <= x0 or left >= x1 or bottom <= y0 or top >= y1
    assert crowded > 40
