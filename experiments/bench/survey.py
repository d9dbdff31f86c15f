"""How fast the doctor looks at a data set, beside Pillow's bare decoding, and its peak memory.

python -m experiments.bench.survey --images=1000 --side=256 [--path=FOLDER --masks=FOLDER]

Both read the same files, by turns, with as many threads; the best of some turns counts. Without
--path the images are drawn: smooth noise, JPEG, with masks of blobs, PNG.
"""

import argparse
import io
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from unet_jax.data.base import PairSource
from unet_jax.data.files import FilePairs
from unet_jax.doctor.survey import look_at_all

CLASSES = 12
Files = Sequence[tuple[Path, Path]]


def draw(folder: Path, count: int, side: int) -> Files:
    """Draws images with masks."""
    rng, files = np.random.default_rng(0), []
    for index in range(count):
        few = rng.integers(0, 255, (side // 8, side // 8, 3), np.uint8)
        image = Image.fromarray(few).resize((side, side), Image.Resampling.BICUBIC)
        noise = np.asarray(image) + rng.normal(0, 6, (side, side, 3))
        label = np.asarray(image.getchannel(0)) // (256 // 3 + 1)
        pair = folder / f"{index}.jpg", folder / f"{index}.png"
        Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(pair[0], quality=90)
        Image.fromarray(label).save(pair[1])
        files.append(pair)
    return files


def decode(files: Files, threads: int) -> None:
    """Decodes all images and masks as plainly as Pillow can."""

    def decode_pair(pair: tuple[Path, Path]) -> None:
        for file in pair:
            np.asarray(Image.open(io.BytesIO(file.read_bytes())))

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode_pair, files):
            pass


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Returns how long some work takes, and of all cores together."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - busy


def main() -> None:
    """Prints images a second of both, their ratio, and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--path", type=Path, help="Folder of images; --masks that of their masks.")
    parser.add_argument("--masks", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.path:
            masks = {file.stem: file for file in given.masks.iterdir()}
            there = sorted(file for file in given.path.iterdir() if file.stem in masks)
            files = [(file, masks[file.stem]) for file in there[: given.images]]
        else:
            files = draw(Path(folder), given.images, given.side)
        pairs = FilePairs([image.stem for image, _ in files], files)
        source = PairSource(pairs, range(len(files)), {k: k for k in range(CLASSES)})
        decode(files[:100], given.threads)
        bare, looked = [], []
        for _ in range(given.turns):
            bare.append(seconds(lambda: decode(files, given.threads)))
            looked.append(seconds(lambda: look_at_all(source, "train", CLASSES, given.threads)))
    by_clock, by_core = (
        [min(turn[which] for turn in turns) for turns in (bare, looked)] for which in range(2)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(files)} images, {given.threads} threads: {len(files) / by_clock[0]:.0f} images/s "
        f"bare, {len(files) / by_clock[1]:.0f} looked at, {by_clock[0] / by_clock[1]:.2f} of bare "
        f"({by_core[0] / by_core[1]:.2f} by the time of all cores); peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
