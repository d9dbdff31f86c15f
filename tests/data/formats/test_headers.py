"""What files say and Pillow leaves unchecked, drops or misreads."""

import io

import numpy as np
import pytest
from PIL import Image
from support.encoded import SHOWN, bmp, by_pillow, chunk, exif, indexed, jpeg, png, tiff

from unet_jax.data.formats.pillow import decode_image, decode_mask, read_header
from unet_jax.errors import UserError


def ids_in(data, name):
    return decode_mask(data, name).ids


def shape_in(data, name):
    return read_header(data, name).shape


COLOURS = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (90, 90, 7)]
SIZES = [(1, 1), (1, 40), (7, 3), (16, 16)]


def ids_of(bits, size=(5, 9)):
    return np.random.default_rng(bits).integers(0, 2**bits, size, np.uint8)


def refused(decode, data, says):
    with pytest.raises(UserError, match=rf"^masks/a\.x {says}"):
        decode(data, "masks/a.x")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("write", [png, tiff])
def test_shallow_grey_masks_hold_the_ids_in_the_file(write, bits, size):
    ids = ids_of(bits, size)
    mask = ids_in(write(ids, bits), "x")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)
    # As an image the same file is a grey scale from black to white.
    image = decode_image(write(ids, bits), "x")
    np.testing.assert_array_equal(image[..., 0], ids * (255 // (2**bits - 1)))


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_transparent_value_changes_no_id(bits):
    ids = ids_of(bits)
    mask = ids_in(png(ids, bits, before=chunk(b"tRNS", b"\0\1")), "x")
    np.testing.assert_array_equal(mask, ids)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_an_indexed_mask_holds_its_indices(kind):
    ids = ids_of(2)
    mask, palette = decode_mask(by_pillow(indexed(ids, COLOURS), kind), "x")
    np.testing.assert_array_equal(mask, ids)
    np.testing.assert_array_equal(palette[:4], COLOURS)


@pytest.mark.parametrize("write", [lambda a: by_pillow(a, "GIF"), lambda a: bmp(a, 8, GREYS)])
def test_a_palette_of_greys_in_order_is_one_too(write):
    ids = ids_of(8, (16, 32))
    mask, palette = decode_mask(write(ids), "x")
    np.testing.assert_array_equal(palette[mask], np.stack([ids] * 3, -1))


GREYS = [(value, value, value) for value in range(256)]


@pytest.mark.parametrize("palette", [GREYS[:1] + GREYS[-1:], GREYS[-1:] + GREYS[:1], COLOURS[:2]])
def test_a_one_bit_bmp_holds_its_indices(palette):
    ids = ids_of(1)
    mask, found = decode_mask(bmp(ids, 1, palette), "x")
    np.testing.assert_array_equal(mask, ids)
    np.testing.assert_array_equal(found[:2], palette)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("decode", [decode_image, ids_in])
def test_bmp_files_that_pillow_misreads_are_refused(decode, bits):
    data = bmp(ids_of(1), bits, GREYS[:1] + GREYS[-1:])
    refused(decode, data, f"is a BMP file of {bits} bits with a palette of greys")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_mask_counted_from_white_is_refused(bits):
    data = tiff(ids_of(bits), bits, photometric=0)
    refused(decode_mask, data, "is a mask in a TIFF file that counts from white")
    expected = 255 - ids_of(bits) * (255 // (2**bits - 1))
    np.testing.assert_array_equal(decode_image(data, "x")[..., 0], expected)


@pytest.mark.parametrize("decode", [decode_image, ids_in])
def test_signed_numbers_are_refused(decode):
    data = tiff(ids_of(8), 8, extra=[(339, 2)])
    refused(decode, data, "is a TIFF file of signed numbers.*8-bit PNG")


def test_16_bits_per_colour_are_refused_in_tiff_too():
    array = np.zeros((2, 3, 3), np.uint16)
    data = tiff(array, 16, photometric=2, channels=3)
    assert np.asarray(Image.open(io.BytesIO(data))).dtype == np.uint8  # cut without a word
    refused(decode_image, data, "has pixel format 'RGB', 16 bits; images must have 8 bits")


@pytest.mark.parametrize(
    "data",
    [
        png(ids_of(4, (16, 16)), 4),
        png(ids_of(8, (1, 3)), 8),
        png(ids_of(2), 2, colour=3, before=chunk(b"PLTE", bytes(np.ravel(COLOURS).tolist()))),
        by_pillow(indexed(ids_of(2, (24, 17)), COLOURS)),
    ],
    ids=["grey4", "grey8", "indexed2", "pillow"],
)
def test_every_single_bit_of_a_png_that_flips_is_found(data):
    """A mask with one flipped bit gives the same ids or an error, never other ids."""
    right = ids_in(data, "x")
    errors = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = ids_in(bytes(flipped), "x")
        except UserError as error:
            assert str(error).startswith("x cannot be read as an image")  # noqa: PT017
            errors += 1
        else:
            np.testing.assert_array_equal(found, right)
    assert errors > 6 * len(data)


@pytest.mark.parametrize("decode", [decode_image, ids_in])
def test_a_wrong_checksum_names_the_file_and_the_part(decode):
    good = chunk(b"tEXt", b"Title\0mask")
    data = png(ids_of(8), before=good[:-1] + bytes([good[-1] ^ 1]))
    refused(decode, data, r"cannot be read as an image \(the checksum of its part b'tEXt' at byte")
    for whole in (png(ids_of(8)), png(ids_of(8), after=good)):
        assert decode(whole + b"behind the end", "x").shape[:2] == (5, 9)
        for length in range(8, len(whole)):
            with pytest.raises(UserError):
                decode(whole[:length], "x")


@pytest.mark.parametrize("options", [{}, {"quality": 100, "subsampling": 0}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_is_no_mask(mode, options):
    data = by_pillow(Image.fromarray(ids_of(1)).convert(mode), "JPEG", **options)
    refused(decode_mask, data, "is a mask in a JPEG file, .* PNG")
    assert decode_image(data, "x").shape == (5, 9, 3)


def test_a_lossy_tiff_is_no_mask():
    data = by_pillow(ids_of(1, (16, 16)), "TIFF", compression="jpeg")
    refused(decode_mask, data, "is a mask in a TIFF file with jpeg compression")
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        data = by_pillow(ids_of(8), "TIFF", compression=compression)
        np.testing.assert_array_equal(ids_in(data, "x"), ids_of(8))


def test_a_webp_mask_must_be_lossless():
    ids = ids_of(4)
    opened = Image.fromarray(ids).convert("RGB")
    np.testing.assert_array_equal(ids_in(by_pillow(opened, "WEBP", lossless=True), "x"), ids)
    extended = {"exif": exif(1), "icc_profile": b"odd"}  # then it begins with another part
    data = by_pillow(opened, "WEBP", lossless=True, **extended)
    np.testing.assert_array_equal(ids_in(data, "x"), ids)
    for options in ({"quality": 100}, {"quality": 100, **extended}):
        data = by_pillow(opened, "WEBP", **options)
        refused(decode_mask, data, "is a mask in a lossy WebP file")
    coloured = np.stack([ids, ids, 15 - ids], -1)
    refused(decode_mask, by_pillow(coloured, "WEBP", lossless=True), ".*Convert colours to ids")


@pytest.mark.parametrize(
    ("mode", "cure"),
    [
        ("RGB", "Convert colours to ids first"),
        ("RGBA", "Convert colours to ids first"),
        ("LA", "Save it without transparency"),
        ("F", "Save it with 8 bits"),
    ],
)
def test_the_advice_fits_what_is_wrong(mode, cure):
    opened = Image.new(mode, (3, 2))
    data = by_pillow(opened, "TIFF" if mode == "F" else "PNG")
    refused(
        decode_mask, data, rf"is a mask with pixel format '{mode}'; .* one 8-bit .*\. {cure}\.$"
    )


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
@pytest.mark.parametrize("decode", [decode_image, ids_in])
def test_more_than_one_frame_is_an_error(decode, kind):
    pages = [Image.fromarray(ids_of(1, (6, 8)) * value) for value in (1, 2, 3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = by_pillow(pages[0], kind, save_all=True, append_images=pages[1:], **options)
    refused(decode, data, "holds 3 frames or pages; it must hold one")
    one = by_pillow(pages[0].convert("RGB") if kind == "WEBP" else pages[0], kind, **options)
    assert decode(one, "x").shape[:2] == (6, 8)


def test_what_a_camera_keeps_behind_a_jpeg_does_not_matter():
    first, preview = (np.full((8, 8, 3), value, np.uint8) for value in (200, 10))
    pages = {"save_all": True, "append_images": [Image.fromarray(preview)]}
    data = by_pillow(first, "MPO", **pages)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_allclose(decode_image(data, "x"), 200, atol=2)


def test_a_gif_whose_frame_covers_a_part_of_it_is_an_error():
    data = bytearray(by_pillow(indexed(ids_of(2), COLOURS), "GIF"))
    data[6], data[8] = 20, 21  # the screen's width and height
    refused(decode_mask, bytes(data), "holds a frame that covers only a part of it")


def encode_turned(stored, orientation, where):
    """Writes stored pixels [H, W] or [H, W, 3] with an orientation."""
    grey = stored.ndim == 2
    block = chunk(b"eXIf", exif(orientation))
    options = {"exif": b"Exif\0\0" + exif(orientation)}
    writers = {
        "jpeg": lambda: jpeg(stored, orientation),
        "png": lambda: png(stored, colour=0 if grey else 2, before=block),
        "png, behind the pixels": lambda: png(stored, colour=0 if grey else 2, after=block),
        "webp": lambda: by_pillow(
            Image.fromarray(stored).convert("RGB"), "WEBP", lossless=True, **options
        ),
        "tiff": lambda: tiff(
            stored,
            8,
            photometric=1 if grey else 2,
            extra=[(274, orientation)],
            channels=1 if grey else 3,
        ),
    }
    return writers[where]()


WHERE = ("jpeg", "png", "png, behind the pixels", "webp", "tiff")


@pytest.mark.parametrize("size", [(6, 6), (1, 7), (5, 8)])
@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("where", WHERE)
def test_images_and_masks_lie_as_viewers_show_them(where, orientation, size):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (*size, 3), np.uint8)
    # Blocks of 8x8 pixels of one colour come through JPEG nearly as they were.
    scale = 8 if where == "jpeg" else 1
    stored = blocks.repeat(scale, 0).repeat(scale, 1)
    data = encode_turned(stored, orientation, where)
    shown = SHOWN[orientation](stored)
    image = decode_image(data, "x")
    assert image.shape == shown.shape
    np.testing.assert_allclose(
        image.astype(int).mean(-1), shown.mean(-1), atol=8 if where == "jpeg" else 1e-9
    )
    assert shape_in(data, "x") == shown.shape[:2]
    if where != "jpeg":
        np.testing.assert_array_equal(image, shown)
        ids = stored[..., 0] % 5
        mask = ids_in(encode_turned(ids, orientation, where), "x")
        np.testing.assert_array_equal(mask, SHOWN[orientation](ids))


@pytest.mark.parametrize("block", [exif(0), exif(9), exif(6)[:9], b"", b"\0" * 40, exif(6)[2:]])
def test_an_orientation_that_means_nothing_turns_nothing(block):
    ids = ids_of(8)
    data = png(ids, before=chunk(b"eXIf", block))
    np.testing.assert_array_equal(ids_in(data, "x"), ids)
    assert shape_in(data, "x") == ids.shape


def test_xmp_does_not_turn_what_viewers_leave():
    ids, text = ids_of(8), b'<x:xmpmeta tiff:Orientation="6"/>'
    as_text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text)
    files = png(ids, before=as_text), by_pillow(ids, "TIFF", tiffinfo={700: text})
    for data in files:
        np.testing.assert_array_equal(ids_in(data, "x"), ids)
        assert shape_in(data, "x") == ids.shape
