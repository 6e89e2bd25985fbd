import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camshaft.engine.data.images import MAX_PIXELS, read_image, read_mask, read_saliency, read_size, scan_image
from camshaft.engine.errors import ImageError

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_rgb_comes_out_as_stored(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    np.testing.assert_array_equal(read_image(path), pixels)
    assert read_size(path) == (5, 7) == scan_image(path)


def test_grey_fills_three_channels(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RAMP))
    np.testing.assert_array_equal(read_image(path), np.stack((RAMP,) * 3, 2))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(RAMP.astype(np.uint16) * 257))
    np.testing.assert_array_equal(read_image(path)[:, :, 0], RAMP)
    tiff = saved(tmp_path / "a.tif", Image.fromarray(RAMP.astype(np.uint16) * 257))
    np.testing.assert_array_equal(read_image(tiff)[:, :, 2], RAMP)


def test_sixteen_bit_colour_keeps_its_high_bytes(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">6H", 0, 257 * 100, 65535, 257, 257 * 7, 257 * 200)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b""))
    np.testing.assert_array_equal(read_image(path), [[[0, 100, 255], [1, 7, 200]]])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    colour = Image.new("RGB", (16, 16), (200, 40, 90))
    path = saved(tmp_path / "a.jpg", colour.convert("CMYK"), quality=100)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    np.testing.assert_allclose(read_image(path)[8, 8], (200, 40, 90), atol=3)


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    indexed = Image.fromarray(np.array([[0, 1]], np.uint8))
    indexed.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    plain = saved(tmp_path / "plain.png", indexed)
    np.testing.assert_array_equal(read_image(plain), [[[10, 20, 30], [200, 100, 50]]])
    clear = saved(tmp_path / "clear.png", indexed, transparency=0)
    np.testing.assert_array_equal(read_image(clear), [[[255, 255, 255], [200, 100, 50]]])


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    pixels = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [100, 0, 0, 51]]], np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    np.testing.assert_array_equal(read_image(path), [[[255, 255, 255], [0, 0, 0], [224, 204, 204]]])
    grey = saved(tmp_path / "la.png", Image.fromarray(pixels).convert("LA"))
    np.testing.assert_array_equal(read_image(grey)[0, 0], (255, 255, 255))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # a white corner above on the left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif, **options)
    np.testing.assert_allclose(read_image(path), upright, atol=4)
    assert read_size(path) == (16, 32) == scan_image(path)


def test_grey_jpeg_with_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", Image.new("L", (32, 16), 90), exif=exif)
    assert read_image(path).shape == (32, 16, 3)


def test_damaged_exif_says_nothing_about_pixels(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("RGB", (32, 16)), exif=b"Exif\0\0garbage")
    assert read_size(path) == (16, 32)
    assert read_image(path).shape == (16, 32, 3)


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.1])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_truncated_file_is_named(tmp_path: Path, photo: Callable[..., Path], suffix: str, keep: float) -> None:
    path = photo(tmp_path / f"cut.{suffix}", (200, 300))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    for read in (read_image, scan_image):
        with pytest.raises(ImageError, match=r"cut\.\w+: can't be decoded"):
            read(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_the_scan_finds_a_jpeg_that_ends_early(tmp_path: Path, voc6: Path, progressive: bool) -> None:
    source = next(iter(sorted((voc6 / "JPEGImages").glob("*.jpg"))))
    path = tmp_path / "a.jpg"
    with Image.open(source) as image:
        image.save(path, progressive=progressive)
    assert scan_image(path) == read_image(path).shape[:2]
    data = path.read_bytes()
    for cut in (100, 3000, len(data) // 2):
        path.write_bytes(data[:-cut])
        with pytest.raises(ImageError, match=r"a\.jpg"):
            scan_image(path)


def test_what_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"a\.jpg: can't be decoded"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_size(path)
    with pytest.raises(ImageError, match=r"none\.jpg: there is no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match="can't be decoded"):
        read_image(tmp_path)


def test_a_file_that_would_start_another_program_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_image(path)


def test_decompression_bomb(tmp_path: Path) -> None:
    side = 10_000
    assert side * side > MAX_PIXELS
    path = saved(tmp_path / "bomb.png", Image.new("1", (side, side)))
    assert path.stat().st_size < 100_000
    for read in (read_image, read_size, scan_image, read_mask):
        with pytest.raises(ImageError, match=r"bomb\.png.*pixels"):
            read(path)


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(np.zeros((4, 4), np.float32)))
    for read in (read_image, scan_image):
        with pytest.raises(ImageError, match=r"a\.tif: floating-point"):
            read(path)


def test_mask_values_are_raw_indices(tmp_path: Path) -> None:
    values = np.array([[0, 1, 17], [255, 8, 0]], np.uint8)
    indexed = Image.fromarray(values)
    indexed.putpalette([7] * 768)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "p.png", indexed)), values)
    np.testing.assert_array_equal(read_mask(saved(tmp_path / "l.png", Image.fromarray(values))), values)
    two = saved(tmp_path / "one.png", Image.fromarray(values > 8))
    np.testing.assert_array_equal(read_mask(two), values > 8)


def test_mask_kinds_that_hold_no_indices(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.png: a mask must hold one 8-bit index.*RGB"):
        read_mask(saved(tmp_path / "a.png", Image.new("RGB", (4, 4))))
    with pytest.raises(ImageError, match=r"b\.jpg: a mask can't be a JPEG"):
        read_mask(saved(tmp_path / "b.jpg", Image.new("L", (4, 4))))
    with pytest.raises(ImageError, match=r"c\.png"):
        read_mask(saved(tmp_path / "c.png", Image.fromarray(np.zeros((4, 4), np.uint16))))


def test_saliency_is_8_bit_grey(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_saliency(saved(tmp_path / "a.png", Image.fromarray(RAMP))), RAMP)
    with pytest.raises(ImageError, match=r"b\.png: a saliency map must be 8-bit grey"):
        read_saliency(saved(tmp_path / "b.png", Image.fromarray(RAMP.astype(np.uint16))))
    with pytest.raises(ImageError, match=r"c\.png: a saliency map must be 8-bit grey"):
        read_saliency(saved(tmp_path / "c.png", Image.new("RGB", (4, 4))))
