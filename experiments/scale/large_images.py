"""Predicts images that are too large for memory: what that takes, after kills, and how fast.

python -m experiments.scale.large_images --work=memory --sides=2000,8000,30000 --classes=3,100
python -m experiments.scale.large_images --work=kill --sides=10000 --trials=10
python -m experiments.scale.large_images --work=compilations --sides=97,500,513,700,1024,1300,2000
python -m experiments.scale.large_images --work=speed --sides=6000 --trials=5

Images are noise, as tiled TIFF and OME-Zarr, written once into --folder; the network is trained for
one step. "memory" predicts each in a process of its own that may have --limit of data, and prints
the peak of its memory. "kill" kills predictions of TIFF into TIFF and of OME-Zarr into OME-Zarr at
random moments, starts them again to the end, and compares all bytes with those of one that nobody
disturbed. "compilations" predicts one image of every side in one command, and counts the programs
for tiles that XLA compiled. "speed" is that of `large_speed`.
"""

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags, logging
from PIL import Image

KINDS = ["memory", "kill", "compilations", "speed"]
WORK = flags.DEFINE_enum("work", "memory", KINDS, "What is measured.")
SIDES = flags.DEFINE_list("sides", ["2000"], "Pixels of the images' sides.")
CLASSES = flags.DEFINE_list("classes", ["3"], "Numbers of classes.")
FEATURES = flags.DEFINE_list("features", ["16", "32", "64", "128", "256"], "Of the network.")
TILE = flags.DEFINE_integer("tile", 512, "Pixels of a tile's side.", lower_bound=1)
LIMIT = flags.DEFINE_integer("limit", 2048, "MiB of data that a process may have.", lower_bound=1)
TRIALS = flags.DEFINE_integer("trials", 10, "Kills, or turns.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
FOLDER = flags.DEFINE_string("folder", "build/large", "Where images, runs and results lie.")

ROOT = Path(__file__).parents[2]
_TILE = 512  # of the images
_SUFFIXES = (".tif", ".zarr")


def _noise(side: int) -> Iterator[np.ndarray]:
    """Yields the tiles of an image of noise, row by row, all of one size."""
    count = -(-side // _TILE)
    base = np.random.default_rng(side).integers(0, 256, (_TILE, _TILE, 3)).astype(np.uint8)
    for number in range(count * count):
        yield np.roll(base, number * 7, axis=0)


def make_images(side: int) -> dict[str, Path]:
    """Writes an image of a side in both formats, where it is not there; returns them by suffix."""
    folder = Path(FOLDER.value) / "images" / str(side)
    folder.mkdir(parents=True, exist_ok=True)
    files = {suffix: folder / f"noise{suffix}" for suffix in _SUFFIXES}
    for suffix, make in ((".tif", _make_tiff), (".zarr", _make_zarr)):
        if not files[suffix].exists():
            part = folder / f"part{suffix}"
            shutil.rmtree(part, ignore_errors=True)
            make(part, side)
            part.rename(files[suffix])
    return files


def _make_tiff(file: Path, side: int) -> None:
    import tifffile

    with tifffile.TiffWriter(file, bigtiff=True) as writer:
        form = {"shape": (side, side, 3), "dtype": np.uint8, "tile": (_TILE, _TILE)}
        writer.write(_noise(side), photometric="rgb", **form)


def _make_zarr(folder: Path, side: int) -> None:
    """Writes OME-Zarr 0.4 of one resolution, channels first."""
    import tensorstore

    spec = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": f"{folder}/0/"},
        "metadata": {"shape": [3, side, side], "chunks": [3, _TILE, _TILE], "dtype": "|u1"},
    }
    array = tensorstore.open(spec, create=True).result()
    count = -(-side // _TILE)
    for number, tile in enumerate(_noise(side)):
        row, column = (_TILE * place for place in divmod(number, count))
        own = tile[: side - row, : side - column]
        window = slice(row, row + own.shape[0]), slice(column, column + own.shape[1])
        array[:, window[0], window[1]].write(np.moveaxis(own, -1, 0)).result()
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    image = {"version": "0.4", "axes": axes, "datasets": datasets}
    (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    (folder / ".zattrs").write_text(json.dumps({"multiscales": [image]}))


def make_run(classes: int) -> Path:
    """Trains a network for one step, where that is not done; returns the run's folder."""
    features = tuple(map(int, FEATURES.value))
    name = f"{classes}_{'_'.join(FEATURES.value)}_{TILE.value}"
    data, run = Path(FOLDER.value) / "data" / str(classes), Path(FOLDER.value) / "runs" / name
    if not (run / "results.json").exists():
        # In a process of its own: what this one holds counts as memory of all that it starts.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(_train, classes, features, TILE.value, data, run).result()
    return run


def _train(classes: int, features: tuple[int, ...], tile: int, data: Path, run: Path) -> None:
    import unet_jax

    rng = np.random.default_rng(0)
    for index in range(6):
        for kind, high, shape in (("images", 256, (64, 64, 3)), ("masks", classes, (64, 64))):
            file = data / kind / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, high, shape).astype(np.uint8)).save(file)
    names = tuple(f"class_{k}" for k in range(classes))
    unet_jax.train(
        "folder.py",
        run,
        data={"path": str(data), "fit": "crop", "image_size": (64, 64), "workers": 2}
        | {"largest_file": 2**14, "folder": {"class_names": names}},
        model={"features": features},
        train={"duration": "1 steps", "eval_every": "1 steps", "checkpoint_every": "1 steps"}
        | {"batch_size": 2},
        eval={"figures": False, "batch_size": 2, "tiles": {"whole": 0, "size": (tile,)}},
        mesh={"data": 1},
    )


def command(run: Path, file: Path, output: Path, suffix: str) -> list[str]:
    """Returns the command that predicts an image."""
    line = [sys.executable, "-m", "unet_jax.main", "--mode=predict", f"--workdir={run}"]
    return [*line, f"--input={file}", f"--output={output}", f"--mask_suffix={suffix}"]


def measure_memory() -> None:
    """Prints the peak of the memory of a prediction of each image."""
    for classes in map(int, CLASSES.value):
        peaks = []
        for side in map(int, SIDES.value):
            files, run = make_images(side), make_run(classes)
            for suffix, file in files.items():
                output = Path(FOLDER.value) / "out"
                shutil.rmtree(output, ignore_errors=True)
                began = time.monotonic()
                limited = ["prlimit", f"--data={LIMIT.value * 2**20}"]
                line = [*limited, *command(run, file, output, suffix)]
                process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL)
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
                seconds, peak = time.monotonic() - began, used.ru_maxrss / 2**10
                peaks.append(peak)
                print(
                    f"{classes:4} classes {side:6}^2 {suffix:5} peak {peak:7.1f} MiB, "
                    f"{seconds:7.1f} s, {side**2 / 1e6 / seconds:.2f} megapixels/s",
                    flush=True,
                )
        flat = max(peaks) / min(peaks) - 1
        print(f"{classes:4} classes: the highest peak is {flat:.1%} above the lowest", flush=True)


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _undisturbed(line: list[str], output: Path) -> tuple[float, float]:
    """Predicts an image; returns the seconds until tiles are computed, and those of all."""
    began, start = time.monotonic(), 0.0
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if not start and any(output.glob("*.tiles/journal")):
            start = time.monotonic() - began
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    return start, time.monotonic() - began


def kill() -> None:
    """Kills predictions at random moments, and compares what they end with."""
    chance, side = random.Random(SEED.value), int(SIDES.value[0])
    files, run = make_images(side), make_run(int(CLASSES.value[0]))
    for suffix in _SUFFIXES:
        whole, out = (Path(FOLDER.value) / f"{name}{suffix}" for name in ("whole", "killed"))
        shutil.rmtree(whole, ignore_errors=True)
        start, seconds = _undisturbed(command(run, files[suffix], whole, suffix), whole)
        kills, predictions = [], 0
        while len(kills) < TRIALS.value:  # a second prediction where the first ended before them
            shutil.rmtree(out, ignore_errors=True)
            left = TRIALS.value - len(kills)
            moments = sorted(chance.uniform(0, seconds) for _ in range(left))
            kills += _killed(command(run, files[suffix], out, suffix), out, start, moments)
            predictions += 1
            if _contents(whole) != _contents(out):
                raise SystemExit(f"{suffix}: DIFFERENT bytes after {kills}")
        print(
            f"{suffix}: {seconds:.0f} s undisturbed, {len(kills)} kills of {predictions} "
            f"predictions of {side}^2 with {', '.join(map(str, kills))} tiles there, bytes equal",
            flush=True,
        )


def _killed(line: list[str], output: Path, start: float, moments: list[float]) -> list[int]:
    """Predicts an image through kills.

    Args:
        line: The command.
        output: Folder of its results.
        start: Seconds that each new start takes until tiles are computed.
        moments: Of the kills, in seconds of a prediction that nobody disturbs.

    Returns:
        How many tiles were there at each kill; fewer kills where it ended before.
    """
    kills, last = [], 0.0
    for moment in moments:
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(moment if moment < start else moment - max(last, start) + start)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            journals = [file.read_text() for file in output.glob("*.tiles/journal")]
            kills.append(sum(text.count("\n") - 1 for text in journals))
            last = moment
            continue
        break
    else:
        process = subprocess.run(line, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    # Where the last kill came when all was there, the command refuses to write it again.
    if process.returncode and any(output.glob("*.tiles")):
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    return kills


def count_compilations() -> None:
    """Counts the programs for tiles that one prediction of images of many sizes compiles."""
    from jax import monitoring

    from unet_jax.config import load
    from unet_jax.predict.run import predict_run

    run, folder = make_run(int(CLASSES.value[0])), Path(FOLDER.value) / "sizes"
    output, compiled = folder / "out", []
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, side in enumerate(map(int, SIDES.value)):
        shape = side, max(1, side - 37 * number), 3
        image = np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)
        np.save(folder / f"{number}.npy", image)

    def listen(event: str, duration_secs: float, **details: Any) -> None:
        del duration_secs
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(details["fun_name"])

    monitoring.register_event_duration_secs_listener(listen)
    predict_run(
        load(run / "config.json"), run, inputs=[str(folder)], output=output, checkpoint="best"
    )
    tiles = sum("_compute" in name for name in compiled)
    print(f"{len(SIDES.value)} image sizes: {tiles} programs for tiles; all: {compiled}")
    if tiles != 1:
        raise SystemExit(1)


def measure_speed() -> None:
    """Times predictions; see `large_speed`."""
    from experiments.scale.large_speed import compare

    side, classes = int(SIDES.value[0]), int(CLASSES.value[0])
    run, output = make_run(classes), Path(FOLDER.value) / "out"
    compare(run, make_images(side)[".tif"], output, TILE.value, TRIALS.value)


def main(argv: list[str]) -> None:
    """Does the work."""
    del argv
    logging.set_verbosity(logging.WARNING)
    work = measure_memory, kill, count_compilations, measure_speed
    dict(zip(KINDS, work, strict=True))[WORK.value]()


if __name__ == "__main__":
    app.run(main)
