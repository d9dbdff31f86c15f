"""How fast libraries decode JPEG and PNG files beside Pillow, and whether pixels are the same.

python -m experiments.bench.decoders FOLDER[@HEIGHTxWIDTH] ...

Of each folder the JPEG files below it, or where it has none the PNG files: images/s of every
library on one thread and on two, medians of turns in which all decode the same images, read into
memory before; the median over turns of the ratio to Pillow, on one thread by the time of the core,
which others on the machine change less; and in how many values it differs from Pillow, and by how
much at most. Pillow is also measured as the program reads (with its checks), and with JPEG decoded
at a half and a quarter of the scale, whose pixels are not compared. With a size, a line says what
decoding and resizing to it takes of a core, with config.data.reduced_jpeg and without. The other
libraries are needed for this command alone; one that is not installed has a line that says how.
"""

import functools
import importlib
import io
import itertools
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unet_jax.data.formats.pillow import decode_image, decode_mask, decode_reduced
from unet_jax.data.resize import resize_image
from unet_jax.data.sample import written
from unet_jax.errors import UserError
from unet_jax.process.console import console

TURNS, MOST_IMAGES, THREADS = 9, 60, (1, 2)
SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}

Decode = Callable[[bytes], Any]


class Library(NamedTuple):
    """A library that decodes.

    Attributes:
        module: The name by which it is imported.
        package: That by which it is installed.
        decoders: What makes of the module the functions that decode, by kind of file and name.
    """

    module: str
    package: str
    decoders: Callable[[Any], Mapping[str, Mapping[str, Decode]]]


def _pillow(data: bytes, scale: int = 1) -> np.ndarray:
    opened = Image.open(io.BytesIO(data))
    if scale > 1:
        opened.draft(None, (opened.width // scale, opened.height // scale))
    return np.asarray(opened)


def _by_program(data: bytes) -> np.ndarray:
    """Decodes a PNG file of one channel as a mask, all else as an image."""
    is_mask = Image.open(io.BytesIO(data)).mode in ("L", "P") and data[1:4] == b"PNG"
    return decode_mask(data, "a mask").ids if is_mask else decode_image(data, "an image")


def _simplejpeg(module: Any) -> Mapping[str, Mapping[str, Decode]]:
    fast = {"fastdct": True, "fastupsample": True}
    return {
        "JPEG": {
            "simplejpeg": lambda data: module.decode_jpeg(data, _colours(module, data)),
            "simplejpeg, fast": lambda data: module.decode_jpeg(
                data, _colours(module, data), **fast
            ),
        }
    }


def _colours(module: Any, data: bytes) -> str:
    return "GRAY" if module.decode_jpeg_header(data)[2] == "Gray" else "RGB"


def _imagecodecs(module: Any) -> Mapping[str, Mapping[str, Decode]]:
    return {"JPEG": {"imagecodecs": module.jpeg8_decode}, "PNG": {"imagecodecs": module.png_decode}}


def _opencv(module: Any) -> Mapping[str, Mapping[str, Decode]]:
    module.setNumThreads(1)

    def decode(flags: int, data: bytes) -> np.ndarray:
        return module.imdecode(np.frombuffer(data, np.uint8), flags)

    colour = module.IMREAD_COLOR_RGB | module.IMREAD_IGNORE_ORIENTATION
    whole = functools.partial(decode, module.IMREAD_UNCHANGED)
    return {"JPEG": {"OpenCV": functools.partial(decode, colour)}, "PNG": {"OpenCV": whole}}


def _pyvips(module: Any) -> Mapping[str, Mapping[str, Decode]]:
    def decode(data: bytes) -> np.ndarray:
        return module.Image.new_from_buffer(data, "", access="sequential").numpy()

    return {"JPEG": {"pyvips": decode}, "PNG": {"pyvips": decode}}


LIBRARIES = (
    Library("simplejpeg", "simplejpeg", _simplejpeg),
    Library("imagecodecs", "imagecodecs", _imagecodecs),
    Library("cv2", "opencv-python-headless", _opencv),
    Library("pyvips", "'pyvips[binary]'", _pyvips),
)


def find_decoders(kind: str) -> dict[str, Decode]:
    """Returns what decodes a kind of files, by name; Pillow is the first.

    Args:
        kind: A key of `SUFFIXES`.

    Returns:
        Functions of encoded images; what is not installed is told in a line.
    """
    found: dict[str, Decode] = {"Pillow": _pillow}
    if kind == "JPEG":
        found["Pillow at 1/2"] = functools.partial(_pillow, scale=2)
        found["Pillow at 1/4"] = functools.partial(_pillow, scale=4)
    found["unet_jax"] = _by_program
    for library in LIBRARIES:
        try:
            module = importlib.import_module(library.module)
        except (ImportError, OSError) as error:
            why = str(error).splitlines()[0]
            console.print(f"{library.module} is left out ({why}): pip install {library.package}")
            continue
        found |= library.decoders(module).get(kind, {})
    return found


def read_folder(folder: Path) -> tuple[str, list[bytes]]:
    """Reads the JPEG files below a folder, or where it has none the PNG files.

    Args:
        folder: The folder.

    Returns:
        Their kind, and `MOST_IMAGES` of them at most, spread evenly over their names.

    Raises:
        UserError: There are none.
    """
    every = sorted(file for file in folder.rglob("*") if file.is_file())
    for kind, suffixes in SUFFIXES.items():
        files = [file for file in every if file.suffix.lower() in suffixes]
        if files:
            chosen = files[:: -(-len(files) // MOST_IMAGES)]
            return kind, [file.read_bytes() for file in chosen]
    raise UserError(f"{folder} holds no JPEG and no PNG files; give another folder.")


class Rate(NamedTuple):
    """Images/s by the clock, and for each second of a core."""

    by_clock: float
    by_core: float


def measure(decode: Decode, images: list[bytes], threads: int) -> Rate:
    """Decodes all images once."""
    with ThreadPoolExecutor(threads) as pool:
        began, core = time.perf_counter(), time.process_time()
        for _ in pool.map(decode, images):
            pass
        seconds = time.perf_counter() - began, time.process_time() - core
    return Rate(*(len(images) / own for own in seconds))


def compare(decode: Decode, images: list[bytes]) -> str:
    """Says in which of their values the images differ from Pillow's."""
    count, most, total = 0, 0, 0
    for data in images:
        expected, got = _pillow(data), np.asarray(decode(data))
        if got.ndim > expected.ndim:  # grey in one channel, or in three
            expected = expected[..., None]
        if got.shape[:2] != expected.shape[:2]:
            return "other shape"
        difference = np.abs(got.astype(np.int64) - expected.astype(np.int64))
        count, total = count + np.count_nonzero(difference), total + difference.size
        most = max(most, int(difference.max()))
    return f"{count / total:.2%} of values, by {most} at most" if count else "none"


def measure_resized(images: list[bytes], size: tuple[int, int]) -> None:
    """Prints what it takes to decode JPEG files and resize them, at a reduced scale and not."""

    def whole(data: bytes) -> np.ndarray:
        return resize_image(decode_image(data, "an image"), size)

    def reduced(data: bytes) -> np.ndarray:
        found = decode_reduced(data, "an image", size)
        return whole(data) if found is None else found

    pairs = [[measure(f, images, 1).by_core for f in (whole, reduced)] for _ in range(TURNS)]
    took = [1000 / statistics.median(rates) for rates in zip(*pairs, strict=True)]
    ratio = statistics.median(other / one for one, other in pairs)
    small = sum(decode_reduced(data, "an image", size) is None for data in images)
    mean = statistics.mean(
        float(np.abs(whole(data).astype(np.int64) - reduced(data)).mean()) for data in images
    )
    console.print(
        f"to {written(size)}: {took[0]:.2f} ms of a core, with reduced_jpeg {took[1]:.2f}, "
        f"{ratio:.2f} times as fast; {small} are too small for it; values differ by {mean:.2f} in "
        "the mean"
    )


def measure_folder(folder: Path, kind: str, images: list[bytes]) -> None:
    """Prints the table of a folder, in Markdown."""
    decoders = find_decoders(kind)
    shape = _pillow(images[0]).shape
    console.print(
        f"{len(images)} {kind} files in {folder}, the first {shape[0]}x{shape[1]}; medians of "
        f"{TURNS} turns"
    )
    rates: dict[tuple[str, int], list[Rate]] = {}
    order = list(decoders)
    for turn, threads in itertools.product(range(TURNS), THREADS):
        for name in (*order[turn % len(order) :], *order[: turn % len(order)]):
            rates.setdefault((name, threads), []).append(measure(decoders[name], images, threads))
    print(
        "| | images/s | beside Pillow | on two threads | beside Pillow | differs from Pillow in |"
    )
    print("|---|---|---|---|---|---|")
    for name, decode in decoders.items():
        cells = []
        for threads in THREADS:
            own, base = rates[name, threads], rates["Pillow", threads]
            field = "by_core" if threads == 1 else "by_clock"  # several wait for each other
            pairs = zip(own, base, strict=True)
            ratios = [getattr(one, field) / getattr(other, field) for one, other in pairs]
            middle = statistics.median(rate.by_clock for rate in own)
            cells += [f"{middle:.0f}", f"{statistics.median(ratios):.2f}"]
        differs = "" if name.startswith("Pillow") else compare(decode, images)
        print(f"| {name} | {' | '.join(cells)} | {differs} |")


def main(*folders: str) -> None:
    """Prints a table for each folder."""
    if not folders:
        raise UserError("give at least one folder: python -m experiments.bench.decoders FOLDER")
    for given in folders:
        found = re.fullmatch(r"(.*?)(?:@(\d+)x(\d+))?", given)
        assert found is not None
        folder = Path(found[1])
        kind, images = read_folder(folder)
        if found[2] and kind == "JPEG":
            measure_resized(images, (int(found[2]), int(found[3])))
        measure_folder(folder, kind, images)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
