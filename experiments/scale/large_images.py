"""Predicts images that are too large for memory: what that takes, after kills, and how fast.

python -m experiments.scale.large_images --work=memory --sides=2000,8000,30000 --classes=3,100
python -m experiments.scale.large_images --work=kill --sides=10000 --trials=10
python -m experiments.scale.large_images --work=speed --sides=6000

Images are noise, as tiled TIFF and OME-Zarr, written once into --folder; the network is trained for
one step. "memory" predicts each in a process of its own that may have --limit of data, and prints
the peak of its memory. "kill" kills predictions into TIFF and OME-Zarr at random moments, starts
them again to the end, and compares all bytes with those of one that nobody disturbed. "speed" times
whole predictions, exact and blended, and the bare program of one batch of tiles in turns; where
MONAI and PyTorch are installed, a like network with `monai.inferers.sliding_window_inference` too.
"""

import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image

WORK = flags.DEFINE_enum("work", "memory", ["memory", "kill", "speed"], "What is measured.")
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
    if not files[".tif"].exists():
        import tifffile

        part = folder / "part.tif"
        with tifffile.TiffWriter(part, bigtiff=True) as writer:
            form = {"shape": (side, side, 3), "dtype": np.uint8, "tile": (_TILE, _TILE)}
            writer.write(_noise(side), photometric="rgb", **form)
        part.rename(files[".tif"])
    if not files[".zarr"].exists():
        import tensorstore

        part = folder / "part.zarr"
        shutil.rmtree(part, ignore_errors=True)
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": f"{part}/"},
            "metadata": {"shape": [side, side, 3], "chunks": [_TILE, _TILE, 3], "dtype": "|u1"},
        }
        array = tensorstore.open(spec, create=True).result()
        count = -(-side // _TILE)
        for number, tile in enumerate(_noise(side)):
            row, column = (_TILE * place for place in divmod(number, count))
            own = tile[: side - row, : side - column]
            array[row : row + own.shape[0], column : column + own.shape[1]].write(own).result()
        part.rename(files[".zarr"])
    return files


def make_run(classes: int) -> Path:
    """Trains a network for one step, where that is not done; returns the run's folder."""
    import unet_jax

    name = f"{classes}_{'_'.join(FEATURES.value)}_{TILE.value}"
    data, run = Path(FOLDER.value) / "data" / str(classes), Path(FOLDER.value) / "runs" / name
    rng = np.random.default_rng(0)
    for index in range(6):
        for kind, high, shape in (("images", 256, (64, 64, 3)), ("masks", classes, (64, 64))):
            file = data / kind / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, high, shape).astype(np.uint8)).save(file)
    names = tuple(f"class_{k}" for k in range(classes))
    unet_jax.train(
        "folder",
        run,
        data={"path": str(data), "fit": "crop", "image_size": (64, 64), "workers": 2}
        | {"largest_file": 2**14, "folder": {"class_names": names}},
        model={"features": tuple(map(int, FEATURES.value))},
        train={"duration": "1 steps", "eval_every": "1 steps", "checkpoint_every": "1 steps"}
        | {"batch_size": 2},
        eval={"figures": False, "batch_size": 2, "tiles": {"whole": 0, "size": (TILE.value,)}},
        mesh={"data": 1},
    )
    return run


def command(run: Path, file: Path, output: Path, suffix: str) -> list[str]:
    """Returns the command that predicts an image."""
    line = [sys.executable, "-m", "unet_jax.main", "--mode=predict", f"--workdir={run}"]
    return [*line, f"--input={file}", f"--output={output}", f"--mask_suffix={suffix}"]


def _limited() -> None:
    limit = LIMIT.value * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


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
                line = command(run, file, output, suffix)
                process = subprocess.Popen(line, cwd=ROOT, preexec_fn=_limited)
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


def kill() -> None:
    """Kills predictions at random moments, and compares what they end with."""
    chance, side = random.Random(SEED.value), int(SIDES.value[0])
    files, run = make_images(side), make_run(int(CLASSES.value[0]))
    for suffix in _SUFFIXES:
        whole, out = (Path(FOLDER.value) / f"{name}{suffix}" for name in ("whole", "killed"))
        for folder in (whole, out):
            shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        subprocess.run(command(run, files[".tif"], whole, suffix), cwd=ROOT, check=True)
        seconds = time.monotonic() - began
        kills = 0
        while kills < TRIALS.value:
            process = subprocess.Popen(command(run, files[".tif"], out, suffix), cwd=ROOT)
            try:
                # A whole one in all, so that most kills find it at work.
                process.wait(chance.uniform(0, 2 * seconds / TRIALS.value))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                continue
            if process.returncode:
                raise SystemExit(f"after {kills} kills it ended with {process.returncode}")
            break
        else:
            subprocess.run(command(run, files[".tif"], out, suffix), cwd=ROOT, check=True)
        same = _contents(whole) == _contents(out)
        print(f"{suffix}: {kills} kills of {side}^2, bytes {'equal' if same else 'DIFFERENT'}")
        if not same:
            raise SystemExit(1)


def measure_speed() -> None:
    """Times whole predictions and the bare program, in turns."""
    import jax

    from unet_jax.config import load
    from unet_jax.predict.eval_step import make_mask_step
    from unet_jax.restore import restore
    from unet_jax.sharding import put_batch

    side, run = int(SIDES.value[0]), make_run(int(CLASSES.value[0]))
    file, output = make_images(side)[".tif"], Path(FOLDER.value) / "out"
    config = load(run / "config.json")
    trained = restore(config, run, "best")
    step = make_mask_step(trained.network)
    reading = step.tiling.reading(trained.variables, trained.network.settings.batch_size)
    plan = step.tiling.plan((side, side), reading.lengths)
    rows = reading.batch_size
    arrays = {
        "image": np.zeros((rows, *reading.reads, reading.channels), reading.dtype),
        "size": np.tile(np.array(reading.lengths, np.float32), (rows, 1)),
        "is_read": np.ones(rows, bool),
    }
    placed = put_batch(arrays, reading.shardings)
    jax.block_until_ready(reading.program(placed))

    def bare() -> float:
        began = time.monotonic()
        jax.block_until_ready(reading.program(placed))
        return (time.monotonic() - began) / rows * len(plan)

    def whole(mode: str = "exact") -> float:
        from unet_jax.predict.run import predict_run

        config.eval.tiles.mode = mode
        shutil.rmtree(output, ignore_errors=True)
        began = time.monotonic()
        inputs = {"inputs": [str(file)], "output": str(output), "mask_suffix": ".tif"}
        predict_run(config, run, checkpoint="best", **inputs)
        return time.monotonic() - began

    sides: dict[str, Callable[[], float]] = {"bare": bare, "whole": whole}
    sides["blended"] = lambda: whole("blended")
    if theirs := _monai(side):
        sides["monai"] = theirs
    times = {name: [] for name in sides}
    for _ in range(TRIALS.value):
        for name, run_once in sides.items():
            times[name].append(run_once())
    found = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in found.items():
        print(f"{name:6} {seconds:8.2f} s  {side**2 / 1e6 / seconds:8.3f} input megapixels/s")
    print(f"whole against bare: {found['bare'] / found['whole']:.3f}, of {len(plan)} tiles")


def _monai(side: int) -> Callable[[], float] | None:
    """Returns what times MONAI's sliding window; None where it is not installed."""
    try:
        import torch
        from monai.inferers import sliding_window_inference  # pyrefly: ignore[missing-import]

        from experiments.bench.torch_unet import UNet
    except ImportError as error:
        print(f"without MONAI ({error})")
        return None
    network = UNet(int(FEATURES.value[0]), int(CLASSES.value[0])).eval()
    image = torch.rand(1, 3, side, side)

    def run() -> float:
        began = time.monotonic()
        with torch.inference_mode():
            logits = sliding_window_inference(
                image, (TILE.value, TILE.value), 1, network, overlap=0.5, mode="gaussian"
            )
            logits.argmax(dim=1)
        return time.monotonic() - began

    return run


def main(argv: list[str]) -> None:
    """Does the work."""
    del argv
    {"memory": measure_memory, "kill": kill, "speed": measure_speed}[WORK.value]()


if __name__ == "__main__":
    app.run(main)
