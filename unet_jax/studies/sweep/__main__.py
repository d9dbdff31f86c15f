"""Runs the trials of a study, each in a folder of its own.

unet-jax-sweep --study=study.py --workdir=runs/study
unet-jax-sweep --study=... --workdir=... --dry_run
unet-jax-sweep --study=... --workdir=... --search=tpe --trials=50

`python -m unet_jax.studies.sweep` is the same command.

The same command goes on after any death; trials that are finished are not run again. The exit code
is 0 when all trials are finished, 1 when some failed, and 5 when --skip_impossible left some out
and all others are finished.
"""

if __name__ == "__main__":  # before the imports that take long
    from unet_jax.process import signals

    signals.install()

import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from unet_jax import command_line
from unet_jax.commands import spell
from unet_jax.errors import StoppedError, UserError
from unet_jax.process import signals
from unet_jax.process.owner import SWEEP, owned
from unet_jax.process.paths import expand
from unet_jax.studies.engines.base import Engine
from unet_jax.studies.engines.local import Local, Slots, make_slots

STUDY = flags.DEFINE_string("study", None, "Study page.")
flags.register_validator("study", bool, "Give the study page: --study=FILE.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the study.")
flags.register_validator("workdir", bool, "Give the directory of the study: --workdir=DIRECTORY.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be done, and write nothing.")
SET = flags.DEFINE_multi_string(
    "set", [], "KEY=VALUE for every trial, such as data.source=folder; may be repeated."
)
SKIP_IMPOSSIBLE = flags.DEFINE_bool(
    "skip_impossible", False, "Leave out trials whose config does not fit, and run the others."
)
PACK = flags.DEFINE_bool("pack", True, "Train trials that differ in numbers in one program.")
MAX_PARALLEL = flags.DEFINE_integer(
    "max_parallel", None, "Jobs at a time; default: devices, 1 on CPU, a cluster's.", 1, 10**4
)
SEARCH = flags.DEFINE_enum("search", None, ["tpe", "random"], "Search the study's ranges.")
TRIALS = flags.DEFINE_integer(
    "trials", 20, "search: how many trials, earlier ones included.", 1, 10**6
)


def _local(folder: Path, slots: Slots) -> Engine:
    return Local(slots)


def _slurm(folder: Path, slots: Slots) -> Engine:
    from unet_jax.studies.engines.slurm import Slurm

    return Slurm(folder, ENGINE_OPTIONS.value, max_parallel=MAX_PARALLEL.value or 0)


def _ray(folder: Path, slots: Slots) -> Engine:
    from unet_jax.studies.engines.ray import Ray

    return Ray(folder, ENGINE_OPTIONS.value, max_parallel=MAX_PARALLEL.value or 0)


ENGINES: dict[str, Callable[[Path, Slots], Engine]] = {
    "local": _local,
    "slurm": _slurm,
    "ray": _ray,
}
ENGINE = flags.DEFINE_enum("engine", "local", list(ENGINES), "What runs the trials.")
ENGINE_OPTIONS = flags.DEFINE_string(
    "engine_options", "", "slurm: options of sbatch, --gres=gpu:1; ray: of a task, num_gpus=1."
)
SEARCHES = {"trials": ("tpe", "random")}
"""The searches that take a flag."""
FULL_DISK = (
    "Free some space and start the same command again: finished trials are kept, and the others go "
    "on from their last checkpoints."
)
CLUSTERS = {"engine_options": ("slurm", "ray")}
"""The engines that take a flag."""


def run() -> None:
    """Does what the flags say.

    Raises:
        UserError: The study, a trial or the directory does not fit; nothing has run.
        StoppedError: A signal asked to stop; everything is saved.
        FailedTrialsError: Some trials failed, and the others are finished.
        ImpossibleTrialsError: Some trials are impossible, and the others are finished.
    """
    command_line.refuse_unused("search", SEARCHES)
    command_line.refuse_unused("engine", CLUSTERS)
    if SEARCH.value and PACK.value and flags.FLAGS["pack"].present:
        raise UserError(f"--pack is not for --search={SEARCH.value}, whose trials run one by one.")

    signals.leave(_left)
    from unet_jax.studies.pages import load_study, parse_overrides
    from unet_jax.studies.sweep.launcher import Sweep, print_plan, run_design

    page, folder = expand(STUDY.value or "", "--study"), expand(WORKDIR.value or "", "--workdir")
    study = load_study(page)
    base = parse_overrides(study.page, SET.value)
    mode = "packed" if PACK.value else "single"
    try:
        # Elsewhere the engine knows the devices, and how many jobs there are at a time.
        is_local, count = ENGINE.value == "local", MAX_PARALLEL.value
        slots = make_slots(count) if is_local else [{}] * (count or 1)
        sweep = Sweep(
            page=page,
            study=study,
            base=base,
            folder=folder,
            mode=mode,
            slots=slots,
            is_local=is_local,
            skips=SKIP_IMPOSSIBLE.value,
        )
        if DRY_RUN.value:
            if SEARCH.value:
                from unet_jax.studies.sweep.search import print_search_plan

                print_search_plan(sweep, SEARCH.value, TRIALS.value)
            else:
                print_plan(sweep)
            return
        with owned(folder, SWEEP), command_line.full_disk(FULL_DISK):
            engine = ENGINES[ENGINE.value](folder / "engine", slots)
            if SEARCH.value:
                from unet_jax.studies.sweep.search import search

                search(sweep, engine, SEARCH.value, TRIALS.value)
            else:
                run_design(sweep, engine)
    except StoppedError as error:
        raise StoppedError(f"stopped; {_left()}", error.exit_code - 128) from None


def _left() -> str:
    command = spell("unet-jax-sweep", *sys.argv[1:])
    return f"what had begun is saved. The same command goes on: {command}"


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
