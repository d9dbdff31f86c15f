"""How fast a large image is predicted, beside its bare compiled program and PyTorch with MONAI."""

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unet_jax.config import load
from unet_jax.data.files import read_header


def compare(run: Path, file: Path, output: Path, tile: int, turns: int) -> None:
    """Times whole predictions, from the file to the mask, and others of as many pixels in turns.

    "exact" has its default tile, and "bare" is the compiled program of one batch of those tiles,
    for as many batches as the image has. "blended" has tiles of `tile` pixels at an overlap of a
    half with Gaussian weights, and so has "monai", where that is installed: the like network in
    PyTorch, of an image that is in memory, to labels in memory.

    Args:
        run: A run's directory.
        file: The image, tiled TIFF.
        output: Folder for the masks.
        tile: Pixels of a side of blended tiles.
        turns: How often each is timed; medians are printed.
    """
    size = read_header(file, 2**14, 2).shape
    config = load(run / "config.json")
    config.eval.tiles.size = ()
    bare, tiles = _bare(config, run, size)
    sides: dict[str, Callable[[], float]] = {
        "bare": bare,
        "exact": lambda: _whole(run, file, output, mode="exact", size=()),
        "blended": lambda: _whole(run, file, output, mode="blended", size=(tile,)),
    }
    model = config.model
    if theirs := _monai(size, model.features[0], len(config.data.folder.class_names), tile):
        sides["monai"] = theirs
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, run_once in sides.items():
            times[name].append(run_once())
    found = {name: statistics.median(values) for name, values in times.items()}
    megapixels = size[0] * size[1] / 1e6
    for name, seconds in found.items():
        spread = f"{min(times[name]):.2f} to {max(times[name]):.2f}"
        print(
            f"{name:8} {seconds:8.2f} s ({spread}), {megapixels / seconds:7.3f} input megapixels/s"
        )
    print(f"exact has {found['bare'] / found['exact']:.3f} of the bare rate, with {tiles} tiles")
    for name in ("exact", "blended") if "monai" in found else ():
        print(f"{name}: {found['monai'] / found[name]:.2f} times as fast as monai")


def _bare(config: Any, run: Path, size: tuple[int, ...]) -> tuple[Callable[[], float], int]:
    """Returns what times the program of one batch for a whole image, and how many tiles it has."""
    import jax

    from unet_jax.predict.eval_step import make_mask_step
    from unet_jax.predict.tiled import blank_batch
    from unet_jax.restore import restore

    trained = restore(config, run, "best")
    tiling = make_mask_step(trained.network).tiling
    reading = tiling.reading(trained.variables, trained.network.settings.batch_size)
    count, arrays = len(tiling.plan(size, reading.lengths)), blank_batch(reading)
    jax.block_until_ready(reading.program(arrays))
    batches = -(-count // reading.batch_size)
    print(f"reads of {reading.lengths}, {reading.batch_size} at once, {count} in all")

    def bare() -> float:
        began = time.monotonic()
        for _ in range(batches):
            jax.block_until_ready(reading.program(arrays))
        return time.monotonic() - began

    return bare, count


def _whole(run: Path, file: Path, output: Path, **tiles: Any) -> float:
    """Times a whole prediction: restoring, compiling, reading, computing and writing."""
    from unet_jax.predict.run import predict_run

    config = load(run / "config.json")
    config.eval.tiles.update(tiles)
    shutil.rmtree(output, ignore_errors=True)
    given = {"inputs": [str(file)], "output": str(output), "mask_suffix": ".tif"}
    began = time.monotonic()
    predict_run(config, run, checkpoint="best", outputs=("mask",), **given)
    return time.monotonic() - began


def _monai(
    size: tuple[int, ...], width: int, classes: int, tile: int
) -> Callable[[], float] | None:
    """Returns what times MONAI's sliding window; None where it is not installed."""
    try:
        import torch
        from monai.inferers import sliding_window_inference  # pyrefly: ignore[missing-import]

        from experiments.bench.torch_unet import UNet
    except ImportError as error:
        print(f"without MONAI ({error})")
        return None
    network, image = UNet(width, classes).eval(), torch.rand(1, 3, *size)

    def run() -> float:
        began = time.monotonic()
        with torch.inference_mode():
            logits = sliding_window_inference(
                image, (tile, tile), 1, network, overlap=0.5, mode="gaussian"
            )
            logits.argmax(dim=1)
        return time.monotonic() - began

    return run
