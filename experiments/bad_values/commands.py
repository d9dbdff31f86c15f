"""Gives every flag of one command bad values, in this process and up to where its work begins.

python -m experiments.bad_values.commands unet_jax.explain.__main__
"""

import contextlib
import importlib
import io
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from absl import flags

from experiments.bad_values.bench import Answer, Reached, judge
from unet_jax import command_line

NINES = "9" * 400
TEXTS = (
    *("", "abc", "-1", "0", "0.5", "1e30", f"1{'0' * 30}", f"-1{'0' * 30}", "9" * 5000, "nan"),
    *("true", "1e400GB", f"{NINES}GB", "0 GB", "no/such/path", NINES, f"/{'/x' * 2500}", "."),
    *("/dev/null", "/dev/null/x", "[red]", "\udcff", "=", ",", "a=b", "()", "{", "1 2; 3", "a\nb"),
)
ROOT = Path(__file__).parents[2]
STUDY = f"--study={ROOT}/experiments/studies/loss.py"
PAGE = f"--config={ROOT}/configs/tiny.py"


class Command(NamedTuple):
    """A command to try.

    Attributes:
        function: Name of its function.
        lines: Flags that make each of its modes run, which those that are tried come after.
        stops: What its work begins with, where it is stopped.
    """

    function: str
    lines: tuple[tuple[str, ...], ...]
    stops: tuple[str, ...]


COMMANDS = {
    "unet_jax.main": Command(
        "run",
        (
            (PAGE, "--workdir=run"),
            (PAGE, "--workdir=run", "--mode=predict"),
            (PAGE, "--workdir=run", "--mode=eval"),
            (PAGE, "--mode=plan"),
        ),
        (
            "unet_jax.process.runtime.supervise",
            "unet_jax.training.assemble",
            "unet_jax.plan.memory.measure",
        ),
    ),
    "unet_jax.explain.__main__": Command(
        "explain",
        (("--output=out", "--operation=conv"), ("--output=out",), ("--operation=unet", PAGE)),
        ("unet_jax.explain.lessons.write_lesson", "unet_jax.models.anatomy.dissect"),
    ),
    "experiments.bench.speed": Command(
        "measure", ((PAGE,),), ("experiments.bench.speed.write_images",)
    ),
    "unet_jax.studies.sweep.__main__": Command(
        "run",
        (
            (STUDY, "--workdir=sweep"),
            (STUDY, "--workdir=sweep", "--search=tpe"),
            (STUDY, "--workdir=sweep", "--engine=slurm"),
            (STUDY, "--workdir=sweep", "--engine=ray"),
        ),
        (
            "unet_jax.studies.sweep.launcher.run_design",
            "unet_jax.studies.sweep.launcher.print_plan",
            "unet_jax.studies.sweep.search.search",
        ),
    ),
}


def stop(*_: Any, **__: Any) -> Any:
    """Stands for a command's work."""
    raise Reached


def run(name: str, function: Callable[[], None], module: Any, given: list[str]) -> Answer:
    """Runs a command line; every line is one of the right answers."""
    for flag in flags.FLAGS:
        flags.FLAGS[flag].unparse()
    flags.FLAGS.unparse_flags()
    line = [name, *given]
    with mock.patch.object(sys, "argv", line), contextlib.redirect_stdout(io.StringIO()):
        return judge(lambda: command_line.run(line, function, module), ("",))


def try_flags(name: str, share: int = 1) -> tuple[Counter[str], list[str]]:
    """Tries every flag of a command.

    Args:
        name: Its module.
        share: Of all cases, one in so many is tried, drawn with a fixed seed.

    Returns:
        How many answers of each kind there were, and what was wrong.
    """
    command, module = COMMANDS[name], importlib.import_module(name)
    count, wrong, rng = Counter(), [], random.Random(0)
    names = [flag.name for flag in flags.FLAGS.flags_by_module_dict()[name]]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))
        for what in command.stops:
            stack.enter_context(mock.patch(what, stop))
        for flag, text, line in itertools.product(names, TEXTS, command.lines):
            if rng.random() * share >= 1:
                continue
            answer = run(
                name, getattr(module, command.function), module, [*line, f"--{flag}={text}"]
            )
            count[answer.kind] += 1
            if answer.kind == "wrong":
                wrong.append(f"{name} {' '.join(line)} --{flag}={text[:50]!r}: {answer.text}")
    return count, wrong


def main() -> int:
    """Tries the command that is named; returns the exit code."""
    name, share = sys.argv[1], int([*sys.argv, "1"][2])
    count, wrong = try_flags(name, share)
    print(
        *wrong,
        f"{name}: {count.total()} tried, {count['one line']} answered by one line, "
        f"{count['accepted']} accepted, {count['wrong']} wrong",
        sep="\n",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
