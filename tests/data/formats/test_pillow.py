import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from unet_jax.data.formats.pillow import decode_image, decode_mask, read_header
from unet_jax.errors import UserError


def ids_in(data, name):
    return decode_mask(data, name).ids


SHAPE = 11, 7


def encode(opened, kind="PNG", **options):
    data = io.BytesIO()
    opened.save(data, kind, **options)
    return data.getvalue()


def random(*channels):
    return np.random.default_rng(0).integers(0, 256, (*SHAPE, *channels), np.uint8)


def test_rgb_is_exact():
    rgb = random(3)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(rgb)), "x"), rgb)


def test_grey_becomes_three_equal_channels():
    grey = random()
    image = decode_image(encode(Image.fromarray(grey)), "x")
    np.testing.assert_array_equal(image, np.stack([grey] * 3, -1))


def test_one_bit_is_black_and_white():
    bits = random() > 127
    image = decode_image(encode(Image.fromarray(bits)), "x")
    np.testing.assert_array_equal(image, np.stack([bits * np.uint8(255)] * 3, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(mode):
    channels = random(len(mode))
    image = decode_image(encode(Image.fromarray(channels)), "x")
    expected = channels[..., :3] if mode == "RGBA" else np.stack([channels[..., 0]] * 3, -1)
    np.testing.assert_array_equal(image, expected)


def indexed(bits=8):
    ids = random() >> 8 - bits
    palette = np.random.default_rng(1).integers(0, 256, (2**bits, 3), np.uint8)
    opened = Image.fromarray(ids)
    opened.putpalette(palette.tobytes())
    return ids, palette, opened


@pytest.mark.parametrize("transparency", [{}, {"transparency": 3}, {"transparency": bytes(16)}])
def test_indices_become_colours_of_the_palette(transparency):
    ids, palette, opened = indexed(4)
    image = decode_image(encode(opened, **transparency), "x")
    np.testing.assert_array_equal(image, palette[ids])


def test_cmyk():
    cmyk = random(4)
    cmyk[..., 3] = 0  # without black, Pillow's conversion is the complement
    opened = Image.frombytes("CMYK", SHAPE[::-1], cmyk.tobytes())
    image = decode_image(encode(opened, "TIFF"), "x")
    np.testing.assert_array_equal(image, 255 - cmyk[..., :3])
    assert decode_image(encode(opened, "JPEG"), "x").shape == (*SHAPE, 3)


def test_jpeg_whatever_the_name_says():
    image = decode_image(encode(Image.fromarray(random(3)), "JPEG"), "image.png")
    assert image.shape == (*SHAPE, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_mask_is_the_indices_and_not_the_colours(bits):
    ids, _, opened = indexed(bits)
    mask = ids_in(encode(opened, bits=bits, transparency=1), "x")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)


def test_a_grey_mask_is_exact():
    grey = random()
    np.testing.assert_array_equal(ids_in(encode(Image.fromarray(grey)), "x"), grey)


def test_a_one_bit_mask_holds_0_and_1():
    bits = random() > 127
    for kind in ("PNG", "TIFF", "BMP"):
        mask = ids_in(encode(Image.fromarray(bits), kind), "x")
        np.testing.assert_array_equal(mask, np.where(bits, 1, 0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_in_colour_is_an_error(mode):
    data = encode(Image.fromarray(random(len(mode))))
    with pytest.raises(UserError, match=rf"masks/a\.png .*'{mode}'.* one 8-bit"):
        ids_in(data, "masks/a.png")


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize(
    "data",
    [
        encode(Image.fromarray(random().astype(np.uint16) * 100), "TIFF"),
        encode(Image.fromarray(random().astype(np.float32)), "TIFF"),
    ],
    ids=["uint16", "float32"],
)
def test_more_than_8_bits_are_an_error(decode, data):
    with pytest.raises(UserError, match=r"a\.png .*8.bit"):
        decode(data, "a.png")


@pytest.mark.parametrize("turn", [1, 6])
def test_a_grey_png_of_16_bits_keeps_its_one_channel(turn):
    grey = np.random.default_rng(0).integers(0, 2**16, (5, 9)).astype(np.uint16)
    exif = Image.Exif()
    exif[274] = turn
    data = encode(Image.fromarray(grey), exif=exif)
    expected = grey if turn == 1 else np.rot90(grey, -1)
    image = decode_image(data, "x")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, expected[..., None])
    assert read_header(data, "x")[:3] == (expected.shape, 1, "uint16")
    with pytest.raises(UserError, match=r"a\.png is a mask with .*8.bit"):
        decode_mask(data, "a.png")


def test_16_bits_per_colour_are_an_error():
    # Pillow writes no such file; this is the header of one with its first row.
    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + bytes(range(12))))
    data = b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")
    assert np.asarray(Image.open(io.BytesIO(data))).dtype == np.uint8  # cut without a word
    with pytest.raises(UserError, match=r"a\.png .*16 bits.*8 bits"):
        decode_image(data, "a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
@pytest.mark.parametrize("decode", [decode_image, decode_mask])
def test_damage_is_a_user_error_that_names_the_file(decode, kind):
    rng = np.random.default_rng(0)
    whole = encode(Image.fromarray(random()), kind)
    messages = []
    for _ in range(300):
        data = bytearray(whole)
        if rng.integers(2):
            del data[rng.integers(len(data)) :]
        else:
            for position in rng.integers(0, len(data), 3):
                data[position] = rng.integers(256)
        try:
            decode(bytes(data), "some/file.x")
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all("some/file.x" in message for message in messages)


def test_no_image_at_all():
    for data in (b"", b"text", bytes(1000), b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(UserError, match=r"a\.png cannot be read as an image"):
            decode_image(data, "a.png")


def test_too_large_an_image_is_a_user_error(monkeypatch):
    data = encode(Image.fromarray(random()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(UserError, match=r"a\.png"):
        decode_image(data, "a.png")
