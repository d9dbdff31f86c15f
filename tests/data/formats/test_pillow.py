import io

import numpy as np
import pytest
from PIL import Image
from support.encoded import SHOWN, chunk, exif, png

from unet_jax.data.formats.pillow import Pillow, decode_image, decode_mask, read_header
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


def deep_png(image, orientation=1, interlaced=False):
    """A PNG of 16 bits written byte by byte, [H, W, C]."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[image.shape[-1]]
    block = chunk(b"eXIf", exif(orientation))
    return png(image, 16, colour, before=block, interlaced=interlaced)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (257, 3), (37, 51)])
def test_a_png_of_16_bits_keeps_them_and_its_channels(size, channels, interlaced):
    image = np.random.default_rng(0).integers(0, 2**16, (*size, channels), np.uint16)
    data = deep_png(image, interlaced=interlaced)
    found = decode_image(data, "x")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, image)
    assert read_header(data, "x")[:3] == (size, channels, "uint16")
    window = np.s_[size[0] // 2 : size[0], 0:1]
    part = Pillow().read(io.BytesIO(data), "x", 2, window)
    np.testing.assert_array_equal(part, image[window])


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_lie_as_viewers_show_them(channels, orientation):
    image = np.random.default_rng(0).integers(0, 2**16, (5, 9, channels), np.uint16)
    data, shown = deep_png(image, orientation), SHOWN[orientation](image)
    np.testing.assert_array_equal(decode_image(data, "x"), shown)
    assert read_header(data, "x").shape == shown.shape[:2]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_damage_in_a_png_of_16_bits_is_always_found(channels):
    image = np.random.default_rng(0).integers(0, 2**16, (5, 9, channels), np.uint16)
    data, rng = deep_png(image), np.random.default_rng(1)
    for place in rng.integers(8, len(data), 100):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        with pytest.raises(UserError, match=r"^a\.png cannot be read as an image"):
            decode_image(bytes(damaged), "a.png")


def test_a_mask_of_16_bits_may_hold_values_of_16_bits():
    ids = random().astype(np.uint16)
    data = png(ids, 16)
    found = ids_in(data, "x")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ids)
    ids[3, 3], ids[0, 1] = 256, 65535
    found = ids_in(png(ids, 16), "x")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, ids)


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
