"""Trains, evaluates and applies U-Nets.

unet-jax --config=oxford_pets.py --workdir=runs/pets
unet-jax --mode=eval --split=test --workdir=runs/pets
unet-jax --mode=predict --input=photo.jpg --workdir=runs/pets
unet-jax --mode=plan --memory=16GiB --config=oxford_pets.py
unet-jax --mode=plan --topology=v5e:2x4 --config=oxford_pets.py
unet-jax --mode=doctor --config=folder.py --config.data.path=mine --workdir=runs/doctor
unet-jax --mode=augment --config=folder.py --config.data.path=mine --workdir=runs/sheet
unet-jax --mode=verify --card=runs/pets/cards/test_00001234.json
unet-jax --mode=score --predictions=masks --truth=mine/masks
unet-jax --mode=serve --workdir=runs/pets
unet-jax --mode=export --format=stablehlo,onnx --workdir=runs/pets --output=exported

--config is a file, a stock page such as oxford_pets.py:cpu where there is no such file, or the
folder of a run. Any value of it can be set by --config.SECTION.KEY=VALUE. `python -m unet_jax.main`
is the same command.
"""

if __name__ == "__main__":  # before the imports that take long
    from unet_jax.process import signals

    signals.install()

import re
import sys
from typing import Any

from absl import flags
from ml_collections import config_flags

from unet_jax import command_line
from unet_jax.errors import UserError
from unet_jax.modes import MODES
from unet_jax.process import runtime, signals
from unet_jax.process.paths import expand

MOST_PROCESSES = 2**20
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config page; default: that of the run in --workdir.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    list(MODES),
    "What to do.",
)
flags.register_multi_flags_validator(
    ["workdir", "mode"],
    lambda given: given["workdir"] or not MODES[given["mode"]].needs_workdir,
    "Give the directory of the run: --workdir=DIRECTORY.",
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "train: Replace the run in --workdir.")
SPLIT = flags.DEFINE_enum("split", "val", ["train", "val", "test"], "eval: which images.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "best",
    ["best", "latest"],
    "eval, predict, export, serve: the best by config.eval.headline, or the latest.",
)
INPUT = flags.DEFINE_multi_string(
    "input",
    [],
    "predict: an image or folder; may be repeated. export: up to three images to keep as examples.",
)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "predict: folder for masks; WORKDIR/predictions. score: for scores and their card; WORKDIR. "
    "export: for a folder of each format.",
)
OUTPUTS = flags.DEFINE_list(
    "outputs",
    ["mask", "overlay"],
    "predict: what is written: mask, overlay, ids, colours, probability, entropy, disagreement, "
    "geojson, imagej, coco, yolo, csv; see docs/guide/prediction.md.",
)
ENSEMBLE = flags.DEFINE_multi_string(
    "ensemble",
    [],
    "predict: another run, whose probabilities are averaged with those of --workdir; may be "
    "repeated.",
)
TTA = flags.DEFINE_bool(
    "tta",
    False,
    "predict: Average over images mirrored and turned as training did, by config.augment; not "
    "where classes are a left and a right.",
)
MASK_SUFFIX = flags.DEFINE_enum(
    "mask_suffix",
    None,
    [".png", ".tif", ".npy", ".zarr"],
    "predict: of the files of masks; default: that of the image's format.",
)
REPLACE = flags.DEFINE_bool(
    "replace", False, "predict, score, export: Replace results that are there already."
)
PREDICTIONS = flags.DEFINE_string(
    "predictions",
    "",
    "score, verify: folder of predicted masks, or a pattern such as 'out/{name}_seg.png'.",
)
TRUTH = flags.DEFINE_string(
    "truth", "", "score, verify: folder of true masks of the same names, or so."
)
FIELD_OF_VIEW = flags.DEFINE_string(
    "field_of_view", "", "score: folder of files that are black outside the field of view, or so."
)
PREDICTIONS_ARE = flags.DEFINE_enum(
    "predictions_are",
    None,
    ["ids", "labels"],
    "score, verify: what predicted masks hold, class ids or the values of the true masks.",
)
TRIMAP = flags.DEFINE_integer(
    "trimap", 3, "score: pixels from true borders, near and off which scores are had too; 0: none."
)
MEMORY = flags.DEFINE_string(
    "memory", None, "plan: of each device, such as 16GiB; default: what the device reports."
)
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "plan: TPUs that are not there, such as v5e:2x4; default: the devices here."
)
WRITE_PAGE = flags.DEFINE_string(
    "write_page", None, "doctor: config page to write, with what fits the data."
)
AUDIT = flags.DEFINE_multi_string(
    "audit", [], "doctor: a trained run that judges labels; may be repeated, for each fold."
)
CARD = flags.DEFINE_string("card", None, "verify: the JSON file of a card.")
flags.register_multi_flags_validator(
    ["card", "mode"],
    lambda given: given["card"] or given["mode"] != "verify",
    "Give the card to verify: --card=RUN/cards/NAME.json.",
)
HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "serve: address to listen on; the default is for this computer alone."
)
PORT = flags.DEFINE_integer("port", 8000, "serve: port; 0 for a free one.", 0, 2**16 - 1)
LIMITS = flags.DEFINE_string(
    "limits",
    "",
    "serve: what is taken at most, other than the defaults that are said at the start, such as "
    "'bytes=1000000,pixels=1000000,images=4,seconds=60,queue=8'.",
)
FORMATS = flags.DEFINE_list(
    "format", "", "export: one or more, such as stablehlo,onnx; see docs/guide/export.md."
)
LICENCE = flags.DEFINE_string("licence", "", "export: the model's, such as CC-BY-4.0 (SPDX).")
RUNTIME = flags.DEFINE_string(
    "runtime",
    "",
    "export: folder of the unpacked npm package onnxruntime-web, for --format=page; needed once.",
)
RENEW = flags.DEFINE_string("renew", "", "export: a StableHLO export to make new, for this jax.")
MULTIHOST = flags.DEFINE_bool(
    "multihost", None, "This is one of many processes; found by itself under Slurm and Open MPI."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "multihost: HOST:PORT of process 0, where no launcher tells it."
)
flags.register_validator(
    "coordinator",
    lambda text: text is None or re.fullmatch(r".+:0*[1-9]\d{0,4}", text),
    "it must be HOST:PORT, such as 10.0.0.1:8476.",
)
NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "multihost: how many processes there are.", 1, MOST_PROCESSES
)
PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "multihost: which process this is, from 0.", 0, MOST_PROCESSES
)

USED_BY = {
    "input": ("predict", "export"),
    "output": ("predict", "score", "export"),
    "outputs": ("predict",),
    "ensemble": ("predict",),
    "tta": ("predict",),
    "mask_suffix": ("predict",),
    "replace": ("predict", "score", "export"),
    "format": ("export",),
    "licence": ("export",),
    "runtime": ("export",),
    "renew": ("export",),
    "predictions": ("score", "verify"),
    "truth": ("score", "verify"),
    "field_of_view": ("score",),
    "predictions_are": ("score", "verify"),
    "trimap": ("score",),
    "memory": ("plan",),
    "topology": ("plan",),
    "split": ("eval",),
    "checkpoint": ("eval", "predict", "export", "serve"),
    "overwrite": ("train",),
    "write_page": ("doctor",),
    "audit": ("doctor",),
    "card": ("verify",),
    "host": ("serve",),
    "port": ("serve",),
    "limits": ("serve",),
}
"""The modes that take a flag; a flag that is not here is for all of them."""
OF_MANY = {"coordinator": (True,), "num_processes": (True,), "process_id": (True,)}
"""The values of --multihost that take a flag, where no launcher started several processes."""


def run() -> None:
    """Does what the flags say; see the function of each mode for what it raises."""
    command_line.refuse_unused("mode", USED_BY)
    mode, workdir = MODES[MODE.value], expand(WORKDIR.value or "", "--workdir")
    if mode.left:
        left = mode.left
        signals.leave(lambda: left(flags.FLAGS, workdir))
    if not runtime.is_one_of_many(MULTIHOST.value):
        command_line.refuse_unused("multihost", OF_MANY)
    elif not mode.together:
        raise UserError(
            f"--mode={MODE.value} works in one process, and this is one of several; start it once, "
            "without --multihost."
        )
    else:
        runtime.supervise()
        from unet_jax.process import multihost

        multihost.join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if "://" in (WORKDIR.value or ""):
        raise UserError(
            f"--workdir={WORKDIR.value} must be a directory, on this machine or mounted; only "
            "config.data.path can be in an object store."
        )
    try:
        with command_line.full_disk(mode.full_disk):
            mode.work(flags.FLAGS, CONFIG.value, workdir)
    except (RuntimeError, MemoryError) as error:
        from unet_jax.process.capacity import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise UserError(_say_out_of_memory(CONFIG.value)) from None


def _say_out_of_memory(config: Any) -> str:
    """Says what would fit where a device, or the host, had no memory left."""
    if MODE.value == "train":
        from unet_jax.plan.memory import advise

        return advise(config)
    if MODE.value == "score":
        return f"out of memory: lower config.data.workers={config.data.workers}."
    return (
        "out of memory: the images alone would fit, so something else fills the rest; end other "
        f"programs on the device, or lower config.eval.batch_size={config.eval.batch_size}."
    )


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
