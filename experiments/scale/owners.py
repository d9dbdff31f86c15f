"""Starts two trainings in one directory: one goes on undisturbed, the other ends in one line.

python -m experiments.scale.owners --trials=10

A trial starts a run and, at once or some seconds later, the same command again in the same
directory; both are of one process, or of two each. One of them must end as a run that nobody
disturbed, byte for byte. The other must exit with 2, and say in one line who owns the directory:
within 5 s of its start, and all processes of several within 30 s.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import app, flags, logging

from experiments.scale.compare import different_bytes, find_other
from experiments.scale.launch import command_lines

TRIALS = flags.DEFINE_integer("trials", 10, "How many pairs of each way.", lower_bound=1)
ONLY = flags.DEFINE_list("ways", [], "Names of ways to start; empty for all.")
LIMIT = flags.DEFINE_float("limit", 330.0, "Seconds after which a command hangs.")

ROOT = Path(__file__).parents[2]
STEPS = 400  # so that the first is still at it when the second comes
POLL = 0.02


class Way(NamedTuple):
    """How two runs start.

    Attributes:
        counts: Processes of the first and of the second.
        apart: Seconds between their starts.
        limit: Seconds in which all processes of the loser must have ended.
        flags: Further flags of the second.
    """

    counts: tuple[int, int]
    apart: float
    limit: float
    flags: tuple[str, ...] = ()


LONG = f"--config.train.duration={STEPS} steps"
WAYS = {
    "together": Way((1, 1), 0, 5),
    "3 s apart": Way((1, 1), 3, 5),
    "--overwrite 3 s later": Way((1, 1), 3, 5, ("--overwrite",)),
    "two processes each": Way((2, 2), 0, 30),
    "two processes each 3 s apart": Way((2, 2), 3, 30),
    "two processes then one": Way((2, 1), 3, 30),  # any of the two may come first
}


class Side:
    """One of two runs: its processes, when they ended, and what they said."""

    def __init__(self, workdir: Path, count: int, log: Path, more: Sequence[str] = ()) -> None:
        """Starts the processes; their output goes to files that begin with `log`."""
        lines = command_lines(workdir, count, ["--config=configs/tiny.py", LONG, *more])
        self._logs = [log.with_name(f"{log.name}.{index}") for index in range(count)]
        self.begin, self.end, self._processes = time.monotonic(), 0.0, []
        for line, file in zip(lines, self._logs, strict=True):
            with file.open("wb") as out:
                env = os.environ | {"JAX_PLATFORMS": "cpu"}
                process = subprocess.Popen(line, cwd=ROOT, env=env, stdout=out, stderr=out)
            self._processes.append(process)

    def has_ended(self) -> bool:
        """Tells whether all processes have ended, and notes when that was first seen."""
        if any(process.poll() is None for process in self._processes):
            return False
        self.end = self.end or time.monotonic()
        return True

    def codes(self) -> list[int | None]:
        """Returns the exit codes."""
        return [process.returncode for process in self._processes]

    def says(self) -> list[list[str]]:
        """Returns the lines of every process."""
        return [log.read_text(errors="replace").splitlines() for log in self._logs]

    def kill(self) -> None:
        """Ends what is left."""
        for process in self._processes:
            process.kill()
            process.wait()


class Pair(NamedTuple):
    """What two runs in one directory came to.

    Attributes:
        way: Of `WAYS`.
        codes: Exit codes of the winner's processes, then of the loser's.
        seconds: From the loser's start to the end of its last process.
        problems: What was not as it must be.
    """

    way: str
    codes: tuple[list[int | None], list[int | None]]
    seconds: float
    problems: list[str]


def start(way: str, folder: Path, undisturbed: Mapping[int, Path]) -> Pair:
    """Starts two runs in one directory and waits for both.

    Args:
        way: Of `WAYS`.
        folder: An empty one for them.
        undisturbed: The directory of the run to compare with, by its count of processes.

    Returns:
        What it came to.
    """
    run, facts = folder / "run", WAYS[way]
    first = Side(run, facts.counts[0], folder / "first")
    wait(lambda: time.monotonic() - first.begin >= facts.apart or first.has_ended(), LIMIT.value)
    second = Side(run, facts.counts[1], folder / "second", facts.flags)
    sides = [first, second]
    hung = not wait(lambda: min(side.has_ended() for side in sides), LIMIT.value)
    for side in sides:
        side.kill()
    won, lost = sides if any(second.codes()) else reversed(sides)
    seconds = lost.end - lost.begin if lost.end else LIMIT.value
    alone = undisturbed[len(won.codes())]
    problems = ["one hung"] if hung else []
    if any(won.codes()):
        problems.append(f"none trained, the last words were {won.says()[0][-1:]}")
    elif bytes_ := different_bytes(run, alone, STEPS):
        problems.append(f"{bytes_} bytes differ from the undisturbed run")
    elif other := find_other(run, alone):
        problems.append(f"not what the undisturbed run left: {', '.join(other)}")
    problems += find_problems(lost)
    if seconds > facts.limit:
        problems.append(f"more than {facts.limit:g} s")
    return Pair(way, (won.codes(), lost.codes()), seconds, problems)


def find_problems(lost: Side) -> list[str]:
    """Returns what is wrong with how the loser ended: one line, exit code 2, of every process."""
    problems = [] if set(lost.codes()) == {2} else [f"the loser's exit codes are {lost.codes()}"]
    for lines in lost.says():
        errors = [line for line in lines if line.startswith("error: ")]
        if len(errors) != 1 or " is in use by a training: process " not in errors[0]:
            problems.append(f"the loser said {lines[-3:]}")
        problems += ["a traceback"] if any("Traceback" in line for line in lines) else []
    return problems


def wait(is_so: Callable[[], bool], limit: float) -> bool:
    """Waits until something is so; tells whether it was within some seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(POLL)
    return False


def main(argv: list[str]) -> None:
    """Prints a line per pair, and the sums."""
    del argv
    os.environ["JAX_PLATFORMS"] = "cpu"
    logging.set_verbosity(logging.ERROR)
    ways, pairs = ONLY.value or list(WAYS), []
    with tempfile.TemporaryDirectory() as name:
        undisturbed = {}
        for count in sorted({count for way in ways for count in WAYS[way].counts}):
            undisturbed[count] = Path(name) / f"undisturbed_{count}"
            alone = Side(undisturbed[count], count, Path(name) / f"log_{count}")
            wait(alone.has_ended, LIMIT.value)
            alone.kill()
            assert not any(alone.codes()), alone.says()
        for index in range(TRIALS.value * len(ways)):
            way = ways[index % len(ways)]
            folder = Path(name) / f"pair_{index}"
            folder.mkdir()
            pair = start(way, folder, undisturbed)
            end = "; ".join(pair.problems) or "the other trained the same bytes"
            print(
                f"{way:30} {pair.codes}, one ended after {pair.seconds:4.1f} s; {end}", flush=True
            )
            pairs.append(pair)
    for way in ways:
        seconds = [pair.seconds for pair in pairs if pair.way == way]
        wrong = sum(bool(pair.problems) for pair in pairs if pair.way == way)
        print(
            f"{way:30} {len(seconds)} pairs, {wrong} wrong, the losers ended within "
            f"{max(seconds):.1f} s of {WAYS[way].limit:g} s"
        )
    sys.exit(1 if any(pair.problems for pair in pairs) else 0)


if __name__ == "__main__":
    app.run(main)
