"""Tells whether a change of the code changed a number: runs, masks and a report, byte for byte.

python -m experiments.sameness record BEFORE                     # in the checkout as it was
python -m experiments.sameness record AFTER --pets=DIR           # in the checkout as it is
python -m experiments.sameness compare BEFORE AFTER

Recording trains each of `RUNS` for some steps, predicts masks with it, and makes the report of a
small study; in a folder that has some of it already, what is missing. Comparing holds the scalars
of every step, scores, masks and tables of two such folders against each other, but for what the
clock makes; the exit code is 1 where they differ. Both must be recorded on one machine, with one
device and the same number of cores. --pets names a folder with images/ and annotations/ of
Oxford-IIIT Pet, for the runs that take it; without it they are left out.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.scale.compare import records
from unet_jax.runs import layout

ROOT = Path(__file__).parents[1]
SIZES = ((37, 51), (64, 48), (90, 33), (41, 41), (75, 120), (33, 34), (58, 49), (64, 64))
CLOCK = ("training_seconds", "device")
"""Columns of a report's tables that the clock or the machine makes."""
STUDY = """from unet_jax.studies.study import *


def get_study():
    return Study(
        page="configs/tiny.py",
        overrides={"train.duration": "20 steps"},
        design=grid(
            choices("way up", {"transpose": {"model.up": "transpose"}, "bilinear": {
                "model.up": "bilinear", "model.up_filters": ((2, 0, 2),)}}),
            seeds(3),
        ),
        baseline={"way up": "transpose"},
    )
"""


class Run(NamedTuple):
    """A run to record.

    Attributes:
        page: Its config page.
        steps: How many it takes; 0 for those of its page.
        settings: Further values of its config; "DATA" stands for the folder of `source`.
        source: "odd", images of odd sizes, "pets" or "" for that of the page.
    """

    page: str
    steps: int
    settings: tuple[str, ...] = ()
    source: str = ""


FOLDER = (
    "data.path=DATA",
    "data.folder.class_names=('background','disk','square','triangle','ring','cross')",
)
SMALL = ("model.features=(8,16,32)", "train.batch_size=4", "eval.batch_size=4")
RUNS = {
    "tiny": Run("configs/tiny.py", 0),
    "accumulate": Run("configs/tiny.py", 20, ("optim.accumulate=2",)),
    "shapes": Run("configs/shapes.py", 60),
    "attention": Run("configs/shapes.py:attention", 20),
    "unet++": Run("configs/shapes.py:unet++", 20),
    "nnunet_resenc": Run("configs/shapes.py:nnunet_resenc", 20),
    "resnet18": Run("configs/shapes.py:resnet18", 20),
    "crop": Run(
        "configs/folder.py",
        20,
        (*FOLDER, *SMALL, "data.fit=crop", "data.image_size=(32,48)", "data.crops=2"),
        "odd",
    ),
    "resize": Run("configs/folder.py", 20, (*FOLDER, *SMALL, "data.image_size=(48,40)"), "odd"),
    "paper": Run("configs/paper.py", 20, FOLDER, "odd"),
    "pets": Run("configs/oxford_pets.py:cpu", 20, ("data.source=pets", "data.path=DATA"), "pets"),
}


def write_odd(folder: Path) -> None:
    """Writes a data set of images of odd sizes, cut out of synthetic shapes."""
    from unet_jax.data.synthetic import draw

    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(24):
        image, label = draw(7, index, 128, 3)
        height, width = SIZES[index % len(SIZES)]
        Image.fromarray(image[:height, :width]).save(folder / "images" / f"{index:02d}.png")
        Image.fromarray(label[:height, :width]).save(folder / "masks" / f"{index:02d}.png")


def record(folder: Path, pets: Path | None, only: Sequence[str]) -> None:
    """Runs everything into a folder.

    Args:
        folder: Made if need be; what it has already is left as it is.
        pets: The data set for runs that take it.
        only: Names of runs; () for all, and the study.
    """
    odd = folder / "odd"
    if not odd.exists():
        write_odd(odd)
    data = {"odd": odd, "pets": pets, "": None}
    for name, run in RUNS.items():
        if (only and name not in only) or (run.source and data[run.source] is None):
            continue
        workdir = folder / name
        settings = [text.replace("DATA", str(data[run.source])) for text in run.settings]
        if run.steps:
            settings += [f"train.{key}={run.steps} steps" for key in ("duration", "eval_every")]
        flags = [f"--config.{text}" for text in settings]
        main = "unet_jax.main"
        _call(main, f"--workdir={workdir}", f"--config={run.page}", *flags)
        _call(main, f"--workdir={workdir}", "--mode=eval", "--checkpoint=latest", "--split=train")
        inputs = f"--input={odd / 'images'}"
        _call(main, f"--workdir={workdir}", "--mode=predict", inputs, "--replace")
    if not only:
        page, study = folder / "study.py", folder / "study"
        page.write_text(STUDY)
        _call("experiments.sweep", f"--study={page}", f"--workdir={study}", "--nopack")
        _call("experiments.report", study)


def _call(module: str, *flags: object) -> None:
    line = [sys.executable, "-m", module, *map(str, flags)]
    print(" ".join(line[2:]), flush=True)
    device = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=1"
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": device}
    subprocess.run(line, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)


def compare(first: Path, second: Path) -> Iterator[str]:
    """Yields one line for everything in which two recorded folders differ."""
    for name in RUNS:
        if not any((folder / name).exists() for folder in (first, second)):
            continue
        a, b = (_read_run(folder / name) for folder in (first, second))
        yield from (f"{name}: {key}" for key in sorted({*a, *b}) if a.get(key) != b.get(key))
    a, b = (_read_tables(folder / "study" / "report") for folder in (first, second))
    yield from (f"study: {key}" for key in sorted({*a, *b}) if a.get(key) != b.get(key))


def _read_run(workdir: Path) -> dict[str, object]:
    found: dict[str, object] = {
        f"step {index + 1} of {layout.METRICS}": values
        for index, values in enumerate(records(workdir)[:40])
    }
    results = workdir / layout.RESULTS
    scores = json.loads(results.read_text()) if results.exists() else {}
    for split, values in scores.items():
        is_scores = isinstance(values, dict)
        found |= {f"{split} {key}": x for key, x in values.items()} if is_scores else {}
    for file in (workdir / "predictions").rglob("*.png"):
        with Image.open(file) as image:
            found[file.name] = (image.mode, image.size, np.array(image).tobytes())
    return found


def _read_tables(folder: Path) -> dict[str, str]:
    """Returns the cells of a report's tables by table, row and column."""
    found = {}
    for file in folder.glob("*.csv"):
        with file.open(newline="") as lines:
            for row, values in enumerate(csv.DictReader(lines), 1):
                cells = {
                    _today(key): _today(text) for key, text in values.items() if key not in CLOCK
                }
                found |= {f"{file.name} row {row} {key}": text for key, text in cells.items()}
    return found


def _today(text: str) -> str:
    """Returns what a table says today where an older version called images otherwise."""
    return text.replace("pictures", "images")


def main() -> int:
    """Does what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--pets", type=Path, default=None)
    recording.add_argument("--only", nargs="*", choices=RUNS, default=())
    comparing = commands.add_parser("compare")
    comparing.add_argument("first", type=Path)
    comparing.add_argument("second", type=Path)
    options = parser.parse_args()
    if options.command == "record":
        pets = options.pets and options.pets.resolve()
        record(options.folder.resolve(), pets, options.only)
        return 0
    count = [len(_read_run(options.first / name)) for name in RUNS]
    tables = len(_read_tables(options.first / "study" / "report"))
    differences = list(compare(options.first, options.second))
    for line in differences:
        print(line)
    print(
        f"{len(differences)} differ, of {sum(count)} numbers and masks of "
        f"{sum(map(bool, count))} runs and {tables} cells of a report"
    )
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())
