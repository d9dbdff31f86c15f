"""Kills runs in every way and compares how they end with a run that nobody disturbed.

python -m experiments.scale.deaths --trials=40
python -m experiments.scale.deaths --trials=60 --ways="SIGKILL at a file"

A trial starts a run, lets it die in one of the ways of `WAYS` at a random moment, starts it again
until it is finished, and compares the final state, metrics and scores byte for byte with those of
the run that nobody disturbed, its figures pixel for pixel, and which checkpoints are kept. Runs of
two processes are compared with an undisturbed one of two. "SIGKILL at a file" takes the moments in
turn by kind: each file and folder of a run just before and after it is made, renamed or deleted.
Every command has a limit, which is above the 300 s that a process waits at its start for one that
never comes. The way "full disk" mounts a small tmpfs, which takes root; it is left out, saying so,
where that is not allowed.
"""

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import app, flags, logging

from experiments.scale.compare import different_bytes, find_other, records
from experiments.scale.launch import command_lines
from experiments.scale.moments import in_turn
from unet_jax.runs import layout

TRIALS = flags.DEFINE_integer("trials", 40, "How many runs die.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
ONLY = flags.DEFINE_list("ways", [], "Names of ways to die; empty for all.")
LIMIT = flags.DEFINE_float("limit", 330.0, "Seconds after which a command hangs.")
STEPS = flags.DEFINE_integer("steps", 40, "Steps of a run.")
EVERY = flags.DEFINE_integer("checkpoint_every", 5, "Steps between checkpoints.")

ROOT = Path(__file__).parents[2]


class Death(NamedTuple):
    """What a trial came to.

    Attributes:
        way: Of `WAYS`.
        died_at: Last step in the metrics when the run died.
        resumed_at: Step from which it went on.
        codes: Exit codes of the processes that died.
        different_bytes: Of the final state, against the undisturbed run; -1 where it has not ended.
        other: Names of what else is other: metrics, results, figures, kept checkpoints.
        seconds: From the death to the exit of every process.
        moment: Of a file; see `moments`.
    """

    way: str
    died_at: int
    resumed_at: int
    codes: list[int]
    different_bytes: int
    other: list[str]
    seconds: float
    moment: str = ""


def start(workdir: Path, count: int, moment: str | None = None) -> list[subprocess.Popen[bytes]]:
    """Starts the processes of a run; their output goes to files beside its directory.

    Args:
        workdir: The run's directory.
        count: How many processes.
        moment: Of a file, to die at; "" only writes the moments down, and None does neither.

    Returns:
        The processes.
    """
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    run_flags = [
        "--config=configs/tiny.py", f"--config.train.duration={STEPS.value}",
        f"--config.train.checkpoint_every={EVERY.value}",
    ]  # fmt: skip
    processes = []
    for index, line in enumerate(command_lines(workdir, count, run_flags)):
        if moment is not None:
            watch = ["experiments.scale.moments", str(workdir), str(moments_of(workdir)), moment]
            line[2:3] = watch
        with log_of(workdir, index).open("ab") as log:
            processes.append(subprocess.Popen(line, cwd=ROOT, env=env, stdout=log, stderr=log))
    return processes


def log_of(workdir: Path, process: int) -> Path:
    """Returns the file of a process's output, on another disk than a small one for the run."""
    return workdir.parent.with_name(f"{workdir.parent.name}.{process}.log")


def moments_of(workdir: Path) -> Path:
    """Returns the file of the moments of a run's files."""
    return workdir.parent.with_name(f"{workdir.parent.name}.moments")


def finish(processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Waits for processes and returns their exit codes; -999 for one that outlives the limit."""
    codes = []
    for process in processes:
        try:
            codes.append(process.wait(LIMIT.value))
        except subprocess.TimeoutExpired:
            process.kill()
            codes.append(-999)
    return codes


def last_step(workdir: Path) -> int:
    """Returns the last step in a run's metrics; 0 for none."""
    lines = records(workdir)
    return max((int(line["step"]) for line in lines), default=0)


Kill = Callable[[Path, list[subprocess.Popen[bytes]], random.Random], None]


def wait_until(is_so: Callable[[], bool], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits until something is so, or a process has ended, or the limit is over."""
    deadline = time.monotonic() + LIMIT.value
    while time.monotonic() < deadline and all(p.poll() is None for p in processes):
        if is_so():
            return
        time.sleep(0.0005)


def at_random(signum: int, *, first_only: bool = False, last_only: bool = False) -> Kill:
    """Makes a death by a signal at a random step, and a random moment of it.

    Args:
        signum: The signal.
        first_only: Whether it reaches the first process alone.
        last_only: Whether it reaches the last process alone.
    """

    def kill(workdir: Path, processes: list[subprocess.Popen[bytes]], rng: random.Random) -> None:
        step = rng.randrange(0, STEPS.value - 2)
        wait_until(lambda: last_step(workdir) >= step, processes)
        time.sleep(rng.random() * 0.05)
        targets = processes[:1] if first_only else processes[-1:] if last_only else processes
        for process in targets:
            time.sleep(rng.random() * 0.02)
            process.send_signal(signum)

    return kill


def in_a_save(workdir: Path, processes: list[subprocess.Popen[bytes]], rng: random.Random) -> None:
    """Kills while a checkpoint is being written."""
    folder, step = workdir / layout.CHECKPOINTS, EVERY.value * rng.randrange(1, 7)
    wait_until(lambda: any(folder.glob(f"{step}.orbax-checkpoint-tmp*")), processes)
    time.sleep(rng.random() * 0.02)
    for process in processes:
        process.kill()


def full_disk(workdir: Path, processes: list[subprocess.Popen[bytes]], rng: random.Random) -> None:
    """Fills the run's file system, and makes room again when every process has ended."""
    step = rng.randrange(1, STEPS.value - 10)
    wait_until(lambda: last_step(workdir) >= step, processes)
    filler = workdir.parent / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**12))
    finish(processes)
    filler.unlink()


def truncated(workdir: Path, processes: list[subprocess.Popen[bytes]], rng: random.Random) -> None:
    """Kills, and cuts a file of the newest checkpoint short."""
    folder, step = workdir / layout.CHECKPOINTS, EVERY.value * rng.randrange(2, 7)
    wait_until(lambda: (folder / str(step)).is_dir(), processes)
    for process in processes:
        process.kill()
    finish(processes)
    newest = max((int(f.name) for f in folder.iterdir() if f.name.isdecimal()), default=0)
    files = [file for file in (folder / str(newest)).rglob("*") if file.is_file()]
    broken = rng.choice([file for file in files if file.stat().st_size > 1])
    os.truncate(broken, broken.stat().st_size // 2)


def nothing(workdir: Path, processes: list[subprocess.Popen[bytes]], rng: random.Random) -> None:
    """Kills nobody, and waits until the run has done it itself."""
    wait_until(lambda: False, processes)


AT_A_FILE = "SIGKILL at a file"
WAYS: dict[str, tuple[int, Kill]] = {
    "SIGKILL": (1, at_random(signal.SIGKILL)),
    "SIGTERM": (1, at_random(signal.SIGTERM)),
    "SIGKILL in a save": (1, in_a_save),
    "truncated checkpoint": (1, truncated),
    "full disk": (1, full_disk),
    "SIGKILL of one of two": (2, at_random(signal.SIGKILL, last_only=True)),
    "SIGKILL of the first of two": (2, at_random(signal.SIGKILL, first_only=True)),
    "SIGTERM to one of two": (2, at_random(signal.SIGTERM, last_only=True)),
    "SIGTERM to both of two": (2, at_random(signal.SIGTERM)),
    AT_A_FILE: (1, nothing),
}


def trial(
    way: str, workdir: Path, undisturbed: Path, rng: random.Random, moment: str | None = None
) -> Death:
    """Lets a run die and brings it to its end.

    Args:
        way: Of `WAYS`.
        workdir: The run's directory.
        undisturbed: That of the run to compare with.
        rng: Draws the moment.
        moment: Of a file, where it dies at one.

    Returns:
        What it came to.
    """
    count, kill = WAYS[way]
    processes = start(workdir, count, moment)
    kill(workdir, processes, rng)
    died = time.monotonic()
    codes = finish(processes)
    seconds, died_at = time.monotonic() - died, last_step(workdir)
    log_of(workdir, 0).write_text("")
    again = finish(start(workdir, count))
    if any(again):
        return Death(
            way=way,
            died_at=died_at,
            resumed_at=0,
            codes=codes,
            different_bytes=-1,
            other=["the end"],
            seconds=seconds,
            moment=moment or "",
        )
    text = log_of(workdir, 0).read_text()
    _, is_resumed, rest = text.partition("resumes at")
    resumed_at = int(rest.split()[1]) if is_resumed else 0
    if "holds a finished run" in text:
        resumed_at = STEPS.value
    other = find_other(workdir, undisturbed)
    if " is broken (" in text and way != "truncated checkpoint":
        other.append("a checkpoint called broken")
    different = different_bytes(workdir, undisturbed, STEPS.value)
    return Death(
        way=way,
        died_at=died_at,
        resumed_at=resumed_at,
        codes=codes,
        different_bytes=different,
        other=other,
        seconds=seconds,
        moment=moment or "",
    )


def run(folder: Path, ways: Sequence[str], trials: int) -> list[Death]:
    """Runs trials, the ways in turn, and prints a line for each.

    Args:
        folder: For the runs.
        ways: Keys of `WAYS`.
        trials: How many.

    Returns:
        What they came to.
    """
    undisturbed = {}
    for count in sorted({WAYS[way][0] for way in ways}):
        undisturbed[count] = folder / f"undisturbed_{count}" / "run"
        undisturbed[count].parent.mkdir()
        codes = finish(start(undisturbed[count], count, "" if count == 1 else None))
        assert not any(codes), log_of(undisturbed[count], 0).read_text()
    moments = itertools.repeat(None)
    if AT_A_FILE in ways:
        lines = moments_of(undisturbed[1]).read_text().splitlines()
        moments = itertools.cycle(in_turn(lines, random.Random(SEED.value)))
    deaths = []
    for index in range(trials):
        way = ways[index % len(ways)]
        inside = folder / f"trial_{index}"
        inside.mkdir()
        is_small = way == "full disk"
        if is_small:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", inside], check=True)
        try:
            rng = random.Random(f"{SEED.value} {index}")
            moment = next(moments) if way == AT_A_FILE else None
            death = trial(way, inside / "run", undisturbed[WAYS[way][0]], rng, moment)
        finally:
            if is_small:
                subprocess.run(["umount", "--lazy", inside], check=True)
        shutil.rmtree(inside)
        print(f"{index + 1:3}/{trials}  {_line(death)}", flush=True)
        deaths.append(death)
    return deaths


def can_mount() -> bool:
    """Tells whether this process may mount a tmpfs."""
    with tempfile.TemporaryDirectory() as place:
        line = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
        try:
            done = subprocess.run(line, capture_output=True)
        except OSError:
            return False
        if done.returncode == 0:
            subprocess.run(["umount", place], check=True)
        return done.returncode == 0


def _line(death: Death) -> str:
    lost = max(0, death.died_at - death.resumed_at)
    is_same = death.different_bytes == 0 and not death.other
    end = "equal" if is_same else f"DIFFERENT: {death.different_bytes} bytes, {death.other}"
    end += f"; {death.moment}" * bool(death.moment)
    return (
        f"{death.way:28} died at step {death.died_at:2}, exit {death.codes}, ended after "
        f"{death.seconds:4.1f} s; went on from {death.resumed_at:2}, {lost} steps lost; {end}"
    )


def main(argv: list[str]) -> None:
    """Prints a line per trial, and the sums."""
    del argv
    os.environ["JAX_PLATFORMS"] = "cpu"
    logging.set_verbosity(logging.ERROR)
    ways = ONLY.value or list(WAYS)
    if "full disk" in ways and not can_mount():
        print("full disk is left out: mounting a tmpfs is not allowed here")
        ways = [way for way in ways if way != "full disk"]
    with tempfile.TemporaryDirectory() as folder:
        deaths = run(Path(folder), ways, TRIALS.value)
    lost = [max(0, death.died_at - death.resumed_at) for death in deaths]
    died = sum(any(death.codes) for death in deaths)
    hung = sum(-999 in death.codes for death in deaths)
    wrong = sum(death.different_bytes != 0 or bool(death.other) for death in deaths)
    print(
        f"{len(deaths) - wrong} of {len(deaths)} equal: {died} deaths, {hung} hung, "
        f"{sum(death.different_bytes for death in deaths)} bytes differ, "
        f"{max(lost)} steps lost at most (checkpoints every {EVERY.value}), the slowest to end "
        f"took {max(death.seconds for death in deaths):.1f} s"
    )
    sys.exit(1 if wrong or hung else 0)


if __name__ == "__main__":
    app.run(main)
