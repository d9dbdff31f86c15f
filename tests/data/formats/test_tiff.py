import io
import itertools

import numpy as np
import pytest
import tifffile
from support.encoded import SHOWN, by_pillow, indexed, tiff

from unet_jax.data.formats.pillow import decode_image, decode_mask
from unet_jax.data.formats.tiff import Tiff
from unet_jax.errors import UserError

SIZES = [(1, 1), (1, 7), (257, 3), (37, 51)]
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
ENCODINGS = {
    "array": {},
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "deflate": {"tile": (32, 16), "compression": "zlib"},
    "predictor": {"rowsperstrip": 3, "compression": "zlib", "predictor": True},
    "big": {"bigtiff": True, "byteorder": ">"},
    "LZW": {"tile": (16, 16), "compression": "lzw"},
    "Zstandard": {"compression": "zstd", "rowsperstrip": 7},
}
LAYOUTS = {
    "together": {"planarconfig": "contig"},
    "apart": {"planarconfig": "separate"},
    "shaped": {"metadata": {"axes": "CYX"}},
    "OME": {"metadata": {"axes": "CYX"}, "ome": True},
}


def numbers(shape, dtype="uint16", seed=0):
    values = np.random.default_rng(seed).integers(0, 120, shape)
    return (values / 256 if np.dtype(dtype).kind == "f" else values).astype(dtype)


def file_of(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="minisblack", **options)
    file.seek(0)
    return file


def encode(image, layout="together", **options):
    """Writes an image [H, W, C]."""
    if image.shape[-1] == 1 and layout in ("together", "apart"):
        return file_of(image[..., 0], **options)
    array = image if layout == "together" else np.moveaxis(image, -1, 0)
    return file_of(array, **LAYOUTS[layout], **options)


def windows(size, count=3):
    rng = np.random.default_rng(1)
    for _ in range(count):
        starts = [int(rng.integers(n)) for n in size]
        ends = [int(rng.integers(s, n)) + 1 for s, n in zip(starts, size, strict=True)]
        yield tuple(map(slice, starts, ends))


def in_memory(image):
    """What values become: larger floats float32, 8-bit grey RGB."""
    image = image.astype(np.float32) if image.dtype.kind == "f" else image
    return image.repeat(3, -1) if image.dtype == np.uint8 and image.shape[-1] == 1 else image


def check(file, expected, axes=2):
    file.seek(0)
    header = Tiff().header(file, "x", axes)
    file.seek(0)
    image = Tiff().read(file, "x", axes)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)
    assert (*header.shape, header.channels) == expected.shape
    assert header.dtype == expected.dtype.name
    for window in windows(header.shape):
        file.seek(0)
        np.testing.assert_array_equal(Tiff().read(file, "x", axes, window), expected[window])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_image_is_as_it_was_saved(encoding, size):
    # A part of all cases: each encoding has every layout and every type, each size every channel.
    cases = list(itertools.product(LAYOUTS, range(1, 8)))
    for number, (layout, channels) in list(enumerate(cases))[SIZES.index(size) % 3 :: 3]:
        dtype = TYPES[(number + len(encoding)) % len(TYPES)]
        options = dict(ENCODINGS[encoding])
        if layout == "OME" and (options.pop("byteorder", None) or dtype in ("float16", "float64")):
            dtype = "uint16"
        if options.get("predictor") and dtype == "float16":
            dtype = "float32"
        image = numbers((*size, channels), dtype)
        check(encode(image, layout, **options), in_memory(image))


@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_keeps_its_largest_values(dtype):
    limits = np.finfo("float16") if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    image = np.array([[limits.min, limits.max], [0, 1]]).astype(dtype)[..., None].repeat(2, -1)
    check(encode(image), in_memory(image))


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"ome": True}])
def test_pages_are_slices_of_a_volume(options):
    axes = {"metadata": {"axes": "ZYX"}} if options.get("ome") else {}
    volume = numbers((5, 33, 18))
    check(file_of(volume, **options, **axes), volume[..., None], axes=3)
    mask = numbers((5, 33, 18), "uint8")
    file = file_of(mask, **options, **axes)
    assert Tiff().header(file, "x", None).shape == (5, 33, 18)
    for window in windows(mask.shape):
        file.seek(0)
        np.testing.assert_array_equal(Tiff().read_mask(file, "x", window).ids, mask[window])


def test_a_volume_may_have_channels():
    volume = numbers((4, 20, 17, 3))
    file = io.BytesIO()
    axes = {"axes": "ZCYX"}
    tifffile.imwrite(
        file, np.moveaxis(volume, -1, 1), photometric="minisblack", imagej=True, metadata=axes
    )
    check(file, volume, axes=3)


def test_a_window_decodes_only_its_tiles(monkeypatch):
    image = numbers((160, 160, 5))
    file = encode(image, tile=(16, 16), compression="zlib")
    decoded, decode = [], tifffile.TIFF.DECOMPRESSORS[8]
    monkeypatch.setitem(
        tifffile.TIFF.DECOMPRESSORS._codecs,
        8,
        lambda *given, **named: decoded.append(1) or decode(*given, **named),
    )
    window = np.s_[20:40, 30:33]
    np.testing.assert_array_equal(Tiff().read(file, "x", 2, window), image[window])
    assert len(decoded) == 2 * 3 - 2  # rows 16 to 48, columns 16 to 48


@pytest.mark.parametrize("rows", [None, 4])
def test_a_window_reads_only_its_rows(rows):
    image = numbers((500, 40, 2))
    file = encode(image, rowsperstrip=rows)
    read, counted = file.read, []
    file.read = lambda n=-1: counted.append(n) or read(n)
    Tiff().read(file, "x", 2, np.s_[490:493, 3:5])
    assert max(counted) <= 3 * 40 * 2 * 2 + 4096


PHOTOGRAPHS = {
    "grey": by_pillow(numbers((37, 51), "uint8"), "TIFF"),
    "rgb": by_pillow(numbers((37, 51, 3), "uint8"), "TIFF"),
    "rgba": by_pillow(numbers((37, 51, 4), "uint8"), "TIFF"),
    "grey and transparency": by_pillow(numbers((37, 51, 2), "uint8"), "TIFF"),
    "lzw": by_pillow(numbers((37, 51, 3), "uint8"), "TIFF", compression="tiff_lzw"),
    "jpeg": by_pillow(numbers((37, 51, 3), "uint8"), "TIFF", compression="jpeg"),
    "deflate": by_pillow(numbers((1, 7, 3), "uint8"), "TIFF", compression="tiff_adobe_deflate"),
    "packbits": by_pillow(numbers((257, 3), "uint8"), "TIFF", compression="packbits"),
    "indexed": by_pillow(
        indexed(numbers((7, 9), "uint8") % 4, [(0, 0, 0), (9, 0, 0), (0, 8, 0), (1, 2, 3)]), "TIFF"
    ),
    "from white": tiff(numbers((5, 9), "uint8"), 8, photometric=0),
    "one bit": tiff(numbers((5, 9), "uint8") % 2, 1),
    "four bits": tiff(numbers((5, 9), "uint8") % 16, 4),
}


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_8_bit_images_and_masks_are_what_pillow_makes_of_them(kind):
    data = PHOTOGRAPHS[kind]
    check(io.BytesIO(data), decode_image(data, "x"))
    try:
        expected = decode_mask(data, "x")
    except UserError:
        with pytest.raises(UserError, match=r"^x is a mask"):
            Tiff().read_mask(io.BytesIO(data), "x")
    else:
        found = Tiff().read_mask(io.BytesIO(data), "x")
        np.testing.assert_array_equal(found.ids, expected.ids)
        assert (found.palette is None) == (expected.palette is None)


def test_premultiplied_colours_are_what_pillow_makes_of_them():
    rgba = numbers((5, 9, 4), "uint8")
    rgba[..., 3] |= 128
    file = io.BytesIO()
    tifffile.imwrite(file, rgba, photometric="rgb", extrasamples=["assocalpha"])
    check(file, decode_image(file.getvalue(), "x"))


@pytest.mark.parametrize("orientation", SHOWN)
def test_pixels_lie_as_viewers_show_them(orientation):
    image = numbers((5, 9, 4))
    file = encode(image, extratags=[(274, "H", 1, orientation, True)])
    check(file, SHOWN[orientation](image))
    mask = numbers((5, 9))
    file = file_of(mask, extratags=[(274, "H", 1, orientation, True)])
    shown = SHOWN[orientation](mask)
    np.testing.assert_array_equal(Tiff().read_mask(file, "x").ids, shown)
    file.seek(0)
    assert Tiff().header(file, "x", None).shape == shown.shape


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}])
@pytest.mark.parametrize("size", SIZES)
def test_a_mask_of_any_integers_holds_ids(size, dtype, options):
    ids = numbers(size, dtype)
    file = file_of(ids, **options)
    found = Tiff().read_mask(file, "x")
    assert found.ids.dtype == np.uint8
    np.testing.assert_array_equal(found.ids, ids)
    file.seek(0)
    assert Tiff().header(file, "x", None)[:2] == (size, 1)
    for window in windows(ids.shape):
        file.seek(0)
        np.testing.assert_array_equal(Tiff().read_mask(file, "x", window).ids, ids[window])


def test_a_written_mask_is_read_by_the_library(tmp_path):
    ids = numbers((3, 5, 9), "uint8")
    Tiff().write_mask(tmp_path / "deep" / "a.tif", ids, 120)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "deep" / "a.tif"), ids)
    first = (tmp_path / "deep" / "a.tif").read_bytes()
    Tiff().write_mask(tmp_path / "deep" / "a.tif", ids, 120)
    assert (tmp_path / "deep" / "a.tif").read_bytes() == first
    with (tmp_path / "deep" / "a.tif").open("rb") as file:
        np.testing.assert_array_equal(Tiff().read_mask(file, "x").ids, ids)


def two_kinds():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(numbers((5, 9)))
        writer.write(numbers((6, 7)))
    return file


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (file_of(numbers((5, 37, 51))), "holds 5 frames or pages .* with the axes CYX"),
        (two_kinds(), "holds 2 images of different kinds"),
        (file_of(numbers((5, 9), "int64")), "type int64; allowed are uint8"),
        (file_of(np.full((5, 9), np.nan)), "NaN or infinite"),
        (file_of(numbers((5, 9), "complex64")), "type complex64"),
    ],
    ids=["pages", "kinds", "int64", "nan", "complex"],
)
def test_what_is_no_image_is_refused(file, says):
    file.seek(0)
    with pytest.raises(UserError, match=rf"^a/b\.tif .*{says}"):
        Tiff().read(file, "a/b.tif", 2)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (file_of(numbers((5, 9), "float32")), "is a mask of type float32"),
        (file_of(numbers((5, 9), "int16") - 500), "values from -500 to"),
        (encode(numbers((5, 9, 4))), "is a mask of 4 channels"),
        (file_of(numbers((40, 40)), compression="jpegxl"), "JPEGXL compression"),
    ],
    ids=["float", "negative", "channels", "lossy"],
)
def test_what_is_no_mask_is_refused(file, says):
    file.seek(0)
    with pytest.raises(UserError, match=rf"^a/b\.tif .*{says}"):
        Tiff().read_mask(file, "a/b.tif")


def test_a_compression_without_its_decoder_names_the_extra(monkeypatch):
    file = encode(numbers((40, 40, 5)), compression="lzw")

    class Missing:
        def __getitem__(self, key):
            raise KeyError(f"{key} requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", Missing())
    with pytest.raises(UserError, match=r"^a\.tif .*pip install 'unet-jax\[tiff\]'"):
        Tiff().read(file, "a.tif", 2)
    data = PHOTOGRAPHS["lzw"]  # which Pillow decodes
    check(io.BytesIO(data), decode_image(data, "x"))


@pytest.mark.parametrize("window", [None, np.s_[0:100_000, 0:100_000]])
def test_a_tiny_file_that_claims_much_takes_no_memory(window):
    data = bytearray(encode(numbers((40, 40, 5)), compression="zlib").getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as opened:
        tags = [opened.pages[0].tags[number] for number in (256, 257, 278)]
    for tag in tags:  # width, height, rows in a strip
        data[tag.offset + 2 : tag.offset + 4] = (4).to_bytes(2, "little")
        data[tag.valueoffset : tag.valueoffset + 4] = (100_000).to_bytes(4, "little")
    with pytest.raises(UserError, match=r"^a\.tif claims to hold 100000x100000x5 values"):
        Tiff().read(io.BytesIO(bytes(data)), "a.tif", 2, window)


def test_other_files_that_a_file_names_are_not_opened(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "b.tif", numbers((5, 9), seed=1))
    monkeypatch.chdir(tmp_path)
    ome = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="9" SizeY="5" SizeC="2"'
        ' SizeZ="1" SizeT="1"><TiffData FirstC="0" IFD="0" PlaneCount="1"><UUID FileName="a.tif">'
        'urn:uuid:1</UUID></TiffData><TiffData FirstC="1" IFD="0" PlaneCount="1"><UUID '
        'FileName="b.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.tif", numbers((5, 9)), description=ome, metadata=None)
    with (tmp_path / "a.tif").open("rb") as file:
        image = Tiff().read(file, "a.tif", 2)
    np.testing.assert_array_equal(image, numbers((5, 9))[..., None])


def test_a_file_that_lacks_tiles_is_refused():
    data = bytearray(encode(numbers((40, 40, 5)), "apart", tile=(16, 16)).getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as opened:
        tag = opened.pages[0].tags[284]  # how samples are laid out, here to a number that is none
    data[tag.valueoffset] = 9
    with pytest.raises(UserError, match=r"^a\.tif cannot be read .* tiles or strips of"):
        Tiff().read(io.BytesIO(bytes(data)), "a.tif", 2)
