import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.transform import resize

from camshaft.kernels.barrier import members
from camshaft.kernels.choice import Unavailable
from camshaft.kernels.crf import (
    Parameters,
    crf,
    crf_many,
    embedding,
    groups,
    mean_field,
    peer,
    plain,
    reference,
    tiles,
    workspace,
)

Image = NDArray[np.uint8]
Maps = NDArray[np.float32]
NO_PEER = pytest.mark.skipif(peer.missing() is not None, reason=str(peer.missing()))
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")


@lru_cache
def photo(name: str, height: int, width: int) -> Image:
    shrunk = resize(getattr(skimage.data, name)(), (height, width), order=1, anti_aliasing=True, preserve_range=True)
    return np.asarray(np.clip(np.rint(shrunk), 0, 255), np.uint8)


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def blobs(labels: int, height: int, width: int, seed: int = 0) -> Maps:
    """Like a CAM: smooth bumps, and a background score (1 - max)^4."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    maps = np.zeros((labels, height, width))
    for c in range(1, labels):
        for _ in range(rng.integers(1, 4)):
            centre, size = rng.uniform(0.15, 0.85, 2) * [height, width], rng.uniform(0.08, 0.22) * min(height, width)
            maps[c] += np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * size**2))
        maps[c] /= maps[c].max() + 1e-5
    maps[0] = (1 - maps[1:].max(0)) ** 4
    return np.asarray(maps / maps.sum(0), np.float32)


def random_maps(labels: int, height: int, width: int, seed: int = 0) -> Maps:
    return np.random.default_rng(seed).random((labels, height, width), np.float32)


def agreement(a: Maps, b: Maps) -> float:
    return float((a.argmax(-3) == b.argmax(-3)).mean())


def assert_as_exact(q: Maps, image: Image, maps: Maps, parameters: Parameters) -> None:
    """Error against float64 at most twice that of the definition in float32, and a unit of rounding a step."""
    exact = reference.mean_field(image, maps, parameters)
    rounded = reference.mean_field(image, maps, parameters, np.float32)
    assert np.abs(q - exact).max() <= 2 * np.abs(rounded - exact).max() + 2e-5
    np.testing.assert_allclose(q.sum(0), 1, atol=1e-5)


# The definition


@pytest.mark.parametrize("implementation", ["numba", "reference", pytest.param("pydensecrf", marks=NO_PEER)])
def test_one_pixel_by_hand(implementation: Any) -> None:
    maps = np.array([0.2, 0.5, 0.3], np.float32).reshape(3, 1, 1)
    once = crf(noise(1, 1), maps, iterations=1, implementation=implementation)
    # alone, a pixel's normalised kernels are 1: each label gains (3 + 10) times its own q
    gain = np.array([0.2, 0.5, 0.3]) * np.exp(13 * np.array([0.2, 0.5, 0.3]))
    np.testing.assert_allclose(once.reshape(-1), gain / gain.sum(), rtol=2e-5)


@pytest.mark.parametrize("labels", [2, 3, 6])
@pytest.mark.parametrize("implementation", ["numba", "reference"])
def test_without_steps_or_weights_it_is_the_clipped_unary(labels: int, implementation: Any) -> None:
    image, maps = noise(9, 70), random_maps(labels, 9, 70)
    maps[0, :4], maps[1, 2:6] = 0, 2
    expected = np.clip(maps, 0.01, 1) / np.clip(maps, 0.01, 1).sum(0)
    for settings_ in ({"iterations": 0}, {"gaussian_compat": 0.0, "bilateral_compat": 0.0}):
        q = crf(image, maps, clip=0.01, implementation=implementation, **settings_)
        np.testing.assert_allclose(q, expected, rtol=1e-5, atol=1e-6)


def test_simplices_hold_their_points() -> None:
    features = np.random.default_rng(0).uniform(0, 20, (5, 300))
    vertices, weights = reference.embed(features)
    assert weights.min() >= -1e-12
    np.testing.assert_allclose(weights.sum(0), 1)
    np.testing.assert_allclose((weights[..., None] * vertices).sum(0), reference.elevate(features)[:5].T, atol=1e-9)
    sixth = -vertices.sum(-1, keepdims=True)
    assert (np.mod(np.concatenate([vertices, sixth], -1), 6) == np.arange(6)[:, None, None]).all()


def test_the_lattice_filter_is_nearly_a_gaussian() -> None:
    y, x = np.mgrid[:40, :40].reshape(2, -1)
    features = np.stack([x, y]) / 4.0
    point = ((x == 20) & (y == 20)).astype(np.float64)[None]
    response = reference.Filter(features).lattice_filter(point)
    gaussian = np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / 32)
    cosine = (response * gaussian).sum() / np.sqrt((response**2).sum() * (gaussian**2).sum())
    assert cosine > 0.98


# The fast twins are the definition


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([2, 3, 4, 5, 9]),
    st.sampled_from([1, 2, 3, 5]),
    st.integers(0, 9),
)
def test_any_shape(height: int, width: int, labels: int, period: int, seed: int) -> None:
    parameters = Parameters(iterations=3, gaussian_sxy=period, bilateral_sxy=10, bilateral_srgb=20)
    image, maps = noise(height, width, seed), random_maps(labels, height, width, seed)
    assert_as_exact(mean_field.mean_field(image, maps[None], parameters, 1 + seed % 2)[0], image, maps, parameters)


@pytest.mark.parametrize("labels", [2, 4, 17, 40])
def test_a_photo_as_the_definition(labels: int) -> None:
    image, maps = photo("chelsea", 63, 101), blobs(labels, 63, 101)
    assert_as_exact(crf(image, maps), image, maps, Parameters())


@pytest.mark.parametrize("sxy", [2.5, 17.0])
def test_other_deviations_take_the_straight_twin(sxy: float, caplog: pytest.LogCaptureFixture) -> None:
    parameters = Parameters(gaussian_sxy=sxy)
    image, maps = photo("coffee", 30, 41), blobs(3, 30, 41)
    with caplog.at_level(logging.INFO, "camshaft.kernels"):
        assert_as_exact(crf(image, maps, gaussian_sxy=sxy), image, maps, parameters)
    assert f"straight (fused: gaussian_sxy {sxy} is not a whole number up to 16)" in caplog.text


def test_a_fine_lattice_takes_the_straight_twin_and_a_finer_one_is_an_error() -> None:
    parameters = Parameters(bilateral_srgb=0.5, bilateral_sxy=0.5)
    image, maps = noise(20, 40), blobs(3, 20, 40)
    assert mean_field.unfit(20, 40, parameters) is not None
    assert_as_exact(crf(image, maps, bilateral_srgb=0.5, bilateral_sxy=0.5), image, maps, parameters)
    with pytest.raises(ValueError, match="too small for an image of this size"):
        crf(image, maps, bilateral_srgb=0.01)


def test_the_straight_twin_and_the_fused_one_agree() -> None:
    image, maps = photo("rocket", 90, 130), blobs(3, 90, 130)[None]
    fused, straight = (twin(image, maps, Parameters()) for twin in (mean_field.mean_field, plain.mean_field))
    np.testing.assert_allclose(fused, straight, atol=5e-5)


def test_the_vertices_table_grows() -> None:
    image, maps = noise(40, 64), blobs(2, 40, 64)
    parameters = Parameters(iterations=2, bilateral_srgb=3, bilateral_sxy=20)
    cut = tiles.cut(40, 64, 3)
    strides = mean_field.key_strides(40, 64, parameters)
    space = workspace.Workspace()
    room, places = groups.room(cut, 1, space), embedding.places(40, 64, 20, 3)
    table, vertices = groups.group(image, cut, members(1)[0], places, strides, space, room)
    assert vertices > 4096  # more than the table had room for at first
    assert len(np.unique(table.keys[1 : vertices + 1])) == vertices
    assert_as_exact(crf(image, maps, iterations=2, bilateral_srgb=3, bilateral_sxy=20), image, maps, parameters)


def test_strong_weights_stay_finite() -> None:
    image, maps = photo("coffee", 50, 60), blobs(3, 50, 60)
    q = crf(image, maps, gaussian_compat=200.0, bilateral_compat=300.0)
    exact = reference.mean_field(image, maps, Parameters(gaussian_compat=200.0, bilateral_compat=300.0))
    assert np.isfinite(q).all()
    assert agreement(q, exact.astype(np.float32)) > 0.999


def test_labels_may_change_places() -> None:
    image, maps = photo("astronaut", 64, 80), blobs(4, 64, 80)
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(crf(image, maps[order]), crf(image, maps)[order], atol=1e-5)


# pydensecrf


@NO_PEER
def test_the_peer_takes_images_that_may_not_be_written_to() -> None:
    image, maps = noise(12, 16), blobs(2, 12, 16)
    image.setflags(write=False)
    assert np.abs(crf(image, maps, implementation="pydensecrf") - crf(image, maps)).max() < 5e-4
    assert not image.flags.writeable


@NO_PEER
@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("labels", [2, 3, 4, 21])
def test_photos_as_pydensecrf(name: str, labels: int) -> None:
    size = (375, 500) if labels == 3 else (187, 250)
    image, maps = photo(name, *size), blobs(labels, *size, labels)
    q, theirs = crf(image, maps), peer.mean_field(image, maps, Parameters())
    assert np.abs(q - theirs).max() <= 5e-4
    assert agreement(q, theirs) >= 0.9999


@NO_PEER
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (2, 3), (5, 7), (17, 23), (65, 49), (101, 63)])
@pytest.mark.parametrize("labels", [2, 3, 17])
@pytest.mark.parametrize("kind", ["constant", "noise", "photo"])
def test_odd_cases_as_pydensecrf(size: tuple[int, int], labels: int, kind: str) -> None:
    images = {
        "constant": np.full((*size, 3), 127, np.uint8),
        "noise": noise(*size),
        "photo": skimage.data.chelsea()[: size[0], : size[1]],
    }
    image = images[kind]
    for maps in (blobs(labels, *size), random_maps(labels, *size)):
        q, theirs = crf(image, maps), peer.mean_field(image, maps, Parameters())
        assert agreement(q, theirs) >= 0.9998


@NO_PEER
@pytest.mark.parametrize(
    "options",
    [
        {"gaussian_sxy": 1.0, "bilateral_sxy": 67.0, "bilateral_srgb": 3.0, "bilateral_compat": 4.0},
        {"iterations": 5, "bilateral_srgb": 5.0},
        {"bilateral_sxy": 50.0, "clip": 1e-8},
        {"gaussian_compat": 7.0, "bilateral_compat": 2.5},
        {"gaussian_sxy": 2.5, "bilateral_sxy": 33.3, "bilateral_srgb": 7.7},  # the straight twin's: not a whole sxy
    ],
)
def test_other_settings_as_pydensecrf(options: dict[str, Any]) -> None:
    image, maps = photo("coffee", 120, 161), blobs(3, 120, 161)
    q, theirs = crf(image, maps, **options), peer.mean_field(image, maps, Parameters(**options))
    assert np.abs(q - theirs).max() <= 5e-4
    assert agreement(q, theirs) >= 0.9999


# Several unaries, threads, many images


def test_several_unaries_are_several_calls() -> None:
    image = photo("rocket", 70, 111)
    maps = np.stack([blobs(3, 70, 111, seed) for seed in range(3)])
    together = crf(image, maps, threads=1)
    for q, each in zip(together, maps, strict=True):
        np.testing.assert_array_equal(q, crf(image, each, threads=1))


@pytest.mark.parametrize("threads", [2, 3, 50])
@pytest.mark.parametrize("labels", [2, 3, 5, 9])
def test_threads_share_an_image_and_repeat_themselves(threads: int, labels: int) -> None:
    image, maps = photo("astronaut", 133, 200), blobs(labels, 133, 200)
    shared = crf(image, maps, threads=threads)
    np.testing.assert_allclose(shared, crf(image, maps, threads=1), atol=1e-5)
    # while other work slows some of the threads down, each time others
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(lambda _: crf(image, maps, threads=threads), range(4)))
    for q in again:
        np.testing.assert_array_equal(q, shared)


@pytest.mark.parametrize("compat", [0.0, 1e-3, 1e4])
def test_threads_share_an_image_at_any_weight(compat: float) -> None:
    image, maps = photo("astronaut", 133, 200), blobs(3, 133, 200)
    alone = crf(image, maps, threads=1, gaussian_compat=compat, bilateral_compat=compat, iterations=1)
    shared = crf(image, maps, threads=2, gaussian_compat=compat, bilateral_compat=compat, iterations=1)
    np.testing.assert_allclose(shared, alone, atol=1e-5 * max(1, compat / 10))


def test_called_from_several_threads_at_once() -> None:
    sizes = [(40, 60), (61, 47), (33, 90), (64, 64)]
    items = [(noise(h, w, i), blobs(2 + i % 3, h, w, i)) for i, (h, w) in enumerate(sizes * 4)]
    alone = [crf(image, maps, threads=1) for image, maps in items]
    with ThreadPoolExecutor(4) as pool:
        for q, expected in zip(pool.map(lambda item: crf(*item, threads=1), items), alone, strict=True):
            np.testing.assert_array_equal(q, expected)


def test_an_image_leaves_nothing_behind() -> None:
    image, maps = photo("coffee", 80, 100), blobs(4, 80, 100)
    before = crf(image, maps, threads=1)
    crf(noise(150, 190), random_maps(9, 150, 190), threads=1)
    np.testing.assert_array_equal(crf(image, maps, threads=1), before)


def test_inputs_are_left_alone_and_need_not_be_contiguous() -> None:
    image, maps = photo("coffee", 80, 100), blobs(3, 80, 100)
    untouched = image.copy(), maps.copy()
    expected = crf(image, maps)
    np.testing.assert_array_equal(image, untouched[0])
    np.testing.assert_array_equal(maps, untouched[1])
    flipped = crf(np.asfortranarray(image), np.asfortranarray(maps))
    np.testing.assert_array_equal(flipped, expected)


def test_many_images_in_order_with_bounded_memory() -> None:
    drawn = 0
    lock = threading.Lock()

    def items() -> Iterator[tuple[Image, Maps]]:
        nonlocal drawn
        for i in range(12):
            with lock:
                drawn += 1
            yield noise(20 + i, 30, i), blobs(2 + i % 4, 20 + i, 30, i)

    results = crf_many(items(), threads=2)
    for taken, (q, (image, maps)) in enumerate(zip(results, list(items()), strict=True)):
        np.testing.assert_array_equal(q, crf(image, maps, threads=1))
        assert drawn - 12 <= taken + 4


def test_many_images_may_be_left_early() -> None:
    results = crf_many(((noise(20, 30, i), blobs(2, 20, 30, i)) for i in range(1000)), threads=2)
    next(results)
    results.close()  # type: ignore[attr-defined]


def test_an_error_among_many_is_raised_in_its_turn() -> None:
    good = noise(20, 30), blobs(2, 20, 30)
    results = crf_many([good, (good[0], good[1][:1]), good], threads=2)
    next(results)
    with pytest.raises(ValueError, match="at least two labels, not 1"):
        next(results)


# What is refused

GOOD: tuple[Image, Maps] = noise(6, 5), blobs(2, 6, 5)


def changed(maps: Maps, value: float) -> Maps:
    maps = maps.copy()
    maps[1, 3, 2] = value
    return maps


@pytest.mark.parametrize(
    ("image", "maps", "message"),
    [
        (GOOD[0].astype(np.float32), GOOD[1], "image must be uint8"),
        (GOOD[0][..., 0], GOOD[1], r"image must be uint8 \(H, W, 3\), not uint8 \(6, 5\)"),
        (GOOD[0].tolist(), GOOD[1], "image must be uint8 .* not list"),
        (GOOD[0], GOOD[1].astype(np.float64), "probabilities must be float32"),
        (GOOD[0], GOOD[1][0], r"probabilities must be float32 .* not float32 \(6, 5\)"),
        (GOOD[0][:5], GOOD[1], r"image is \(5, 5\) but the probabilities are \(6, 5\)"),
        (GOOD[0], GOOD[1][:1], "at least two labels, not 1"),
        (GOOD[0][:0], GOOD[1][:, :0], "nothing to do"),
        (GOOD[0], GOOD[1][None][:0], "nothing to do"),
        (GOOD[0], changed(GOOD[1], np.nan), "finite and >= 0"),
        (GOOD[0], changed(GOOD[1], np.inf), "finite and >= 0"),
        (GOOD[0], changed(GOOD[1], -0.1), "finite and >= 0"),
    ],
)
def test_arrays_are_checked(image: Any, maps: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crf(image, maps)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"iterations": -1}, "iterations must be a whole number"),
        ({"iterations": 2.5}, "iterations must be a whole number"),
        ({"gaussian_sxy": 0}, "gaussian_sxy must be > 0, not 0"),
        ({"bilateral_sxy": -1}, "bilateral_sxy must be > 0"),
        ({"bilateral_srgb": float("nan")}, "bilateral_srgb must be finite"),
        ({"gaussian_compat": -1}, "gaussian_compat must be >= 0"),
        ({"bilateral_compat": float("inf")}, "bilateral_compat must be finite"),
        ({"clip": 0}, "clip must lie between 0 and 1"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_options_are_checked(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crf(*GOOD, **option)
    with pytest.raises(ValueError, match=message):
        crf_many([GOOD], **option)


def test_an_unknown_implementation_is_an_error() -> None:
    with pytest.raises(Unavailable, match="no implementation 'cuda'"):
        crf(*GOOD, implementation="cuda")  # type: ignore[arg-type]


def test_pydensecrf_asked_for_but_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "missing", lambda: "pydensecrf is not installed")
    with pytest.raises(Unavailable, match="'pydensecrf' was asked for but pydensecrf is not installed"):
        crf(*GOOD, implementation="pydensecrf")


RUN = """
import hashlib
import numpy as np
import skimage.data
from camshaft.kernels.crf import crf
photo = np.ascontiguousarray(skimage.data.chelsea()[100:180, 100:260])
scores = np.random.default_rng(0).random((3, 80, 160), np.float32)
print(hashlib.sha256(crf(photo, scores / scores.sum(0)).tobytes()).hexdigest())
"""


def test_a_process_that_compiles_gets_the_bits_of_one_that_finds_all_in_the_cache(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", RUN]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert len(first.strip()) == 64
    assert first == second
