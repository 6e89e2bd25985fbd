import gc
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from camshaft.engine.data import (
    Augmentation,
    Batch,
    BatchSource,
    ColourJitter,
    Loader,
    Normalization,
    Resize,
    open_data,
)
from camshaft.engine.data.augment import Drawn
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.scenes import Scenes, ScenesSettings
from camshaft.engine.data.transform import apply
from camshaft.engine.data.voc import VocSettings
from camshaft.engine.errors import ImageError

AUGMENTATION = Augmentation(
    resize=Resize(long_side=(60, 120)),
    flip=0.5,
    jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    crop=96,
)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(ScenesSettings(kind="scenes", train=22, val=0, height=64, width=80))


def loader(data: DataSet, batch_size: int = 4, **options: object) -> Loader:
    settings = {"augmentation": AUGMENTATION, "normalization": Normalization(), "seed": 3, **options}
    return Loader(data, data.ids("train"), data.tags("train"), batch_size=batch_size, **settings)


def assert_equal(one: Sequence[Batch], other: Sequence[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in ("image", "tags", "index", "target"):
            left, right = getattr(a, name), getattr(b, name)
            assert (left is None) == (right is None)
            if left is not None:
                torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_what_a_batch_holds(scenes: Scenes) -> None:
    source: BatchSource = loader(scenes, targets=scenes.mask)
    batches = list(source.epoch(0))
    assert len(batches) == len(source) == 5
    for batch in batches:
        assert batch.image.shape == (4, 3, 96, 96)
        assert batch.image.dtype == batch.tags.dtype == torch.float32
        assert batch.index.dtype == torch.int64
        assert batch.target is not None
        assert batch.target.shape == (4, 96, 96)
        assert batch.target.dtype == torch.uint8
        np.testing.assert_array_equal(batch.tags, scenes.tags("train")[batch.index])
        # Padding lies at the same places in image and target.
        padding = batch.target == 255
        assert (batch.image.permute(0, 2, 3, 1)[padding] == 0).all()
        assert batch.to("cpu").target is not None


def test_the_same_with_any_number_of_workers(scenes: Scenes) -> None:
    serial = list(loader(scenes, workers=0, targets=scenes.mask).epoch(1))
    assert_equal(serial, list(loader(scenes, workers=3, targets=scenes.mask).epoch(1)))


def test_an_epoch_is_entered_in_its_middle(scenes: Scenes) -> None:
    source = loader(scenes)
    everything = list(source.epoch(2))
    for start in (0, 1, 4, 5):
        assert_equal(everything[start:], list(loader(scenes).epoch(2, start_batch=start)))


def test_two_ranks_share_the_batches_of_one(scenes: Scenes) -> None:
    alone = list(loader(scenes, 4).epoch(0))
    ranks = [list(loader(scenes, 2, rank=rank, world_size=2).epoch(0)) for rank in range(2)]
    for batch, first, second in zip(alone, *ranks, strict=True):
        torch.testing.assert_close(torch.cat((first.image, second.image)), batch.image, rtol=0, atol=0)
        torch.testing.assert_close(torch.cat((first.index, second.index)), batch.index, rtol=0, atol=0)


def test_augmentation_differs_by_epoch_and_repeat_only(scenes: Scenes) -> None:
    indices = [3, 8]
    source = loader(scenes, 4, indices=indices)
    (batch,) = source.epoch(0)
    assert sorted(batch.index.tolist()) == [3, 3, 8, 8]
    of_three = [batch.image[k] for k in range(4) if batch.index[k] == 3]
    assert not torch.equal(*of_three)
    whole = torch.cat([one.image[one.index == 3] for one in loader(scenes, 22).epoch(0)])
    torch.testing.assert_close(whole[0], of_three[0], rtol=0, atol=0)
    (other,) = source.epoch(1)
    assert not torch.equal(other.image[other.index == 3][0], of_three[0])


def test_a_subset(scenes: Scenes) -> None:
    seen = torch.cat([batch.index for batch in loader(scenes, 3, indices=[1, 5, 7, 9, 11, 2]).epoch(0)])
    assert sorted(seen.tolist()) == [1, 2, 5, 7, 9, 11]


def test_channels_last_changes_the_memory_alone(scenes: Scenes) -> None:
    plain, last = list(loader(scenes).epoch(0)), list(loader(scenes, channels_last=True).epoch(0))
    assert_equal(plain, last)
    assert all(batch.image.is_contiguous(memory_format=torch.channels_last) for batch in last)
    assert all(batch.image.is_contiguous() for batch in plain)


def test_images_of_several_sizes(scenes: Scenes) -> None:
    free = Augmentation(flip=1.0)
    for channels_last in (False, True):
        source = loader(scenes, 1, augmentation=free, targets=scenes.mask, channels_last=channels_last)
        for batch in source.epoch(0):
            size = scenes.size(scenes.ids("train")[int(batch.index)])
            assert batch.image.shape == (1, 3, *size)
            assert batch.target is not None
            assert batch.target.shape == (1, *size)
    with pytest.raises(ValueError, match=r"set crop or resize\.square"):
        loader(scenes, 2, augmentation=free)


def test_maps_as_targets(scenes: Scenes) -> None:
    def maps(image_id: str) -> NDArray[np.generic]:
        height, width = scenes.size(image_id)
        return np.ones((6, height // 8, width // 8), np.float32)

    batch = next(loader(scenes, targets=maps).epoch(0))
    assert batch.target is not None
    assert batch.target.shape == (4, 6, 96, 96)
    assert batch.target.dtype == torch.float32
    assert set(batch.target.unique().tolist()) == {0.0, 1.0}


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("camshaft-loader")]


def test_threads_end_when_the_consumer_stops(scenes: Scenes) -> None:
    iterator = loader(scenes).epoch(0)
    next(iterator)
    assert loader_threads()
    iterator.close()
    assert not loader_threads()
    for _ in loader(scenes).epoch(0):
        break  # the iterator is dropped without a word
    gc.collect()
    assert not loader_threads()


def test_work_ahead_is_bounded(scenes: Scenes) -> None:
    asked: list[str] = []

    class Watched(Scenes):
        def image(self, image_id: str, *, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
            asked.append(image_id)
            return super().image(image_id, at_least=at_least)

    data = Watched(ScenesSettings(kind="scenes", train=40, val=0, height=64, width=64))
    iterator = loader(data, 2).epoch(0)
    next(iterator)
    time.sleep(0.3)
    assert len(asked) <= 2 * 3
    iterator.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_surfaces_with_its_name(voc_root: Path, workers: int) -> None:
    path = voc_root / "JPEGImages" / "b.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    data = open_data(VocSettings(kind="voc", root=voc_root), Path())
    with pytest.raises(ImageError, match=r"b\.jpg: can't be decoded") as caught:
        list(loader(data, 3, workers=workers).epoch(0))
    assert "while loading 'b' of voc" in caught.value.__notes__
    assert not loader_threads()


def test_ids_and_tags_must_match(scenes: Scenes) -> None:
    with pytest.raises(ValueError, match="2 ids, but tags of 22 images"):
        Loader(
            scenes,
            scenes.ids("train")[:2],
            scenes.tags("train"),
            augmentation=AUGMENTATION,
            normalization=Normalization(),
            batch_size=1,
            seed=0,
        )


def test_large_photos_are_decoded_small(voc_root: Path, photo: Callable[..., Path]) -> None:
    photo(voc_root / "JPEGImages" / "a.jpg", (1600, 2400))
    (voc_root / "SegmentationClass" / "a.png").unlink()
    data = open_data(VocSettings(kind="voc", root=voc_root), Path())
    assert data.image("a", at_least=(192, 192)).shape == (200, 300, 3)
    square = Drawn((96, 96), "bicubic", True, (), (0, 0, 96, 96))
    full, _ = apply(data.image("a"), square, Normalization())
    resize = Augmentation(resize=Resize(square=96), flip=1.0)
    (batch,) = loader(data, 1, indices=[0], augmentation=resize).epoch(0)
    # In levels of 8-bit colour, of which a standard deviation of the normalisation is 58.
    assert float((batch.image[0] - full).abs().mean()) * 58 < 1
