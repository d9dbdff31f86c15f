"""Trains, evaluates and applies U-Nets.

python -m unet_jax.main --config=configs/oxford_pets.py --workdir=runs/pets
python -m unet_jax.main --mode=eval --split=test --workdir=runs/pets
python -m unet_jax.main --mode=predict --input=photo.jpg --workdir=runs/pets

Any value of the config page can be set by --config.SECTION.KEY=VALUE.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from unet_jax import command_line

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config page; default: that of the run in --workdir.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
flags.register_validator("workdir", bool, "Give the directory of the run.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict"], "What to do.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete the run that is in --workdir.")
SPLIT = flags.DEFINE_enum("split", "val", ["train", "val", "test"], "eval: which pictures.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "best", ["best", "latest"], "eval, predict: the best by val/mIoU or the latest."
)
INPUT = flags.DEFINE_multi_string("input", [], "predict: a picture or folder; may be repeated.")
OUTPUT = flags.DEFINE_string("output", None, "predict: folder for masks; WORKDIR/predictions.")


def run() -> None:
    """Does what the flags say; see `train`, `evaluate` and `predict` for what it raises."""
    config, workdir = CONFIG.value, Path(WORKDIR.value or "")
    if MODE.value == "train":
        from unet_jax.train import train_and_evaluate

        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        train_and_evaluate(config, workdir, overwrite=OVERWRITE.value, overrides=overrides)
    elif MODE.value == "eval":
        from unet_jax.evaluate import evaluate_run

        evaluate_run(config, workdir, split=SPLIT.value, checkpoint=CHECKPOINT.value)
    else:
        from unet_jax.predict import predict_run

        output, inputs = Path(OUTPUT.value or workdir / "predictions"), INPUT.value
        predict_run(config, workdir, inputs=inputs, output=output, checkpoint=CHECKPOINT.value)


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
