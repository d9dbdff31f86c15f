"""Trains, evaluates and applies U-Nets.

python -m unet_jax.main --config=configs/oxford_pets.py --workdir=runs/pets
python -m unet_jax.main --mode=eval --split=test --workdir=runs/pets
python -m unet_jax.main --mode=predict --input=photo.jpg --workdir=runs/pets
python -m unet_jax.main --mode=plan --memory=16GiB --config=configs/oxford_pets.py

Any value of the config page can be set by --config.SECTION.KEY=VALUE.
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from unet_jax import command_line, runtime
from unet_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config page; default: that of the run in --workdir.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict", "plan"], "What to do.")
flags.register_multi_flags_validator(
    ["workdir", "mode"],
    lambda given: given["workdir"] or given["mode"] == "plan",
    "Give the directory of the run: --workdir=DIRECTORY.",
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "train: Delete the run in --workdir.")
SPLIT = flags.DEFINE_enum("split", "val", ["train", "val", "test"], "eval: which pictures.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "best", ["best", "latest"], "eval, predict: the best by val/mIoU or the latest."
)
INPUT = flags.DEFINE_multi_string("input", [], "predict: a picture or folder; may be repeated.")
OUTPUT = flags.DEFINE_string("output", None, "predict: folder for masks; WORKDIR/predictions.")
REPLACE = flags.DEFINE_bool("replace", False, "predict: Replace results that are there already.")
MEMORY = flags.DEFINE_string(
    "memory", None, "plan: of each device, such as 16GiB; default: what the device reports."
)
MULTIHOST = flags.DEFINE_bool(
    "multihost", None, "This is one of many processes; found by itself under Slurm and Open MPI."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "multihost: HOST:PORT of process 0, where no launcher tells it."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "multihost: likewise, how many.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "multihost: likewise, which one, from 0.")

MODES = {
    "input": ("predict",),
    "output": ("predict",),
    "replace": ("predict",),
    "memory": ("plan",),
    "split": ("eval",),
    "checkpoint": ("eval", "predict"),
    "overwrite": ("train",),
}
"""The modes that take a flag; a flag that is not here is for all of them."""
OF_MANY = {"coordinator": (True,), "num_processes": (True,), "process_id": (True,)}
"""Likewise of --multihost, where no launcher started several processes."""


def run() -> None:
    """Does what the flags say; see `train`, `evaluate`, `plan` and `predict` for what it raises."""
    command_line.refuse_unused("mode", MODES)
    if not runtime.is_one_of_many(MULTIHOST.value):
        command_line.refuse_unused("multihost", OF_MANY)
    else:
        runtime.supervise()
        from unet_jax import multihost

        multihost.join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
    if "://" in (WORKDIR.value or ""):
        raise UserError(
            f"--workdir={WORKDIR.value} must be a directory, on this machine or mounted; only "
            "config.data.path can be in an object store."
        )
    try:
        _work(CONFIG.value, Path(WORKDIR.value or ""))
    except (RuntimeError, MemoryError) as error:
        from unet_jax.capacity import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise UserError(_say_out_of_memory(CONFIG.value)) from None


def _say_out_of_memory(config: Any) -> str:
    """Says what would fit where a device, or the host, had no memory left."""
    if MODE.value == "train":
        from unet_jax.memory import advise

        return advise(config)
    return (
        "out of memory: the images alone would fit, so something else fills the rest; end other "
        f"programs on the device, or lower config.eval.batch_size={config.eval.batch_size}."
    )


def _work(config: Any, workdir: Path) -> None:
    if MODE.value == "train":
        from unet_jax.train import train_and_evaluate

        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        train_and_evaluate(config, workdir, overwrite=OVERWRITE.value, overrides=overrides)
    elif MODE.value == "eval":
        from unet_jax.evaluate import evaluate_run

        evaluate_run(config, workdir, split=SPLIT.value, checkpoint=CHECKPOINT.value)
    elif MODE.value == "plan":
        from unet_jax.memory import plan

        plan(config, MEMORY.value, workdir if WORKDIR.value else None)
    else:
        from unet_jax.predict import predict_run

        predict_run(
            config,
            workdir,
            inputs=INPUT.value,
            output=OUTPUT.value,
            checkpoint=CHECKPOINT.value,
            replace=REPLACE.value,
        )


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
