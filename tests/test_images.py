import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from unet_jax.data.images import decode_image, decode_mask, resize_image, resize_label
from unet_jax.errors import UserError

SHAPE = 11, 7


def encode(picture, kind="PNG", **options):
    data = io.BytesIO()
    picture.save(data, kind, **options)
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
    picture = Image.fromarray(ids)
    picture.putpalette(palette.tobytes())
    return ids, palette, picture


@pytest.mark.parametrize("transparency", [{}, {"transparency": 3}, {"transparency": bytes(16)}])
def test_indices_become_colours_of_the_palette(transparency):
    ids, palette, picture = indexed(4)
    image = decode_image(encode(picture, **transparency), "x")
    np.testing.assert_array_equal(image, palette[ids])


def test_cmyk():
    cmyk = random(4)
    cmyk[..., 3] = 0  # without black, Pillow's conversion is the complement
    picture = Image.frombytes("CMYK", SHAPE[::-1], cmyk.tobytes())
    image = decode_image(encode(picture, "TIFF"), "x")
    np.testing.assert_array_equal(image, 255 - cmyk[..., :3])
    assert decode_image(encode(picture, "JPEG"), "x").shape == (*SHAPE, 3)


def test_jpeg_whatever_the_name_says():
    image = decode_image(encode(Image.fromarray(random(3)), "JPEG"), "picture.png")
    assert image.shape == (*SHAPE, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_mask_is_the_indices_and_not_the_colours(bits):
    ids, _, picture = indexed(bits)
    mask = decode_mask(encode(picture, bits=bits, transparency=1), "x")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, ids)


def test_a_grey_mask_is_exact():
    grey = random()
    np.testing.assert_array_equal(decode_mask(encode(Image.fromarray(grey)), "x"), grey)


def test_a_one_bit_mask_holds_0_and_1():
    bits = random() > 127
    for kind in ("PNG", "TIFF", "BMP"):
        mask = decode_mask(encode(Image.fromarray(bits), kind), "x")
        np.testing.assert_array_equal(mask, np.where(bits, 1, 0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_in_colour_is_an_error(mode):
    data = encode(Image.fromarray(random(len(mode))))
    with pytest.raises(UserError, match=rf"masks/a\.png .*'{mode}'.* one 8-bit"):
        decode_mask(data, "masks/a.png")


@pytest.mark.parametrize("decode", [decode_image, decode_mask])
@pytest.mark.parametrize(
    "data",
    [
        encode(Image.fromarray(random().astype(np.uint16) * 100)),
        encode(Image.fromarray(random().astype(np.float32)), "TIFF"),
    ],
    ids=["uint16", "float32"],
)
def test_more_than_8_bits_are_an_error(decode, data):
    with pytest.raises(UserError, match=r"a\.png .*8.bit"):
        decode(data, "a.png")


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


def test_no_picture_at_all():
    for data in (b"", b"text", bytes(1000), b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(UserError, match=r"a\.png cannot be read as a picture"):
            decode_image(data, "a.png")


def test_too_large_a_picture_is_a_user_error(monkeypatch):
    data = encode(Image.fromarray(random()))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(UserError, match=r"a\.png"):
        decode_image(data, "a.png")


def test_resize_to_the_same_size_changes_nothing():
    rgb, grey = random(3), random()
    assert resize_image(rgb, SHAPE) is rgb
    assert resize_label(grey, SHAPE) is grey


@pytest.mark.parametrize("size", [(3, 5), (22, 14), (11, 20), (1, 1), (64, 3)])
def test_resize_label_takes_the_nearest_pixel_and_invents_no_value(size):
    label = random() % 3 * 100
    resized = resize_label(label, size)
    assert resized.dtype == np.uint8
    expected = np.zeros(size, np.uint8)
    for row, column in np.ndindex(size):
        y = int((row + 0.5) * SHAPE[0] / size[0])
        x = int((column + 0.5) * SHAPE[1] / size[1])
        expected[row, column] = label[y, x]
    np.testing.assert_array_equal(resized, expected)


def test_resize_image_halves_by_an_antialiased_triangle():
    """Scale 1/2: weights of the triangle over four pixels, renormalised at the border."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 12, 3), np.uint8)
    expected = image.astype(float)
    for axis in (0, 1):
        moved = np.moveaxis(expected, axis, 0)
        rows = []
        for row in range(len(moved) // 2):
            centre = 2 * row + 1
            taps = [i for i in range(centre - 2, centre + 2) if 0 <= i < len(moved)]
            weights = np.array([1 - abs(i + 0.5 - centre) / 2 for i in taps])
            rows.append(np.tensordot(weights / weights.sum(), moved[taps], 1))
        expected = np.moveaxis(np.array(rows), 0, axis)
    resized = resize_image(image, (4, 6))
    assert resized.dtype == np.uint8
    np.testing.assert_allclose(resized, expected, atol=1.01)  # Pillow rounds after each axis
