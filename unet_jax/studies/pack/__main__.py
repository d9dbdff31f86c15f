"""Trains several trials as one program; each leaves what it would leave alone.

python -m unet_jax.studies.pack --trial=DIR/A --trial=DIR/B

Trials are the run directories of a sweep, with their config.json. They must differ in numbers
alone: seeds, learning rates, weights, strengths; a function's signature says which (`Number`).
"""

if __name__ == "__main__":  # before the imports that take long
    from unet_jax.process import signals

    signals.install()

import sys

from absl import flags

from unet_jax import command_line
from unet_jax.errors import UserError
from unet_jax.process.paths import expand

TRIALS = flags.DEFINE_multi_string("trial", [], "Run directory of a trial; repeated.")
WAY = flags.DEFINE_enum(
    "way", None, ["in_turn", "side_by_side"], "Default: in turn on CPU, else side by side."
)


def run() -> None:
    """Trains the trials that are not finished; see `train.train_packed` for what it raises."""
    from unet_jax import config as configs
    from unet_jax.runs import layout
    from unet_jax.runs import workdir as run_dir

    folders = [expand(trial, "--trial") for trial in TRIALS.value]
    if not folders:
        raise UserError("--trial is missing; give the run directories of the trials.")
    open_folders = [folder for folder in folders if not run_dir.is_finished(folder)]
    if not open_folders:
        print("all of these trials are finished.")
        return
    from unet_jax.studies.pack.train import train_packed
    from unet_jax.studies.trials import read_trial

    loaded = {folder: configs.load(folder / layout.CONFIG) for folder in open_folders}
    trials = {folder: read_trial(folder) for folder in open_folders}
    overrides = {folder: trial.overrides if trial else {} for folder, trial in trials.items()}
    advice = "Free some space and start the same command again: runs go on from checkpoints."
    with command_line.full_disk(advice):
        train_packed(loaded, overrides, WAY.value)


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
