import numpy as np
import pytest
import torch

from camshaft.kernels.walk import affinities, half_disc, reference, tensors

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("border", ["psa", "none"])
@pytest.mark.parametrize(("size", "radius"), [((1, 1), 5), ((3, 7), 5), ((13, 21), 5), ((12, 23), 10)])
def test_the_torch_twin_equals_the_definition(size: tuple[int, int], radius: int, border: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 6, *size)).astype(np.float32)
    maps = rng.random((2, 3, *size), np.float32)
    planes = tensors.affinities(torch.from_numpy(features).to(DEVICE), radius, border)
    assert planes.shape == (2, len(half_disc(radius)), *size)
    given = torch.from_numpy(maps).to(DEVICE)
    steps = tensors.walk(planes, given, radius=radius, steps=64, method="steps").cpu()
    chebyshev = tensors.walk(planes, given, radius=radius, steps=64).cpu()
    planes = planes.cpu()
    for b in range(2):
        np.testing.assert_allclose(planes[b], reference.affinities(features[b], radius, border), rtol=0, atol=1e-6)
        plain = reference.walk(planes[b].numpy(), maps[b], radius, 8, 64)
        np.testing.assert_allclose(steps[b], plain, rtol=0, atol=1e-5)
        np.testing.assert_allclose(chebyshev[b], plain, rtol=0, atol=1e-4)
        np.testing.assert_allclose(planes[b], affinities(features[b], radius, border), rtol=0, atol=1e-6)


def test_its_affinities_have_the_right_gradient() -> None:
    features = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda f: tensors.affinities(f, 2, "none"), features.requires_grad_())


def test_weights_that_leave_the_grid_do_not_count() -> None:
    maps = torch.rand(1, 2, 5, 6, generator=torch.Generator().manual_seed(0))
    planes = torch.ones(1, 34, 5, 6)
    plain = reference.walk(planes[0].numpy(), maps[0].numpy(), 5, 8, 3)
    np.testing.assert_allclose(tensors.walk(planes, maps, steps=3, method="steps")[0], plain, atol=1e-6)


def test_bad_arguments_are_named() -> None:
    planes, maps = torch.zeros(1, 34, 5, 6), torch.zeros(1, 2, 5, 6)
    with pytest.raises(ValueError, match="needs planes"):
        tensors.walk(planes[:, 1:], maps)
    with pytest.raises(ValueError, match="tolerance 0"):
        tensors.walk(planes, maps, tolerance=0)
    with pytest.raises(ValueError, match="floating"):
        tensors.affinities(maps[0])
    with pytest.raises(ValueError, match="border"):
        tensors.affinities(maps, 5, "open")
