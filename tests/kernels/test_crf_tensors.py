from collections.abc import Iterator

import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from skimage.transform import resize

from camshaft.kernels.crf import Parameters, crf, crf_many, reference, tensors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PHOTOS = ("astronaut", "chelsea", "coffee")


def batch(height: int, width: int, labels: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    shrunk = [
        resize(getattr(skimage.data, name)(), (height, width), anti_aliasing=True, preserve_range=True)
        for name in PHOTOS
    ]
    maps = np.random.default_rng(labels).random((len(PHOTOS), labels, height // 4 + 1, width // 4 + 1))
    smooth = np.stack([resize(m, (labels, height, width), order=1) for m in maps]) ** 3 + 1e-3
    return np.stack(shrunk).astype(np.uint8), (smooth / smooth.sum(1, keepdims=True)).astype(np.float32)


def refined(images: NDArray[np.uint8], maps: NDArray[np.float32], parameters: Parameters) -> NDArray[np.float32]:
    q = tensors.crf(torch.from_numpy(images).to(DEVICE), torch.from_numpy(maps).to(DEVICE), parameters)
    return q.cpu().numpy()


@pytest.mark.parametrize(("height", "width", "labels"), [(45, 61, 2), (40, 52, 3), (33, 47, 7)])
@pytest.mark.parametrize("options", [{}, {"bilateral_srgb": 5.0, "gaussian_sxy": 1.5, "iterations": 4}])
def test_each_image_of_a_batch_is_as_the_definition_has_it(
    height: int, width: int, labels: int, options: dict[str, float]
) -> None:
    images, maps = batch(height, width, labels)
    parameters = Parameters(**options)  # type: ignore[arg-type]
    q = refined(images, maps, parameters)
    for image, unary, ours in zip(images, maps, q, strict=True):
        exact = reference.mean_field(image, unary, parameters)
        assert np.abs(ours - exact).max() <= 5e-4
        assert (ours.argmax(0) == exact.argmax(0)).mean() >= 0.9998


def test_an_image_does_not_depend_on_its_batch() -> None:
    images, maps = batch(37, 50, 3)
    together = refined(images, maps, Parameters())
    for i in range(len(images)):
        alone = refined(images[i : i + 1], maps[i : i + 1], Parameters())
        np.testing.assert_allclose(alone[0], together[i], atol=2e-6, rtol=0)


def test_unaries_of_an_image_share_its_lattice() -> None:
    images, maps = batch(37, 50, 3)
    several = np.stack([maps, maps[:, ::-1], maps**2], axis=1)
    together = refined(images, several, Parameters())
    assert together.shape == several.shape
    for u in range(3):
        alone = refined(images, np.ascontiguousarray(several[:, u]), Parameters())
        np.testing.assert_allclose(together[:, u], alone, atol=2e-6, rtol=0)


def test_many_images_of_different_shapes_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camshaft.kernels.crf.batches.AHEAD", 5)
    monkeypatch.setattr("camshaft.kernels.crf.batches.BATCH", 2)
    of_shape = {shape: list(zip(*batch(*shape), strict=True)) for shape in ((30, 41, 2), (41, 30, 2), (30, 41, 3))}
    items = [of_shape[shape][i] for i in range(3) for shape in of_shape]
    items[4:4] = [(image, np.stack([maps, maps[::-1]])) for image, maps in of_shape[30, 41, 2]]
    drawn = 0

    def counted() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        nonlocal drawn
        for item in items:
            drawn += 1
            yield item

    found = crf_many(counted(), iterations=4, implementation="torch")
    first = next(found)
    assert drawn == 5
    for (image, maps), ours in zip(items, [first, *found], strict=True):
        expected = crf(image, maps, iterations=4)
        assert ours.shape == maps.shape
        assert np.abs(ours - expected).max() <= 5e-4
        assert np.abs(ours - crf(image, maps, iterations=4, implementation="torch")).max() <= 2e-6
    with pytest.raises(ValueError, match="must be uint8"):
        list(crf_many([(items[0][1], items[0][1])], implementation="torch"))  # type: ignore[list-item]


@pytest.mark.parametrize("value", [0, 255])
def test_an_image_of_one_colour(value: int) -> None:
    image = np.full((1, 30, 41, 3), value, np.uint8)
    _, maps = batch(30, 41, 2)
    q = refined(image, maps[:1], Parameters())[0]
    exact = reference.mean_field(image[0], maps[0], Parameters())
    assert (q.argmax(0) == exact.argmax(0)).mean() >= 0.9998


def test_wrong_arrays_are_named() -> None:
    images, maps = torch.zeros(2, 8, 9, 3, dtype=torch.uint8), torch.ones(2, 3, 8, 9)
    with pytest.raises(ValueError, match="images must be uint8"):
        tensors.crf(images.float(), maps, Parameters())
    for wrong in (maps[:1], maps[:, :1], maps.double(), maps[..., :8], maps[0]):
        with pytest.raises(ValueError, match="probabilities of images"):
            tensors.crf(images, wrong, Parameters())
    with pytest.raises(ValueError, match="standard deviations are too small"):
        tensors.crf(images + torch.arange(9, dtype=torch.uint8)[:, None], maps, Parameters(bilateral_srgb=1e-4))
