import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from camshaft.engine.data.augment import Augmentation, ColourJitter, Drawn, Interpolation, Resize, draw
from camshaft.engine.data.batch import Normalization
from camshaft.engine.data.transform import apply, normalized, resized

PLAIN = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CELLS = 4
interpolations = st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"])


def coordinates(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """An image whose red is x/W and green y/H (blue is full), labels of a grid of cells, and maps of x/W and y/H at a
    quarter of the resolution."""
    y, x = np.mgrid[:height, :width]
    across, down = (x + 0.5) / width, (y + 0.5) / height
    image = np.stack((across * 255, down * 255, np.full_like(across, 255)), 2).round().astype(np.uint8)
    labels = ((down * CELLS).astype(np.uint8) * CELLS + (across * CELLS).astype(np.uint8)).astype(np.uint8)
    rows, columns = -(-height // 4), -(-width // 4)
    small_y, small_x = np.mgrid[:rows, :columns]
    maps = np.stack(((small_x + 0.5) / columns, (small_y + 0.5) / rows)).astype(np.float32)
    return image, labels, maps


@st.composite
def augmentations(draw_: st.DrawFn) -> Augmentation:
    kind = draw_(st.sampled_from(["none", "long_side", "short_side", "scale", "square"]))
    interpolation: Interpolation = draw_(interpolations)
    resize = None
    if kind in ("long_side", "short_side"):
        low = draw_(st.integers(30, 90))
        resize = Resize.model_validate({kind: (low, low + draw_(st.integers(0, 60))), "interpolation": interpolation})
    elif kind == "scale":
        resize = Resize(scale=(0.6, 1.7), interpolation=interpolation)
    elif kind == "square":
        resize = Resize(square=draw_(st.integers(30, 120)), interpolation=interpolation)
    crop = draw_(st.none() | st.integers(1, 130))
    return Augmentation(resize=resize, flip=draw_(st.sampled_from([0.0, 0.5, 1.0])), crop=crop)


@settings(deadline=None)
@given(augmentations(), st.integers(40, 100), st.integers(40, 100), st.integers(0, 2**31))
def test_image_labels_and_maps_stay_aligned(augmentation: Augmentation, height: int, width: int, seed: int) -> None:
    image, labels, maps = coordinates(height, width)
    drawn = draw(augmentation, np.random.default_rng(seed), (height, width))
    out, out_labels = apply(image, drawn, PLAIN, labels)
    _, out_maps = apply(image, drawn, PLAIN, maps)
    assert out_labels is not None
    assert out_maps is not None
    assert out.shape[1:] == out_labels.shape == out_maps.shape[1:] == drawn.window[2:]

    across, down, inside = out[0].numpy(), out[1].numpy(), out[2].numpy() > 0.5
    np.testing.assert_array_equal(out_labels.numpy() != 255, inside)
    assert (out.numpy()[:, ~inside] == 0).all()
    assert (out_maps.numpy()[:, ~inside] == 0).all()
    assert inside.sum() == np.prod([min(a, b) for a, b in zip(drawn.resized, drawn.window[2:], strict=True)])

    # One pixel of the coarser grid, and a level of rounding.
    pixel_x = 1 / min(width, drawn.resized[1]) + 1 / 255
    pixel_y = 1 / min(height, drawn.resized[0]) + 1 / 255
    for along, label_part, pixel in (
        (across, out_labels.numpy() % CELLS, pixel_x),
        (down, out_labels.numpy() // CELLS, pixel_y),
    ):
        cell = label_part[inside].astype(np.float64)
        assert (along[inside] >= cell / CELLS - pixel).all()
        assert (along[inside] <= (cell + 1) / CELLS + pixel).all()
    # A ramp at quarter resolution is exact but for half a coarse cell at the image's edge.
    for along, ramp, length, pixel in (
        (across, out_maps[0].numpy(), width, pixel_x),
        (down, out_maps[1].numpy(), height, pixel_y),
    ):
        assert np.abs(along - ramp)[inside].max() <= 0.5 / -(-length // 4) + pixel


def test_flip_mirrors_what_is_cut_out_after_it() -> None:
    image, labels, _ = coordinates(8, 12)
    drawn = Drawn((8, 12), "bicubic", True, (), (2, 3, 4, 5))
    out, out_labels = apply(image, drawn, PLAIN, labels)
    expected = image[:, ::-1][2:6, 3:8].transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(out_labels, labels[:, ::-1][2:6, 3:8])


def test_padding_is_zero_after_normalisation() -> None:
    image = np.full((2, 3, 3), 255, np.uint8)
    drawn = Drawn((2, 3), "bicubic", False, (), (-1, -2, 4, 6))
    normalization = Normalization(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    out, labels = apply(image, drawn, normalization, np.ones((2, 3), np.uint8))
    expected = np.zeros((3, 4, 6), np.float32)
    expected[:, 1:3, 2:5] = np.array([1.0, 3.0, 0.5])[:, None, None]
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)
    assert labels is not None
    assert labels[0, 0] == 255
    assert (labels[1:3, 2:5] == 1).all()


def test_normalisation_of_efficientnet_lite() -> None:
    image = np.array([[[127, 255, 0]]], np.uint8)
    lite = Normalization(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    np.testing.assert_allclose(normalized(image, lite).numpy().ravel(), [0, 1, -127 / 128], atol=1e-6)


def test_maps_are_enlarged_as_torch_does() -> None:
    maps = np.random.default_rng(0).random((3, 5, 7)).astype(np.float32)
    maps[1] = 0
    drawn = Drawn((40, 56), "bicubic", False, (), (0, 0, 40, 56))
    _, out = apply(np.zeros((40, 56, 3), np.uint8), drawn, PLAIN, maps)
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], (40, 56), mode="bilinear")[0]
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
    cut = Drawn((40, 56), "bicubic", False, (), (11, 13, 20, 30))
    _, part = apply(np.zeros((40, 56, 3), np.uint8), cut, PLAIN, maps)
    torch.testing.assert_close(part, expected[:, 11:31, 13:43], atol=1e-5, rtol=0)


def test_colours_change_the_image_alone() -> None:
    image, labels, _ = coordinates(20, 20)
    still = Drawn((20, 20), "bicubic", False, (), (0, 0, 20, 20))
    dark = Drawn((20, 20), "bicubic", False, (("brightness", 0.5),), (0, 0, 20, 20))
    out, out_labels = apply(image, dark, PLAIN, labels)
    assert abs(float(out[2].mean()) - 0.5) < 0.01
    np.testing.assert_array_equal(out_labels, apply(image, still, PLAIN, labels)[1])


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_resized_is_pillows(interpolation: Interpolation) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    method = Image.Resampling[interpolation.upper()]
    np.testing.assert_array_equal(
        resized(image, (17, 63), interpolation), np.asarray(Image.fromarray(image).resize((63, 17), method))
    )
    assert resized(image, (30, 40)) is image


def test_all_of_the_papers_augmentation_on_odd_sizes() -> None:
    augmentation = Augmentation(
        resize=Resize(long_side=(256, 448)),
        flip=0.5,
        jitter=ColourJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
        crop=321,
    )
    for seed, size in enumerate([(1, 1), (3, 900), (375, 500), (101, 67)]):
        image = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
        out, target = apply(
            image, draw(augmentation, np.random.default_rng(seed), size), Normalization(), image[:, :, 0]
        )
        assert out.shape == (3, 321, 321)
        assert target is not None
        assert torch.isfinite(out).all()
