"""Damages one byte of encoded images at a time, and compares what is read with what libraries read.

python -m experiments.damage.formats               # every encoding at 200 places
python -m experiments.damage.formats --places=10   # at fewer

A right answer is one line that names the file, or exactly the pixels that the format's own library
gives for the same bytes; where there are checksums, damage to pixels has to be found. The exit code
is 1 where an answer is neither, or does not come.
"""

import argparse
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SECONDS = 20  # after which an answer does not come
SIZE = (37, 51)
_HEADER = 512  # bytes in which the headers of most encodings lie


class Encoding(NamedTuple):
    """A way to store an image.

    Attributes:
        suffix: Of its format.
        write: Writes an image [H, W, C] to a path.
        image: That image.
        read: What libraries read of the path, in any order of the axes; none where there are
            checksums, so that other pixels are always wrong.
        only: The files that are damaged of a folder, as a pattern.
    """

    suffix: str
    write: Callable[[Path, np.ndarray], None]
    image: np.ndarray
    read: tuple[Callable[[Path], np.ndarray], ...]
    only: str = "**/*"


def try_all(folder: Path, places: int, seed: int) -> int:
    """Damages every encoding, and prints what was answered.

    Args:
        folder: An empty one.
        places: How many places of each.
        seed: Of the places.

    Returns:
        How many answers were wrong.
    """
    total: Counter[str] = Counter()
    for name, encoding in encodings().items():
        counts: Counter[str] = Counter()
        for answer in _try(folder, name, encoding, places, seed):
            kind = answer.partition(":")[0]
            counts[kind] += 1
            if kind == "WRONG":
                print(f"{name}: {answer}", flush=True)
        said = ", ".join(f"{counts[kind]} {kind}" for kind in ("one line", "same", "WRONG"))
        print(f"{name:<24} {said}", flush=True)
        total += counts
    print(f"{total.total()} answers, {total['WRONG']} wrong")
    return total["WRONG"]


def _try(folder: Path, name: str, encoding: Encoding, places: int, seed: int) -> Iterator[str]:
    """Yields "one line", "same", or "WRONG: " and what is wrong."""
    path = folder / f"{name.replace(' ', '_')}{encoding.suffix}"
    encoding.write(path, encoding.image)
    files = [path] if path.is_file() else sorted(f for f in path.glob(encoding.only) if f.is_file())
    whole = [file.read_bytes() for file in files]
    ends = np.cumsum([len(data) for data in whole])
    rng = np.random.default_rng(seed)
    yield _answer(path, encoding)  # as it is, it must be read
    most = [min(_HEADER, ends[-1]), ends[-1]] * places  # headers are small and matter most
    for place in rng.integers(0, most[:places]):
        number = int(np.searchsorted(ends, place, side="right"))
        data = bytearray(whole[number])
        position = int(place) - int(ends[number] - len(data))
        data[position] ^= int(rng.integers(1, 256))
        files[number].write_bytes(bytes(data))
        answer = _answer(path, encoding)
        yield f"{answer} (byte {position} of {files[number].name})" if ":" in answer else answer
        files[number].write_bytes(whole[number])


def _answer(path: Path, encoding: Encoding) -> str:
    from unet_jax.data.files import read_image
    from unet_jax.errors import UserError

    def ring(*_: object) -> None:
        raise TimeoutError(f"no answer in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read_image(path, 2)
            window = tuple(slice(n // 3, n // 3 + (n + 1) // 2) for n in found.shape[:2])
            part = read_image(path, 2, window=window)
    except UserError as error:
        is_line = str(error).startswith(str(path)) and "\n" not in str(error)
        return "one line" if is_line else f"WRONG: says {error}"
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if not np.array_equal(part, found[window]):
        return "WRONG: a window is not that part of the whole"
    return _compare(path, encoding, found)


def _compare(path: Path, encoding: Encoding, found: np.ndarray) -> str:
    wanted, errors = [] if encoding.read else [encoding.image], []
    for read in encoding.read:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted += _orders(read(path))
        except Exception as error:  # libraries raise many kinds
            errors.append(f"{type(error).__name__}: {error}")
    if not wanted:
        return f"WRONG: no library reads it ({'; '.join(errors)})"
    return "same" if any(np.array_equal(found, one) for one in wanted) else "WRONG: other pixels"


def _orders(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the ways in which a library's array [*n] may be an image [H, W, C]."""
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
    values = values.squeeze() if values.ndim > 3 else values
    yield values
    yield values[..., None]
    yield np.stack([values] * 3, axis=-1)
    yield values[..., :3]
    yield np.moveaxis(values, 0, -1)


def encodings() -> dict[str, Encoding]:
    """Returns all encodings that are damaged, by name."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.arange(SIZE[0]), np.arange(SIZE[1]))[..., None] * [1, 2, 3]
    rgb = (smooth + rng.integers(0, 9, smooth.shape)).astype(np.uint8)
    deep = rng.integers(0, 2**16, (*SIZE, 5)).astype(np.uint16)
    return {**_pillow(rgb), **_png(deep), **_tiff(rgb, deep), **_numpy(deep), **_zarr(deep)}


def _pillow(rgb: np.ndarray) -> dict[str, Encoding]:
    from PIL import Image

    def saved(mode: str, kind: str, **options: Any) -> Callable[[Path, np.ndarray], None]:
        def write(path: Path, image: np.ndarray) -> None:
            Image.fromarray(image).convert(mode).save(path, kind, **options)

        return write

    def read(path: Path) -> np.ndarray:
        opened = Image.open(path)
        return np.asarray((opened.convert("RGBA") if opened.mode == "P" else opened).convert("RGB"))

    grey = np.asarray(Image.fromarray(rgb).convert("L"))[..., None].repeat(3, axis=-1)
    return {
        "PNG RGB": Encoding(".png", saved("RGB", "PNG"), rgb, ()),
        "PNG grey": Encoding(".png", saved("L", "PNG"), grey, ()),
        "JPEG": Encoding(".jpg", saved("RGB", "JPEG"), rgb, (read,)),
        "JPEG progressive": Encoding(".jpg", saved("RGB", "JPEG", progressive=True), rgb, (read,)),
        "WebP": Encoding(".webp", saved("RGB", "WEBP"), rgb, (read,)),
        "WebP lossless": Encoding(".webp", saved("RGB", "WEBP", lossless=True), rgb, (read,)),
        "BMP": Encoding(".bmp", saved("RGB", "BMP"), rgb, (read,)),
        "BMP indexed": Encoding(".bmp", saved("P", "BMP"), rgb, (read,)),
        "GIF": Encoding(".gif", saved("P", "GIF"), rgb, (read,)),
    }


def _png(deep: np.ndarray) -> dict[str, Encoding]:
    def write(path: Path, image: np.ndarray) -> None:
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(image)))

    return {f"PNG 16 bits, {c}": Encoding(".png", write, deep[..., :c], ()) for c in (3, 4)}


def _tiff(rgb: np.ndarray, deep: np.ndarray) -> dict[str, Encoding]:
    def saved(**options: Any) -> Callable[[Path, np.ndarray], None]:
        def write(path: Path, image: np.ndarray) -> None:
            import tifffile

            apart = options.get("planarconfig") == "separate" or "metadata" in options
            tifffile.imwrite(path, np.moveaxis(image, -1, 0) if apart else image, **options)

        return write

    def read(path: Path) -> np.ndarray:
        import tifffile

        return tifffile.imread(path)

    def read_rgb(path: Path) -> np.ndarray:
        from PIL import Image

        return np.asarray(Image.open(path).convert("RGB"))

    grey = {"photometric": "minisblack"}
    tiles = {**grey, "tile": (16, 16)}
    made = {
        "TIFF array": {**grey, "planarconfig": "contig"},
        "TIFF apart": {**grey, "planarconfig": "separate"},
        "TIFF tiles": {**tiles, "planarconfig": "contig"},
        "TIFF Deflate": {**tiles, "planarconfig": "contig", "compression": "zlib"},
        "TIFF LZW": {**tiles, "planarconfig": "contig", "compression": "lzw"},
        "TIFF Zstandard": {**tiles, "planarconfig": "separate", "compression": "zstd"},
        "BigTIFF": {**grey, "planarconfig": "contig", "bigtiff": True},
        "OME-TIFF": {**grey, "metadata": {"axes": "CYX"}, "ome": True},
    }
    floats = (deep / 2**16).astype(np.float32)
    return {
        **{
            name: Encoding(".tif", saved(**options), deep, (read,))
            for name, options in made.items()
        },
        "TIFF float": Encoding(".tif", saved(**made["TIFF Deflate"]), floats, (read,)),
        "TIFF RGB": Encoding(".tif", saved(photometric="rgb"), rgb, (read_rgb, read)),
        "TIFF RGB LZW": Encoding(
            ".tif", saved(photometric="rgb", compression="lzw"), rgb, (read_rgb, read)
        ),
        "TIFF RGB JPEG": Encoding(
            ".tif", saved(photometric="ycbcr", compression="jpeg"), rgb, (read_rgb, read)
        ),
    }


def _numpy(deep: np.ndarray) -> dict[str, Encoding]:
    def saved(save: Callable[..., None]) -> Callable[[Path, np.ndarray], None]:
        return lambda path, image: save(path, image)

    return {
        "npy": Encoding(".npy", saved(np.save), deep, (np.load,)),
        "npz": Encoding(".npz", saved(np.savez), deep, ()),
        "npz compressed": Encoding(".npz", saved(np.savez_compressed), deep, ()),
    }


def _zarr(deep: np.ndarray) -> dict[str, Encoding]:
    def spec(path: Path, driver: str) -> dict[str, Any]:
        return {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}

    def saved(driver: str, **metadata: Any) -> Callable[[Path, np.ndarray], None]:
        def write(path: Path, image: np.ndarray) -> None:
            import tensorstore

            made = {"shape": image.shape, **metadata}
            opened = tensorstore.open({**spec(path, driver), "metadata": made}, create=True)
            opened.result().write(image).result()

        return write

    def read(path: Path) -> np.ndarray:
        import tensorstore

        return tensorstore.open(spec(path, "auto"), open=True).result().read().result()

    two = {"chunks": [16, 16, 2], "dtype": "<u2"}
    grid = {"name": "regular", "configuration": {"chunk_shape": [16, 16, 2]}}
    three = {"chunk_grid": grid, "data_type": "uint16"}
    blosc = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
    zlib = {"id": "zlib", "level": 1}
    checked = saved("zarr3", **three, codecs=["bytes", {"name": "zstd"}, "crc32c"])
    return {
        "Zarr 2": Encoding(".zarr", saved("zarr", **two, compressor=None), deep, (read,)),
        "Zarr 2 blosc": Encoding(".zarr", saved("zarr", **two, compressor=blosc), deep, (read,)),
        "Zarr 2 zlib": Encoding(".zarr", saved("zarr", **two, compressor=zlib), deep, (read,)),
        "Zarr 3": Encoding(".zarr", saved("zarr3", **three), deep, (read,)),
        "Zarr 3 checksums": Encoding(".zarr", checked, deep, (), "c/**/*"),
        "Zarr metadata": Encoding(".zarr", checked, deep, (read,), "zarr.json"),
    }


def main() -> int:
    """Does what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    places = "at how many places each encoding is damaged"
    parser.add_argument("--places", type=int, default=200, help=places)
    parser.add_argument("--seed", type=int, default=0, help="of the places and what stands there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return bool(try_all(Path(folder), options.places, options.seed))


if __name__ == "__main__":
    sys.exit(main())
