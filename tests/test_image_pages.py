"""Image files: what is stored becomes upright RGB with its resolution."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps, TiffImagePlugin

from mineru_daemon.documents import Limits, Page, open_document
from mineru_daemon.errors import DocumentError, LimitError

LIMITS = Limits()
Save = Callable[..., Page]


@pytest.fixture
def page_of(tmp_path: Path) -> Save:
    """Save an image under a name and give its first page."""

    def save(image: Image.Image, name: str, **options: object) -> Page:
        path = tmp_path / name
        image.save(path, **options)  # type: ignore[arg-type]
        return open_document(path, LIMITS).page(0)

    return save


def corner_marked() -> Image.Image:
    """80 x 40, white, its top left corner red."""
    image = Image.new("RGB", (80, 40), "white")
    image.paste((255, 0, 0), (0, 0, 16, 16))
    return image


def colour(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def is_red(image: Image.Image, x: int, y: int) -> bool:
    red, green, blue = colour(image, x, y)
    return red > 200 and green < 80 and blue < 80


@pytest.mark.parametrize("name", ["photo.jpg", "scan.tif", "photo.webp", "shot.png"])
@pytest.mark.parametrize(
    ("orientation", "rotation"),
    [(1, 0), (2, 0), (3, 180), (4, 180), (5, 90), (6, 90), (7, 270), (8, 270)],
)
def test_orientation_is_applied(page_of: Save, name: str, orientation: int, rotation: int) -> None:
    stored = corner_marked()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    if orientation in undo:
        stored = stored.transpose(undo[orientation])
    exif = Image.Exif()
    exif[274] = orientation
    page = page_of(stored, name, exif=exif)
    for longest_side in (0, 40):
        rendering = page.render(longest_side)
        assert rendering.image.size == ((80, 40) if not longest_side else (40, 20))
        assert is_red(rendering.image, 3, 3)
    assert page.rotation == rotation


def test_resolutions_turn_with_the_page(page_of: Save) -> None:
    exif = Image.Exif()
    exif[274] = 6
    page = page_of(corner_marked(), "a.jpg", exif=exif, dpi=(200, 160))
    assert page.width_pt == pytest.approx(40 * 72 / 160)
    assert page.height_pt == pytest.approx(80 * 72 / 200)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {"dpi": (144, 144)}),
        ("a.jpg", {"dpi": (144, 144)}),
        ("a.bmp", {"dpi": (144, 144)}),
        ("a.tif", {"dpi": (144, 144)}),
        ("a.tif", {"resolution": 144 / 2.54, "resolution_unit": 3}),
    ],
)
def test_the_size_in_points_comes_from_the_resolution(
    page_of: Save, name: str, options: dict[str, object]
) -> None:
    page = page_of(corner_marked(), name, **options)
    assert page.width_pt == pytest.approx(40, rel=0.01)
    assert page.height_pt == pytest.approx(20, rel=0.01)
    assert page.render().dpi == pytest.approx(144, rel=0.01)
    assert page.render(40).dpi == pytest.approx(72, rel=0.01)


def test_no_size_is_made_up(page_of: Save) -> None:
    unknown = Image.Exif()
    unknown[282] = unknown[283] = 72.0
    unknown[296] = 2
    for page in (
        page_of(corner_marked(), "a.png"),
        page_of(corner_marked(), "a.gif"),
        page_of(corner_marked(), "a.jpg", exif=unknown),
        page_of(corner_marked(), "b.jpg", dpi=(1, 1)),
        page_of(corner_marked(), "a.tif"),
        page_of(corner_marked(), "b.tif", resolution_unit=1, resolution=300),
    ):
        assert page.width_pt is None
        assert page.height_pt is None
        assert page.render().dpi is None


def test_each_frame_of_a_tiff_is_a_page_with_its_own_resolution(tmp_path: Path) -> None:
    path = tmp_path / "fax.tif"
    with TiffImagePlugin.AppendingTiffWriter(str(path), True) as writer:
        for width, dpi in ((100, (100, 100)), (110, (200, 200)), (120, None)):
            Image.new("L", (width, 50)).save(writer, "TIFF", dpi=dpi)
            writer.newFrame()
    with open_document(path, LIMITS) as document:
        pages = [document.page(index) for index in range(document.page_count)]
        assert [page.render().image.size for page in pages] == [(100, 50), (110, 50), (120, 50)]
        assert [page.index for page in pages] == [0, 1, 2]
        assert pages[0].width_pt == pytest.approx(72)
        assert pages[1].width_pt == pytest.approx(110 * 72 / 200)
        assert pages[2].width_pt is None


def test_oblong_pixels_of_a_fax_become_square(page_of: Save) -> None:
    page = page_of(Image.new("1", (204, 98)), "fax.tif", dpi=(204, 98), compression="group4")
    rendering = page.render()
    assert rendering.image.size == (204, 204)
    assert rendering.dpi == pytest.approx(204)
    assert page.width_pt == page.height_pt == pytest.approx(72)
    assert page.warnings == ["Its pixels are not square (204 x 98 dpi); it was stretched."]


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]
)
@pytest.mark.parametrize("longest_side", [0, 50])
def test_every_mode_becomes_rgb_that_looks_the_same(
    page_of: Save, mode: str, longest_side: int
) -> None:
    wide = Image.new("L", (100, 60), 255)
    wide.paste(0, (50, 0, 100, 60))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(wide, np.uint16) * 257)
    elif mode in ("I", "F"):
        image = Image.fromarray(np.asarray(wide, np.float32) * 3 - 7).convert(mode)
    else:
        image = wide.convert("RGB").convert(mode)
    page = page_of(image, "a.png" if mode in ("LA", "P", "RGBA") else "a.tif")
    rendered = page.render(longest_side).image
    assert rendered.mode == "RGB"
    assert rendered.size == ((100, 60) if not longest_side else (50, 30))
    assert min(colour(rendered, 5, 5)) > 250
    assert max(colour(rendered, rendered.width - 5, 5)) < 5


def test_cmyk_jpeg_has_its_colours(page_of: Save) -> None:
    page = page_of(corner_marked().convert("CMYK"), "a.jpg", quality=95)
    assert is_red(page.render().image, 4, 4)
    assert min(colour(page.render().image, 60, 30)) > 240


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("at_once", [1 << 22, 100, 3])
def test_grey_of_many_bits_is_scaled_not_clipped(
    page_of: Save, monkeypatch: pytest.MonkeyPatch, bits: int, at_once: int
) -> None:
    monkeypatch.setattr("mineru_daemon.documents.images.BAND_PIXELS", at_once)
    ramp = np.linspace(0, (1 << bits) - 1, 256).astype(np.uint16)
    column = Image.fromarray(np.tile(ramp, (8, 1)).T.copy())
    for name in ("a.png", "a.tif"):
        grey = np.asarray(page_of(column, name).render().image)[:, 0, 0]
        assert abs(grey.astype(int) - np.arange(256)).max() <= 1


def test_grey_whose_white_is_zero_is_turned_around(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(path)
    content = bytearray(path.read_bytes())
    tag = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00")
    content[tag + 8] = 0
    path.write_bytes(content)
    assert open_document(path, LIMITS).page(0).render().image.getpixel((0, 0)) == (0, 0, 0)


def text_on_nothing(ink: str) -> Image.Image:
    image = Image.new("RGBA", (300, 80), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((20, 20), "Harbour", ink, font_size=32)
    return image


@pytest.mark.parametrize("ink", ["white", "black", "navy", "yellow"])
@pytest.mark.parametrize("kind", ["soft", "hard", "palette", "grey"])
@pytest.mark.parametrize("longest_side", [0, 150])
def test_text_on_transparency_stays_readable(
    page_of: Save, ink: str, kind: str, longest_side: int
) -> None:
    image = text_on_nothing(ink)
    if kind == "hard":
        image.putalpha(image.getchannel("A").point(lambda alpha: 255 * (alpha > 127)))
    elif kind == "palette":
        image = image.quantize()
    elif kind == "grey":
        image = image.convert("LA")
    rendered = ImageOps.grayscale(page_of(image, "a.png").render(longest_side).image)
    low, high = rendered.getextrema()
    assert isinstance(low, int)
    assert isinstance(high, int)
    assert high - low > 150


def test_a_window_with_soft_corners_keeps_its_white(page_of: Save) -> None:
    image = Image.new("RGBA", (400, 300), (0, 0, 0, 0))
    ImageDraw.Draw(image).rounded_rectangle((20, 20, 380, 280), 12, (255, 255, 255, 255))
    shadow = Image.new("RGBA", image.size, (0, 0, 0, 60))
    image = Image.alpha_composite(shadow, image)
    rendered = page_of(image, "a.png").render().image
    assert rendered.getpixel((200, 150)) == (255, 255, 255)
    assert min(colour(rendered, 3, 3)) > 150


def test_only_the_first_picture_of_an_animation_is_a_page(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    for name in ("a.gif", "a.png", "a.webp"):
        path = tmp_path / name
        red.save(path, save_all=True, append_images=[blue])
        with open_document(path, LIMITS) as document:
            assert document.page_count == 1
            assert is_red(document.page(0).render().image, 5, 5)


@pytest.mark.parametrize(("size", "bound"), [((1600, 1200), 500), ((999, 10), 100), ((50, 70), 20)])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_the_longest_side_is_bounded_and_never_enlarged(
    page_of: Save, name: str, size: tuple[int, int], bound: int
) -> None:
    page = page_of(Image.new("RGB", size, "white"), name)
    assert max(page.render(bound).image.size) == bound
    assert page.render(bound).image.width / page.render(bound).image.height == pytest.approx(
        size[0] / size[1], rel=0.2
    )
    assert page.render(100_000).image.size == size
    assert page.render().image.size == size


def test_a_jpeg_made_small_looks_as_if_it_had_been_decoded_whole(page_of: Save) -> None:
    image = Image.new("RGB", (1600, 1000), "white")
    draw = ImageDraw.Draw(image)
    for row in range(12):
        draw.text((40, 40 + 76 * row), "Kestrel Sailing School 1,240.00", "black", font_size=60)
    page = page_of(image, "a.jpg", quality=95)
    small = np.asarray(page.render(500).image, int)
    whole = np.asarray(page.render().image.resize((500, 312), Image.Resampling.LANCZOS), int)
    assert small.shape == whole.shape
    assert abs(small - whole).mean() < 2


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.bmp", "a.gif"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_data_fail_that_page(tmp_path: Path, name: str, part: float) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(7).integers(0, 255, (120, 160, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DocumentError, match=f"^{name} cannot be decoded"):
        open_document(path, LIMITS).page(0).render()


def test_pixels_are_counted_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "two.tif"
    Image.new("L", (10, 10)).save(
        path, save_all=True, append_images=[Image.new("L", (20, 20)), Image.new("L", (10, 10))]
    )
    with open_document(path, Limits(max_page_pixels=399)) as document:
        assert document.page(0).render().image.size == (10, 10)
        with pytest.raises(LimitError, match=r"^page 2 of two\.tif has 20 x 20 pixels"):
            document.page(1)
        assert document.page(2).render().image.size == (10, 10)


def test_no_limit_but_ours_holds(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (20, 20)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    with open_document(path, Limits(max_page_pixels=400_000_000)) as document:
        assert document.page_count == 1
    with pytest.raises(LimitError):
        open_document(path, Limits(max_page_pixels=399_999_999))


def test_a_cut_tiff_has_the_frames_that_arrived_and_one_that_fails(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    frames = [Image.new("L", (100, 100), shade) for shade in (10, 20, 30)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    path.write_bytes(path.read_bytes()[:-5000])
    with open_document(path, LIMITS) as document:
        assert document.page_count == 3
        for index in range(2):
            assert document.page(index).render().image.size == (100, 100)
        with pytest.raises(DocumentError, match=r"^page 3 of cut\.tif cannot be decoded"):
            document.page(2).render()


def test_nothing_is_decoded_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(image: Image.Image) -> None:
        pytest.fail("decoded")

    for name in ("a.png", "a.jpg", "a.tif", "a.webp", "a.gif", "a.bmp"):
        path = tmp_path / name
        Image.new("RGB", (30, 20)).save(path)
        with monkeypatch.context() as patch:
            patch.setattr("PIL.ImageFile.ImageFile.load", refuse)
            with open_document(path, LIMITS) as document:
                page = document.page(0)
                assert page.rotation == 0
        assert page.render().image.size == (30, 20)


def test_a_tiff_that_points_back_at_itself_is_one_page(tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    Image.new("L", (10, 10)).save(path)
    content = bytearray(path.read_bytes())
    entries = int.from_bytes(content[8:10], "little")
    content[10 + 12 * entries : 14 + 12 * entries] = (8).to_bytes(4, "little")
    path.write_bytes(content)
    with open_document(path, LIMITS) as document:
        assert document.page_count == 1
        assert document.page(0).render().image.size == (10, 10)
