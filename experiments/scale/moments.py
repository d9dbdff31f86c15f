"""Runs a training that dies at a moment of a file: just before or after it is made or renamed.

python -m experiments.scale.moments WORKDIR LOG MOMENT FLAGS...

does what `python -m unet_jax.main FLAGS...` does. Every moment is a line of LOG, such as "after
rename results.json 1": what is about to happen or has just happened, to which file of WORKDIR, and
how often it has. At MOMENT the process kills itself by SIGKILL; where that is "" it never does.
Native code is not seen: it writes inside folders of which the making and renaming are.
"""

import builtins
import collections
import io
import itertools
import os
import random
import re
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# What differs between equal runs: ids of the process and its threads, times, random names.
_OTHER = re.compile(rf"[0-9a-f]{{24,}}|{os.getpid()}|\d{{9,}}|(?<=tmp)[a-z0-9_]{{8}}")


class Moments:
    """Counts moments, writes them down, and dies at one of them."""

    def __init__(self, workdir: Path, log: Path, moment: str) -> None:
        """Takes the run's directory, the file of the moments, and the moment to die at."""
        self._workdir, self._moment = str(workdir.absolute()), moment
        self._log, self._lock = log, threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()

    def pass_by(self, when: str, what: str, path: Any) -> None:
        """Notes a moment of a file of the run; others pass unseen."""
        text = os.path.abspath(os.fsdecode(path))
        if not text.startswith(self._workdir):
            return
        name = _OTHER.sub("X", os.path.relpath(text, self._workdir))
        with self._lock:
            self._counts[f"{when} {what} {name}"] += 1
            line = f"{when} {what} {name} {self._counts[f'{when} {what} {name}']}"
            with self._log.open("a") as log:  # not a file of the run, so this is not watched
                log.write(f"{line}\n")
            if line == self._moment:
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, what: str, function: Callable[..., Any], which: int) -> Callable[..., Any]:
        """Makes a function that does what another one does, and passes by before and after.

        Args:
            what: It does.
            function: The other one.
            which: Of its arguments is the file that it is told by.
        """

        def watched(*args: Any, **kwargs: Any) -> Any:
            path = args[which] if len(args) > which else None
            is_seen = isinstance(path, str | bytes | os.PathLike) and not kwargs.get("dir_fd")
            if is_seen:
                self.pass_by("before", what, path)
            result = function(*args, **kwargs)
            if is_seen:
                self.pass_by("after", what, path)
            return result

        return watched

    def watch_open(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Watches `open` where it makes a file or begins one anew; see `watch`."""
        making = self.watch("create", function, 0)

        def watched(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            chosen = making if set(mode) & set("wxa") else function
            return chosen(file, mode, *args, **kwargs)

        return watched


def in_turn(moments: Sequence[str], rng: random.Random) -> list[str]:
    """Sorts moments so that every kind comes once before any comes twice.

    What lies inside a checkpoint is of one kind, and so is what is deleted there; what a run
    deletes elsewhere are its own temporary files.

    Args:
        moments: Lines of a LOG.
        rng: Draws the order of the kinds, and that of a kind's moments.

    Returns:
        The moments.
    """
    from unet_jax.runs.layout import CHECKPOINTS  # here, so that nothing is imported early

    kinds: dict[str, list[str]] = {}
    for moment in rng.sample(moments, len(moments)):
        when, what, name, _ = moment.split(" ")
        if what != "delete" or name.startswith(CHECKPOINTS):
            folder, *inside = re.sub("[0-9X]+", "N", name).split("/", 2)
            kind = f"{when} {what} {folder}/{''.join(inside[:1])} {len(inside)}"
            kinds.setdefault(kind, []).append(moment)
    turns = itertools.zip_longest(*kinds.values())
    return [moment for turn in turns for moment in turn if moment]


def main() -> None:
    """Watches, and trains."""
    workdir, log, moment, *flags = sys.argv[1:]
    moments = Moments(Path(workdir), Path(log), moment)
    system: Any = os
    # pathlib and others look these up where they are.
    system.rename = moments.watch("rename", os.rename, 1)
    system.replace = moments.watch("rename", os.replace, 1)
    system.mkdir = moments.watch("create", os.mkdir, 0)
    system.unlink = moments.watch("delete", os.unlink, 0)
    system.rmdir = moments.watch("delete", os.rmdir, 0)
    builtins.open = io.open = moments.watch_open(io.open)
    sys.argv = ["unet_jax.main", *flags]
    runpy.run_module("unet_jax.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
