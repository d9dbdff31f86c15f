"""Runs the trials of a study, each in a folder of its own.

python -m experiments.sweep --study=experiments/studies/upsampling.py --workdir=runs/upsampling
python -m experiments.sweep --study=... --workdir=... --dry_run
python -m experiments.sweep --study=... --workdir=... --search=tpe --trials=50

The same command goes on after any death; trials that are finished are not run again. The exit code
is 0 when all trials are finished and 1 when some failed.
"""

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from experiments.engines.base import Engine
from experiments.engines.local import Local, Slots, make_slots
from unet_jax import command_line
from unet_jax.errors import StoppedError, UserError

STUDY = flags.DEFINE_string("study", None, "Study page.")
flags.register_validator("study", bool, "Give the study page: --study=FILE.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the study.")
flags.register_validator("workdir", bool, "Give the directory of the study: --workdir=DIRECTORY.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be done, and write nothing.")
SET = flags.DEFINE_multi_string(
    "set", [], "KEY=VALUE for every trial, such as data.source=folder; may be repeated."
)
PACK = flags.DEFINE_bool("pack", True, "Train trials that differ in numbers in one program.")
MAX_PARALLEL = flags.DEFINE_integer(
    "max_parallel", None, "Jobs at a time; default: devices, 1 on CPU, a cluster's.", lower_bound=1
)
SEARCH = flags.DEFINE_enum("search", None, ["tpe", "random"], "Search the study's ranges.")
TRIALS = flags.DEFINE_integer(
    "trials", 20, "search: how many trials, earlier ones included.", lower_bound=1
)


def _local(folder: Path, slots: Slots) -> Engine:
    return Local(slots)


def _slurm(folder: Path, slots: Slots) -> Engine:
    from experiments.engines.slurm import Slurm

    return Slurm(folder, ENGINE_OPTIONS.value, max_parallel=MAX_PARALLEL.value or 0)


def _ray(folder: Path, slots: Slots) -> Engine:
    from experiments.engines.ray import Ray

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
CLUSTERS = {"engine_options": ("slurm", "ray")}
"""The engines that take a flag."""


def run() -> None:
    """Does what the flags say.

    Raises:
        UserError: The study, a trial or the directory does not fit; nothing has run.
        StoppedError: A signal asked to stop; everything is saved.
        FailedTrialsError: Some trials failed, and the others are finished.
    """
    command_line.refuse_unused("search", SEARCHES)
    command_line.refuse_unused("engine", CLUSTERS)
    if SEARCH.value and PACK.value and flags.FLAGS["pack"].present:
        raise UserError(f"--pack is not for --search={SEARCH.value}, whose trials run one by one.")

    from experiments.pages import load_study, parse_overrides
    from experiments.sweep.launcher import Sweep, print_plan, run_design
    from experiments.trials import locked

    page, folder = Path(STUDY.value or ""), Path(WORKDIR.value or "")
    study = load_study(page)
    base = parse_overrides(study.page, SET.value)
    mode = "packed" if PACK.value else "single"
    try:
        # Elsewhere the engine knows the devices, and how many jobs there are at a time.
        is_local, count = ENGINE.value == "local", MAX_PARALLEL.value
        slots = make_slots(count) if is_local else [{}] * (count or 1)
        sweep = Sweep(page, study, base, folder, mode, slots, is_local)
        if DRY_RUN.value:
            if SEARCH.value:
                from experiments.sweep.search import print_search_plan

                print_search_plan(sweep, SEARCH.value, TRIALS.value)
            else:
                print_plan(sweep)
            return
        with locked(folder):
            engine = ENGINES[ENGINE.value](folder / "engine", slots)
            if SEARCH.value:
                from experiments.sweep.search import search

                search(sweep, engine, SEARCH.value, TRIALS.value)
            else:
                run_design(sweep, engine)
    except (StoppedError, KeyboardInterrupt) as error:
        signum = error.exit_code - 128 if isinstance(error, StoppedError) else signal.SIGINT
        raise StoppedError(
            "stopped; what had begun is saved. The same command goes on: python -m "
            f"experiments.sweep {shlex.join(sys.argv[1:])}",
            signum,
        ) from None


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
