"""Files that must harm no server: bombs, damage, other formats, names that lead away."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image


def _encode(image, kind, **how):
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width, height, bits=8, colours=2):
    """Encodes a PNG of a few KB that claims so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    start = b"\x89PNG\r\n\x1a\n"
    return start + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _npy(shape, descr="|u1"):
    """Encodes the header of an array, without its numbers."""
    buffer = io.BytesIO()
    told = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, told)
    return buffer.getvalue()


def _zip(name, data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def _tiff_bomb(width, height):
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8)]
    entries += [(262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 4)]
    body = struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0)


def files():
    """Returns 200 pairs of a name and bytes of no image that a model for RGB reads."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image, grey = Image.fromarray(pixels), pixels[..., 0].astype(np.uint16)
    good = {
        kind: _encode(image, kind, **how)
        for kind, how in {"PNG": {}, "JPEG": {}, "TIFF": {"compression": "tiff_adobe_deflate"},
                          "GIF": {}, "BMP": {}, "WEBP": {"lossless": True}}.items()
    }  # fmt: skip
    frames = [Image.fromarray(pixels + i) for i in range(3)]
    loop = {"save_all": True, "append_images": frames[1:]}
    found = [
        ("empty.png", b""),
        ("bomb.png", png_bomb(60_000, 60_000)),
        ("bomb16.png", png_bomb(2**31 - 1, 2**31 - 1, 16)),
        ("grey_bomb.png", png_bomb(100_000, 50_000, 1, 0)),
        (
            "long_text.png",
            good["PNG"][:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26))),
        ),
        ("bomb.tif", _tiff_bomb(2**20, 2**20)),
        ("bomb.npy", _npy((10**6, 10**6, 3))),
        ("huge.npy", _npy((2**62, 3, 3))),
        ("negative.npy", _npy((-1, -1, 3))),
        ("object.npy", _npy((4, 4, 3), "|O")),
        ("short.npy", _npy((40, 60, 3)) + b"12"),
        ("code.npy", b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').system('true')".ljust(64)),
        ("bomb.npz", _zip("image.npy", _npy((2**15, 2**15, 3)) + bytes(1 << 24))),
        ("away.npz", _zip("../../etc/passwd", b"root")),
        ("deep.png", _encode(Image.fromarray(grey), "PNG")),
        ("frames.gif", _encode(frames[0], "GIF", **loop)),
        ("frames.tif", _encode(frames[0], "TIFF", **loop)),
        ("frames.png", _encode(frames[0], "PNG", **loop)),
        ("frames.webp", _encode(frames[0], "WEBP", **loop)),
        ("page.html", b"<html><script>alert(1)</script></html>"),
        (
            "drawing.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/>",
        ),
        ("entities.xml", b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>"),
        ("pickle.pt", b"\x80\x04cos\nsystem\n(S'true'\ntR."),
        ("program.exe", b"MZ" + bytes(1000)),
        ("program", b"\x7fELF" + bytes(1000)),
        ("paper.pdf", b"%PDF-1.7\n" + bytes(100)),
        ("script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"),
        ("../../../etc/passwd", b"root:x:0:0"),
        ("C:\\windows\\win.ini", b"[fonts]"),
        ("a\x7fb.png", b"\x89PNG\r\n\x1a\n"),
        ("x" * 5000 + ".png", b"x"),
        ("%2e%2e%2fa.png", b"\xff\xd8\xff"),
    ]
    for kind in ("PNG", "JPEG", "TIFF", "GIF", "WEBP"):  # BMP files have no marks of where they end
        data = good[kind]
        cuts = random.integers(1, len(data) // 2, 20)
        found += [(f"cut{cut}.{kind.lower()}", data[:cut]) for cut in cuts]
    found += [
        (f"noise{i}.png", random.bytes(int(n))) for i, n in enumerate(random.integers(1, 3000, 30))
    ]
    magics = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"GIF89a", b"BM", b"\x93NUMPY\x01\0"]
    magics += [b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"PK\x03\x04", b"MM\0+"]
    while len(found) < 200:
        magic = magics[len(found) % len(magics)]
        found.append((f"start{len(found)}.png", magic + random.bytes(300)))
    return found
