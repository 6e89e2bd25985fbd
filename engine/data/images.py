"""Decoding of images, masks and saliency maps with Pillow: every kind of file that people have, or a clear error.

An image comes out as 8-bit RGB, upright: EXIF orientation applied; grey, palette, CMYK and 16-bit converted;
transparency laid over white. A file of a kind that Pillow needs another program for is not opened.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from camshaft.engine.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm")

MAX_PIXELS = 89_478_485
"""An image that claims more (0.27 GB as RGB) is refused before it is decoded; Pillow warns from the same figure on."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image as `read_image` returns it, from its header.

    Raises:
        ImageError: missing, not an image, or larger than `MAX_PIXELS`.
    """
    with _opened(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def read_image(path: Path, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """An image as (H, W, 3) RGB, upright.

    Args:
        path: the file.
        at_least: (height, width) down to which a JPEG may be decoded at a half, a quarter or an eighth of its size.

    Raises:
        ImageError: missing, truncated, not an image, or larger than `MAX_PIXELS`.
    """
    with _opened(path) as image:
        if at_least is not None and image.format == "JPEG":
            height, width = at_least[::-1] if _orientation(image) in _SIDEWAYS else at_least
            image.draft(None, (width, height))
        orientation = _orientation(image)
        image.load()
        return np.asarray(_upright(_as_rgb(image, path), orientation))


def plain_size(data: bytes) -> tuple[int, int] | None:
    """(H, W) of a JPEG that every decoder turns into the pixels of `read_image`; None for any other bytes.

    It is whole, grey or YCbCr, needs not be turned, and has no more than `MAX_PIXELS`.
    """
    if not data.startswith(b"\xff\xd8\xff") or not data.endswith(b"\xff\xd9"):
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            width, height = image.size
            coloured = image.mode == "RGB" and image.info.get("adobe_transform", 1) == 1
            upright = _orientation(image) == 1
    except Exception:  # whatever a decoder raises on damaged bytes: `read_image` will say it
        return None
    return (height, width) if (coloured or image.mode == "L") and upright and width * height <= MAX_PIXELS else None


def scan_image(path: Path) -> tuple[int, int]:
    """Read an image to its last byte and return its (H, W): finds whatever `read_image` would fail at, sooner.

    A JPEG is decoded at an eighth of its size: the entropy-coded data are read in full, most of the arithmetic is not
    done.

    Raises:
        ImageError: as `read_image`.
    """
    with _opened(path) as image:
        width, height = image.size
        sideways = _orientation(image) in _SIDEWAYS
        if image.format == "JPEG":
            image.draft(None, (max(1, width // 8), max(1, height // 8)))
            image.load()
        else:
            image.load()
            _as_rgb(image, path)
        return (width, height) if sideways else (height, width)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """A mask's values as they stand in the file, (H, W): palette indices or 8-bit grey.

    Raises:
        ImageError: can't be decoded, was stored with loss, or its pixels are no indices.
    """
    with _opened(path) as image:
        if image.format == "JPEG":
            raise ImageError(f"{path}: a mask can't be a JPEG, whose values change when stored; use a palette PNG")
        if image.mode not in ("P", "L", "1"):
            raise ImageError(
                f"{path}: a mask must hold one 8-bit index a pixel (a palette or grey PNG), this one is {image.mode}"
            )
        orientation = _orientation(image)
        image.load()
        return np.asarray(_upright(image, orientation)).astype(np.uint8)


def read_saliency(path: Path) -> NDArray[np.uint8]:
    """A saliency map, (H, W), 0 … 255.

    Raises:
        ImageError: can't be decoded, or is not 8-bit grey.
    """
    with _opened(path) as image:
        if image.mode not in ("L", "P", "1"):
            raise ImageError(f"{path}: a saliency map must be 8-bit grey, this one is {image.mode}")
        orientation = _orientation(image)
        image.load()
        return np.asarray(_upright(image.convert("L"), orientation))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever a decoder raises on its bytes becomes an `ImageError` that names it."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(f"{path}: {width}×{height} pixels; more than {MAX_PIXELS:,} are not read")
            yield image
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path}: there is no such file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path}: more than {MAX_PIXELS:,} pixels are not read") from error
    except Exception as error:  # decoders meet arbitrary bytes and raise arbitrary errors
        raise ImageError(f"{path}: can't be decoded: {str(error) or type(error).__name__}") from error


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns TIFFs itself
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data say nothing about the pixels
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ImageError(f"{path}: grey values {grey.min()} … {grey.max()} are outside of 16 bits")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ImageError(f"{path}: floating-point pixels have no known range; store 8 or 16 bits a channel")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return image.convert("RGB")
