import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from camshaft.engine.data import Augmentation, Batch, ColourJitter, Loader, Normalization, Resize, open_data
from camshaft.engine.data.colour import KINDS, adjust
from camshaft.engine.data.dali import DaliLoader, choose_loader
from camshaft.engine.data.dataset import DataSet
from camshaft.engine.data.images import plain_size
from camshaft.engine.data.scenes import Scenes, ScenesSettings
from camshaft.engine.data.voc import VocSettings
from camshaft.engine.errors import ImageError
from camshaft.kernels.choice import Unavailable

HAS_DALI = importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None
needs_dali = pytest.mark.skipif(not HAS_DALI, reason="NVIDIA DALI is not installed (pip install camshaft[gpu])")
CPU = torch.device("cpu")
LEVELS = 58
"""8-bit levels to a standard deviation of the normalisation."""
AUGMENTATION = Augmentation(
    resize=Resize(long_side=(60, 120)),
    flip=0.5,
    jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    crop=96,
)
# Without changes of colour nothing is compiled, and a pipeline is there at once.
PLAIN = Augmentation(resize=Resize(long_side=(60, 120)), flip=0.5, crop=96)


@pytest.fixture(autouse=True)
def _dali_decodes_itself(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A batch at which DALI fails is decoded by Pillow, with the same pixels and much more slowly: no test needs it."""
    yield
    assert "DALI failed at a batch" not in caplog.text


@pytest.fixture
def voc(voc_root: Path, photo: Callable[..., Path]) -> DataSet:
    """Thirteen photos of many sizes in VOC's layout, each with a mask."""
    names = [f"p{number:02}" for number in range(10)]
    lists = voc_root / "ImageSets" / "Segmentation" / "train.txt"
    lists.write_text(lists.read_text() + "\n".join(names) + "\n")
    with (voc_root / "image_labels.csv").open("a") as tags:
        tags.writelines(f"{name},1,0\n" for name in names)
    for number, name in enumerate(names):
        size = (41 + 7 * number, 90 - 3 * number)
        photo(voc_root / "JPEGImages" / f"{name}.jpg", size)
        rows = np.arange(size[0]) * 3 // size[0]
        mask = Image.fromarray(np.broadcast_to(np.array([0, 8, 255], np.uint8)[rows][:, None], size).copy())
        mask.save(voc_root / "SegmentationClass" / f"{name}.png")
    return open_data(VocSettings(kind="voc", root=voc_root), Path())


def loader(kind: type[Loader], data: DataSet, batch_size: int = 4, **options: object) -> Loader:
    settings = {"augmentation": PLAIN, "normalization": Normalization(), "seed": 3, **options}
    return kind(data, data.ids("train"), data.tags("train"), batch_size=batch_size, **settings)


def assert_like(one: Batch, other: Batch, mean: float = 0.6) -> None:
    """The same samples, targets and padding; images that differ by less than `mean` levels of 8 bits in the mean."""
    torch.testing.assert_close(one.index, other.index, rtol=0, atol=0)
    torch.testing.assert_close(one.tags, other.tags, rtol=0, atol=0)
    assert (one.target is None) == (other.target is None)
    if one.target is not None:
        torch.testing.assert_close(one.target, other.target, rtol=0, atol=0)
    assert one.image.shape == other.image.shape
    assert one.image.stride()[1:] == other.image.stride()[1:]
    torch.testing.assert_close(one.image == 0, other.image == 0, rtol=0, atol=0)
    difference = (one.image - other.image).abs() * LEVELS
    assert float(difference.flatten(1).mean(1).max()) < mean


@needs_dali
def test_samples_are_those_of_the_plain_loader(voc: DataSet) -> None:
    options = {"augmentation": AUGMENTATION, "targets": voc.mask, "channels_last": True}
    plain, dali = loader(Loader, voc, **options), loader(DaliLoader, voc, **options)
    pixels = []
    for epoch in range(3):
        for one, other in zip(plain.epoch(epoch), dali.epoch(epoch), strict=True):
            assert_like(one, other)
            pixels.append((one.image, other.image))
    ours, theirs = (torch.cat(images).permute(1, 0, 2, 3).flatten(1) for images in zip(*pixels, strict=True))
    torch.testing.assert_close(ours.mean(1), theirs.mean(1), rtol=0, atol=0.01)
    torch.testing.assert_close(ours.std(1), theirs.std(1), rtol=0, atol=0.01)
    levels = torch.linspace(0.05, 0.95, 19)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one[::7].quantile(levels), other[::7].quantile(levels), rtol=0, atol=0.02)


@needs_dali
@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(resize=Resize(scale=(0.5, 1.5), interpolation="bilinear"), flip=1.0, crop=65),
        Augmentation(resize=Resize(square=50, interpolation="lanczos"), flip=0.5),
        Augmentation(crop=64, flip=0.5),
    ],
)
def test_other_descriptions(voc: DataSet, augmentation: Augmentation) -> None:
    options = {"augmentation": augmentation, "targets": voc.mask}
    for one, other in zip(
        loader(Loader, voc, **options).epoch(0), loader(DaliLoader, voc, **options).epoch(0), strict=True
    ):
        assert_like(one, other)


@needs_dali
def test_images_of_several_sizes(voc: DataSet) -> None:
    for channels_last in (False, True):
        options = {"augmentation": Augmentation(flip=1.0), "channels_last": channels_last}
        plain, dali = loader(Loader, voc, 1, **options), loader(DaliLoader, voc, 1, **options)
        for one, other in zip(plain.epoch(0), dali.epoch(0), strict=True):
            assert_like(one, other)


@needs_dali
def test_an_epoch_is_entered_and_left_in_its_middle(voc: DataSet) -> None:
    def maps(image_id: str) -> NDArray[np.generic]:
        height, width = voc.size(image_id)
        return np.random.default_rng(height * width).random((3, height // 8, width // 8), np.float32)

    source = loader(DaliLoader, voc, targets=maps)
    everything = list(source.epoch(2))
    left = source.epoch(1)
    next(left)
    left.close()
    for start in (0, 1, 3):
        for one, other in zip(everything[start:], source.epoch(2, start), strict=True):
            torch.testing.assert_close(one.image, other.image, rtol=0, atol=0)
            assert one.target is not None
            assert other.target is not None
            torch.testing.assert_close(one.target, other.target, rtol=0, atol=0)
    assert len(everything) == len(source) == 3


@needs_dali
def test_two_ranks_share_the_batches_of_one(voc: DataSet) -> None:
    alone = list(loader(DaliLoader, voc, 4).epoch(0))
    ranks = [list(loader(DaliLoader, voc, 2, rank=rank, world_size=2).epoch(0)) for rank in range(2)]
    for batch, first, second in zip(alone, *ranks, strict=True):
        torch.testing.assert_close(torch.cat((first.image, second.image)), batch.image, rtol=0, atol=0)
        torch.testing.assert_close(torch.cat((first.index, second.index)), batch.index, rtol=0, atol=0)


@needs_dali
def test_the_last_batch_may_be_smaller(voc: DataSet) -> None:
    sizes = [len(batch.image) for batch in loader(DaliLoader, voc, 5, shuffle=False, drop_last=False).epoch(0)]
    assert sizes == [5, 5, 3]


def save_unusual(path: Path, kind: str) -> None:
    """Rewrite a photo as a JPEG that decoders treat in several ways."""
    pixels = Image.open(path).convert("RGB")
    exif = Image.Exif()
    if kind == "cmyk":
        pixels.convert("CMYK").save(path)
    elif kind == "sideways":
        exif[274] = 6
        pixels.save(path, exif=exif)
    elif kind == "no jpeg":
        pixels.convert("RGBA").save(path.with_suffix(".png"))
        path.write_bytes(path.with_suffix(".png").read_bytes())
        path.with_suffix(".png").unlink()
    elif kind == "sixteen bits":
        grey = np.asarray(pixels.convert("L")).astype(np.uint16) * 257
        Image.fromarray(grey).save(path, format="PNG")
    elif kind == "grey":
        pixels.convert("L").save(path)
    else:
        pixels.save(path, progressive=True)


@needs_dali
@pytest.mark.parametrize("kind", ["cmyk", "sideways", "no jpeg", "sixteen bits", "grey", "progressive"])
def test_unusual_files_are_as_in_the_plain_loader(voc_root: Path, kind: str) -> None:
    save_unusual(voc_root / "JPEGImages" / "b.jpg", kind)
    data = open_data(VocSettings(kind="voc", root=voc_root), Path())
    for one, other in zip(loader(Loader, data, 3).epoch(0), loader(DaliLoader, data, 3).epoch(0), strict=True):
        assert_like(one, other)


@needs_dali
@pytest.mark.parametrize("marked_whole", [False, True])
def test_a_damaged_image_surfaces_with_its_name(voc_root: Path, marked_whole: bool) -> None:
    path = voc_root / "JPEGImages" / "b.jpg"
    data = path.read_bytes()
    # Without quantisation tables neither decoder can begin, though the file has its end.
    path.write_bytes(data.replace(b"\xff\xdb", b"\xff\xfe") if marked_whole else data[:-100])
    voc = open_data(VocSettings(kind="voc", root=voc_root), Path())
    with pytest.raises(ImageError, match=r"b\.jpg: can't be decoded") as caught:
        list(loader(DaliLoader, voc, 3).epoch(0))
    assert "while loading 'b' of voc" in caught.value.__notes__


@needs_dali
def test_the_arithmetic_for_gpus_is_the_compiled_one() -> None:
    from nvidia.dali import fn, pipeline_def, types

    from camshaft.engine.data.dali_graph import adjusted_by_arithmetic, packed_for_arithmetic

    generator = np.random.default_rng(0)
    images, changes = [], []
    for _ in range(12):
        images.append(generator.integers(0, 256, (13, 17, 3)).astype(np.uint8))
        order = generator.permutation(4)[: generator.integers(0, 5)]
        changes.append([(KINDS[k], float(generator.uniform(-0.5, 0.5) + (KINDS[k] != "hue"))) for k in order])

    @pipeline_def(batch_size=len(images), num_threads=1, device_id=None, prefetch_queue_depth=1)
    def graph() -> object:
        image = fn.external_source(name="image", dtype=types.UINT8, ndim=3, layout="HWC")
        return adjusted_by_arithmetic(image, fn.external_source(name="colours", dtype=types.FLOAT, ndim=1))

    pipeline = graph()
    pipeline.build()
    pipeline.feed_input("image", images)
    pipeline.feed_input("colours", [packed_for_arithmetic(change) for change in changes])
    (results,) = pipeline.run()
    for image, change, result in zip(images, changes, results, strict=True):
        expected = adjust(image, change).astype(int)
        difference = np.abs(np.asarray(result).astype(int) - expected)
        # Where rounding meets a half; sums run in another order.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


@needs_dali
def test_the_choice(voc: DataSet, caplog: pytest.LogCaptureFixture) -> None:
    ids = voc.ids("train")
    with caplog.at_level("INFO", "camshaft.kernels"):
        assert choose_loader("auto", voc, ids, CPU) is Loader
    assert choose_loader("auto", voc, ids, torch.device("cuda")) is DaliLoader
    assert choose_loader("dali", voc, ids, CPU) is DaliLoader
    assert choose_loader("torch", voc, ids, torch.device("cuda")) is Loader
    scenes = Scenes(ScenesSettings(kind="scenes", train=2, val=0, height=64, width=64))
    assert choose_loader("auto", scenes, scenes.ids("train"), torch.device("cuda")) is Loader
    with pytest.raises(Unavailable, match=r"loader: implementation 'dali' was asked for but .* has no image files"):
        choose_loader("dali", scenes, scenes.ids("train"), CPU)


@pytest.mark.skipif(HAS_DALI, reason="NVIDIA DALI is installed")
def test_without_dali(voc: DataSet) -> None:
    assert choose_loader("auto", voc, voc.ids("train"), torch.device("cuda")) is Loader
    with pytest.raises(Unavailable, match=r"NVIDIA DALI is not installed \(pip install camshaft\[gpu\]\)"):
        choose_loader("dali", voc, voc.ids("train"), CPU)


def test_the_size_of_a_plain_jpeg() -> None:
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "JPEG")
    assert plain_size(file.getvalue()) == (20, 30)
    assert plain_size(file.getvalue()[:-1]) is None
    assert plain_size(b"\xff\xd8\xff\xd9") is None
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    assert plain_size(file.getvalue()) is None
