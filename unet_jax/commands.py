"""The console commands: each runs the module that `python -m` runs."""

import itertools
import os
import runpy
import shlex
import shutil
import sys
from pathlib import Path

MODULES = {
    "unet-jax": "unet_jax.main",
    "unet-jax-sweep": "unet_jax.studies.sweep",
    "unet-jax-report": "unet_jax.report",
    "unet-jax-explain": "unet_jax.explain",
}
"""The module of each command."""
CHECKOUT = {"unet-jax-sweep": "experiments.sweep", "unet-jax-report": "experiments.report"}
"""The modules of a checkout that are the same commands."""
_STARTS = {("-m", module) for module in CHECKOUT.values()}


def main() -> None:
    """Is `unet-jax`: trains, evaluates, predicts, plans and looks at data."""
    _run("unet-jax")


def sweep() -> None:
    """Is `unet-jax-sweep`: runs the trials of a study."""
    _run("unet-jax-sweep")


def report() -> None:
    """Is `unet-jax-report`: writes a report about sweeps and runs."""
    _run("unet-jax-report")


def explain() -> None:
    """Is `unet-jax-explain`: draws what an operation does, or a U-Net."""
    _run("unet-jax-explain")


def spell(command: str, *arguments: object) -> str:
    """Writes a command as this user can start it.

    Args:
        command: Of `MODULES`.
        *arguments: Its flags and operands.

    Returns:
        The console command where this process is one; else `python -m` and the module: that of a
        checkout where this process is of one, else the package's, which always works. A program
        that the shell would not find comes with its path.
    """
    started = Path(sys.orig_argv[min(1, len(sys.orig_argv) - 1)])
    is_console = started.name in MODULES
    program = started.with_name(command) if is_console else Path(sys.executable)
    name = command if is_console else "python"
    first = name if shutil.which(name) == str(program) else str(program)
    is_checkout = any(pair in _STARTS for pair in itertools.pairwise(sys.orig_argv))
    modules = MODULES | CHECKOUT if is_checkout else MODULES
    module = [] if is_console else ["-m", modules[command]]
    return shlex.join([first, *module, *map(str, arguments)])


def _run(command: str) -> None:
    # `python -m` takes modules from the working directory; a console command does not, and so the
    # processes that it starts must not either.
    os.environ["PYTHONSAFEPATH"] = "1"
    runpy.run_module(MODULES[command], run_name="__main__", alter_sys=True)
