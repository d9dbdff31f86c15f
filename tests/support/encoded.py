"""Image files written byte by byte, and what the standards say of them, without Pillow."""

import io
import json
import struct
import zlib

import numpy as np
import tensorstore
from PIL import Image

# How stored pixels [H, W, ...] lie for a viewer: row 0 and column 0 of what is stored are, by the
# EXIF standard, the (1) top left, (2) top right, (3) bottom right, (4) bottom left, (5) left top,
# (6) right top, (7) right bottom, (8) left bottom of what is shown.
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def by_pillow(array, kind="PNG", **options):
    data = io.BytesIO()
    opened = array if isinstance(array, Image.Image) else Image.fromarray(array)
    opened.save(data, kind, **options)
    return data.getvalue()


def indexed(ids, colours):
    opened = Image.fromarray(np.asarray(ids, np.uint8))
    opened.putpalette(np.asarray(colours, np.uint8).tobytes())
    return opened


def pack_rows(array, bits, align=8):
    """Packs each row's samples, first one in the highest bits, to whole bytes."""
    rows = []
    for row in array:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % align)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return rows


def exif(orientation, order="<"):
    """An EXIF block that holds an orientation alone."""
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8)
    return start + struct.pack(f"{order}HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# The seven passes of an interlaced PNG (Adam7): first row and column, and steps.
PASSES = [
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
    *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
]


def png(array, bits=8, colour=0, before=b"", after=b"", interlaced=False):
    """A PNG of grey (colour 0), RGB (2), indexed (3), grey and alpha (4) or RGBA (6) samples."""
    array = np.asarray(array)
    size = array.shape[1], array.shape[0]
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlaced)
    parts = [array[y::down, x::right] for y, x, down, right in PASSES] if interlaced else [array]
    rows = [r for p in parts if p.size for r in pack_rows(p.reshape(len(p), -1), bits)]
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + before + pixels + after + chunk(b"IEND", b"")


def jpeg(array, orientation):
    """A JPEG whose EXIF block was put in by hand."""
    data = by_pillow(array, "JPEG", quality=95, subsampling=0)
    block = b"Exif\0\0" + exif(orientation, ">")
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]


def tiff(array, bits, photometric=1, extra=(), channels=1):
    """A TIFF without compression; extra tags are (number, value) of one short integer."""
    array = np.asarray(array)
    pixels = b"".join(pack_rows(array.reshape(len(array), -1), bits))
    tags = {256: array.shape[1], 257: array.shape[0], 258: bits, 259: 1, 262: photometric}
    tags |= {273: 0, 277: channels, 278: array.shape[0], 279: len(pixels), **dict(extra)}
    start = 8 + 2 + 12 * len(tags) + 4
    many = struct.pack(f"<{channels}H", *[bits] * channels) if channels > 2 else b""
    tags[273] = start + len(many)
    entries = b""
    for number, value in sorted(tags.items()):
        if number == 258 and many:
            entries += struct.pack("<HHII", number, 3, channels, start)
        elif number in (273, 279):  # may be large
            entries += struct.pack("<HHII", number, 4, 1, value)
        else:
            entries += struct.pack("<HHIHH", number, 3, 1, value, 0)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + bytes(4) + many + pixels


def bmp(array, bits, palette):
    """A BMP with a palette of (red, green, blue)."""
    array = np.asarray(array)
    pixels = b"".join(pack_rows(array[::-1], bits, align=32))
    colours = b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    start = 14 + 40 + len(colours)
    shape = array.shape[1], array.shape[0]
    info = struct.pack("<IiiHHIIiiII", 40, *shape, 1, bits, 0, len(pixels), 0, 0, len(palette), 0)
    head = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    return head + info + colours + pixels


# Of Zarr arrays, by version.
CODECS = {
    2: {
        "raw": {"compressor": None},
        "blosc": {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}},
        "zlib": {"compressor": {"id": "zlib", "level": 1}},
        "zstd": {"compressor": {"id": "zstd", "level": 1}},
    },
    3: {
        "raw": {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
        "gzip": {"codecs": ["bytes", {"name": "gzip", "configuration": {"level": 1}}]},
        "crc32c": {"codecs": ["bytes", {"name": "zstd"}, "crc32c"]},
        "shards": {
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {"chunk_shape": [1, 8, 4], "codecs": ["bytes", "crc32c"]},
                }
            ]
        },
    },
}


def write_array(folder, array, version=2, codec="raw", **metadata):
    """Writes an array by tensorstore, in chunks that do not divide it."""
    grid = [1, *[16, 8][: array.ndim - 1]] + [2] * max(0, array.ndim - 3)
    if version == 2:
        made = {"chunks": grid, "dtype": array.dtype.str}
    else:
        config = {"chunk_shape": grid}
        made = {
            "chunk_grid": {"name": "regular", "configuration": config},
            "data_type": array.dtype.name,
        }
    spec = {
        "driver": {2: "zarr", 3: "zarr3"}[version],
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "metadata": {"shape": array.shape, **made, **CODECS[version][codec], **metadata},
    }
    tensorstore.open(spec, create=True).result().write(array).result()


def write_image(folder, array, axes, version=2, codec="raw", path="0", scale=None):
    """Writes an OME-Zarr image, of which the axes have the letters of a text."""
    scales = {
        "axes": [{"name": axis, "type": "channel" if axis == "c" else "space"} for axis in axes],
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": [{"type": "scale", "scale": scale or [1] * len(axes)}],
            }
        ],
    }
    write_array(folder / path, array, version, codec)
    if version == 2:
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
        (folder / ".zattrs").write_text(json.dumps({"multiscales": [scales]}))
    else:
        attributes = {"ome": {"version": "0.5", "multiscales": [scales]}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (folder / "zarr.json").write_text(json.dumps(group))
