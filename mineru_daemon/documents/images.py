"""Image files -> upright RGB pages.

Everything between the stored pixels and what an engine wants to see: orientation,
resolution, colour, transparency, size. Which file is an image is told by `sniff`.
"""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin, _imaging

from mineru_daemon.documents import tiff
from mineru_daemon.documents.page import BAND_PIXELS, Document, Limits, Page, Rendering, label
from mineru_daemon.documents.sniff import open_regular
from mineru_daemon.errors import DocumentError, LimitError, StorageError
from mineru_daemon.printable import printable
from mineru_daemon.results import Angle

# Pixels are counted here, before decoding, with limits the operator sets; Pillow's own
# constant would warn on standard error and refuse at a size nobody chose.
Image.MAX_IMAGE_PIXELS = None
# Oddities of a file are told in its result, not on the daemon's standard error.
warnings.filterwarnings("ignore", module=r"PIL\.")
# libtiff prints to standard error by itself. Where Pillow is built without it, or hides
# it, there is nothing to silence.
_silence = getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", None)
if _silence is not None:
    _silence.argtypes, _silence.restype = [ctypes.c_void_p], ctypes.c_void_p
    _silence(None)

_PILLOW_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/tiff": "TIFF",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/gif": "GIF",
    "image/avif": "AVIF",
    "image/heic": "HEIF",
    "image/heif": "HEIF",
}
"""The one Pillow plug-in that may open a file of each kind."""

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 274, 282, 283, 296
"""Tags shared by TIFF 6.0 and Exif."""
_PHOTOMETRIC = 262

_UPRIGHT: dict[int, tuple[Angle, Image.Transpose]] = {
    2: (0, Image.Transpose.FLIP_LEFT_RIGHT),
    3: (180, Image.Transpose.ROTATE_180),
    4: (180, Image.Transpose.FLIP_TOP_BOTTOM),
    5: (90, Image.Transpose.TRANSPOSE),
    6: (90, Image.Transpose.ROTATE_270),
    7: (270, Image.Transpose.TRANSVERSE),
    8: (270, Image.Transpose.ROTATE_90),
}
"""Exif orientation -> degrees clockwise, and Pillow's name for it (it counts the other way).
Mirrored ones are named by the turn that comes before the mirror."""

_CM_PER_INCH = 2.54
_EXIF_UNKNOWN_DPI = 72.0
"""What Exif 2.3 tells cameras to write when they do not know (tag XResolution)."""
_PLAUSIBLE_DPI = (10.0, 10_000.0)
"""Outside of this a number was left at its default."""
_SQUARE_BELOW = 1.5
"""Fax machines send 204 x 98 dpi, twice as wide as high; smaller differences between the
two resolutions are errors in the file rather than oblong pixels."""

_BACKDROP_SAMPLE = 1000
"""Pixels a side that are looked at to choose what transparent pixels are laid on."""


class ImageDocument(Document):
    """An image file; several pages only when it is a TIFF."""

    def __init__(self, path: Path, limits: Limits, media_type: str) -> None:
        """`media_type` as told by `sniff`. Raises `DocumentError`, `LimitError`."""
        self.media_type = media_type
        self.page_count = 1
        self._path = path
        self._limits = limits
        if media_type in ("image/heic", "image/heif"):
            from pillow_heif import register_heif_opener

            register_heif_opener()
        if media_type == "image/tiff":
            self.page_count = _count_frames(path, limits)
        if self.page_count == 1:
            self.page(0)

    def page(self, index: int) -> ImagePage:
        """Page `index`, its header read, its pixels not."""
        return ImagePage(self, self._path, self._limits, index)

    def close(self) -> None:
        """Nothing to do: files are open only while something is read."""


class ImagePage(Page):
    """One image, or one frame of a TIFF."""

    def __init__(self, document: ImageDocument, path: Path, limits: Limits, index: int) -> None:
        self.index = index
        self.warnings: list[str] = []
        self._path = path
        self._format = _PILLOW_FORMATS[document.media_type]
        self._limits = limits
        self._label = label(path, index, document.page_count)
        with self._open() as image:
            orientation = _orientation(image)
            resolution = _resolution(image)
            # Pillow turns TIFF by itself, and tells the size it will have then.
            by_pillow = isinstance(image, TiffImagePlugin.TiffImageFile)
            width, height = image.size
            if not (width and height):
                raise ValueError("it has no pixels")
        self.rotation: Angle
        self.rotation, transpose = _UPRIGHT.get(orientation, (0, None))
        self._transpose = None if by_pillow else transpose
        if self.rotation in (90, 270):
            if not by_pillow:
                width, height = height, width
            resolution = resolution and resolution[::-1]
        if width * height > limits.max_page_pixels:
            raise LimitError(
                f"{self._label} has {width:,} x {height:,} pixels, more than the "
                f"{limits.max_page_pixels:,} allowed; deliver it at a lower resolution or "
                "raise max_page_pixels."
            )
        self.width_pt = self.height_pt = None
        self._full_size: tuple[float, float] = (width, height)
        if resolution:
            x_dpi, y_dpi = resolution
            self.width_pt, self.height_pt = width * 72 / x_dpi, height * 72 / y_dpi
            if max(resolution) >= _SQUARE_BELOW * min(resolution):
                dpi = max(resolution)
                self._full_size = (width * dpi / x_dpi, height * dpi / y_dpi)
                self.warnings.append(
                    f"Its pixels are not square ({x_dpi:.0f} x {y_dpi:.0f} dpi); it was stretched."
                )

    def render(self, longest_side: int = 0) -> Rendering:
        """Decode the image; see `Page.render`."""
        width, height = self._full_size
        scale = min(1.0, math.sqrt(self._limits.max_page_pixels / (width * height)))
        if longest_side:
            scale = min(scale, longest_side / max(width, height))
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
        stored = target[::-1] if self._transpose and self.rotation in (90, 270) else target
        with self._open() as image:
            if min(image.width / stored[0], image.height / stored[1]) >= 2:
                # JPEG decodes to 1/2, 1/4 or 1/8 by leaving frequencies out; twice what is
                # needed, so that the last step down is done by the better filter.
                image.draft(None, (2 * stored[0], 2 * stored[1]))
            image.load()
            upright = _to_rgb(image, stored)
        if self._transpose is not None:
            upright = upright.transpose(self._transpose)
        dpi = target[0] * 72 / self.width_pt if self.width_pt else None
        return Rendering(upright, dpi)

    def close(self) -> None:
        """Nothing to do: files are open only while something is read."""

    @contextmanager
    def _open(self) -> Iterator[Image.Image]:
        """The image at this page's frame; whatever goes wrong inside becomes an error of ours."""
        try:
            with (
                open_regular(self._path) as stream,
                Image.open(stream, formats=[self._format]) as image,
            ):
                if self.index:
                    image.seek(self.index)
                yield image
        except MemoryError:
            raise
        except Exception as error:
            # Decoders of hostile input raise anything; an OSError with a number is the disk's.
            if isinstance(error, OSError) and error.errno is not None:
                raise StorageError(
                    f"{printable(self._path.name)} cannot be read: {error.strerror}."
                ) from error
            raise DocumentError(
                f"{self._label} cannot be decoded, it is damaged or of a rare variant; "
                "save it anew, best as PNG, and deliver it again."
            ) from error


def _count_frames(path: Path, limits: Limits) -> int:
    """Frames of a TIFF, as far as they can be reached."""
    count = 0
    with open_regular(path) as stream:
        try:
            for _ in tiff.frames(stream):
                count += 1
                if count > limits.max_pages:
                    raise LimitError(
                        f"{printable(path.name)} has more than the {limits.max_pages:,} pages "
                        "allowed; split it or raise max_pages."
                    )
        except tiff.CutError:
            # The frame at which the file ends is still a page: one that fails.
            count += 1
    return max(1, count)


def _orientation(image: Image.Image) -> int:
    """Exif orientation, 1 when there is none that makes sense; decodes nothing."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        value = image.tag_v2.get(_ORIENTATION)
    elif image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode all pixels to look for one behind them.
    else:
        value = _exif(image).get(_ORIENTATION)
    return value if isinstance(value, int) else 1


def _resolution(image: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch as stored, x and y, or None when the file does not really tell."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        unit = tags.get(_RESOLUTION_UNIT, 2)
        return _per_inch(tags.get(_X_RESOLUTION), tags.get(_Y_RESOLUTION), unit)
    if "jfif_unit" in image.info:
        # JFIF counts 1 for inches where TIFF and Exif count 2.
        x_density, y_density = image.info["jfif_density"]
        told = _per_inch(x_density, y_density, image.info["jfif_unit"] + 1)
        if told:
            return told
    elif image.format in ("PNG", "BMP") and "dpi" in image.info:
        x_dpi, y_dpi = image.info["dpi"]
        return _per_inch(x_dpi, y_dpi, 2)
    if image.format == "PNG" and "exif" not in image.info:
        return None
    exif = _exif(image)
    told = _per_inch(
        exif.get(_X_RESOLUTION), exif.get(_Y_RESOLUTION), exif.get(_RESOLUTION_UNIT, 2)
    )
    return None if told == (_EXIF_UNKNOWN_DPI, _EXIF_UNKNOWN_DPI) else told


def _per_inch(x: object, y: object, unit: object) -> tuple[float, float] | None:
    """Two resolutions in pixels per inch (`unit` 2) or centimetre (3), if plausible."""
    factor = {2: 1.0, 3: _CM_PER_INCH}.get(unit if isinstance(unit, int) else 0)
    if factor is None:
        return None
    try:
        pair = (float(x) * factor, float(y) * factor)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    low, high = _PLAUSIBLE_DPI
    return pair if all(low <= value <= high for value in pair) else None


def _exif(image: Image.Image) -> dict[int, object]:
    try:
        return dict(image.getexif())
    except Exception:
        # Broken metadata must not cost the picture.
        return {}


def _to_rgb(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A decoded image of any mode as RGB of `size` (width, height in pixels), never enlarged
    but where its pixels are oblong."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _grey(image)
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data and image.mode not in ("RGBA", "LA"):
        image = image.convert("RGBA")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGB")
    backdrop = _backdrop(image) if image.mode in ("RGBA", "LA") else None
    if image.size != size:
        # reducing_gap 3: as good as without, by Pillow's documentation, and much faster.
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    if backdrop is None:
        return image.convert("RGB")
    page = Image.new("RGB", image.size, backdrop)
    page.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return page


def _grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floating point as grey of 8 bits.

    Scanners put 10, 12 or 14 bits into 16: white is the largest number of as many bits as
    are in use. Signed and floating point numbers have no white; the brightest pixel is.
    """
    extremes = [(float(np.nanmin(band)), float(np.nanmax(band))) for _, band in _bands(image)]
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    bits = 0
    if image.mode != "F" and low >= 0 and high < 1 << 16:
        bits = max(8, int(high).bit_length() + int(high).bit_length() % 2)
    # White is zero: Pillow turns that around for up to 8 bits only.
    inverted = (
        isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
    )
    grey = Image.new("L", image.size)
    for top, band in _bands(image):
        if bits:
            part = (band >> (bits - 8)).astype(np.uint8)
        else:
            scaled = (band.astype(np.float32) - low) * (255 / ((high - low) or 1))
            part = np.nan_to_num(scaled, copy=False).astype(np.uint8)
        grey.paste(Image.fromarray(255 - part if inverted else part), (0, top))
    return grey


def _bands(image: Image.Image) -> Iterator[tuple[int, np.ndarray[tuple[int, ...], np.dtype[Any]]]]:
    """Rows of an image piece by piece, as an array of the whole would double its memory."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, np.asarray(image.crop((0, top, image.width, min(image.height, top + rows))))


def _backdrop(image: Image.Image) -> tuple[int, int, int] | None:
    """White or black, whatever what is drawn on transparency stands out from; None if opaque.

    The soft edges of letters tell their colour. Without soft edges all opaque pixels do.
    """
    width, height = image.size
    # Every n-th pixel, unmixed: averages would mix letters with what is not there.
    sample = image.resize(
        (min(width, _BACKDROP_SAMPLE), min(height, _BACKDROP_SAMPLE)), Image.Resampling.NEAREST
    ).convert("LA")
    brightness, alpha = (np.asarray(sample.getchannel(band)) for band in "LA")
    if alpha.min() == 255:
        return None
    edges = (alpha > 16) & (alpha < 240)
    drawn = edges if edges.sum() >= 16 else alpha > 127
    bright = bool(drawn.any()) and float(brightness[drawn].mean()) > 127
    return (0, 0, 0) if bright else (255, 255, 255)
