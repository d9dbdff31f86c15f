"""Compares the compiled step with the same U-Net in PyTorch, in turns, on this machine.

python -m experiments.bench.against_torch --cells=16@128,64@128

A cell is the width of level 0 and the image's side. PyTorch runs eager and compiled, contiguous
and channels-last, and its best is taken. Every side is a process of its own that sleeps while the
others have their turn; medians of all steps are compared. Needs pip install -e '.[torch]', or
--torch_python, the Python of another environment that has torch.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from absl import app, flags

CELLS = flags.DEFINE_list("cells", ["16@128", "16@256", "64@128", "64@256"], "WIDTH@SIDE, ...")
TASKS = flags.DEFINE_list("tasks", ["training", "inference"], "What is timed.")
BATCH = flags.DEFINE_integer("batch", 8, "Images per step.", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of convolutions.")
TURNS = flags.DEFINE_integer("turns", 5, "Turns of every side.", lower_bound=1)
SECONDS = flags.DEFINE_float(
    "seconds", 2.0, "Length of a turn, after a warm-up step; at least one step."
)
TORCH_PYTHON = flags.DEFINE_string("torch_python", sys.executable, "A Python that has torch.")

FORMS = ("contiguous:eager", "channels_last:eager", "contiguous:compiled", "channels_last:compiled")
ROOT = Path(__file__).parents[2]


class Side:
    """A worker process."""

    def __init__(self, python: str, side: str, task: str, cell: str) -> None:
        """Starts it and waits for its first step."""
        width, size = cell.split("@")
        command = [python, "-m", "experiments.bench.workers", side, task, width, size]
        command += [str(BATCH.value), DTYPE.value]
        self.name, self.times = side, []
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        ready = self._output.readline().split()
        self.first_s = float(ready[1]) if ready else float("nan")
        self._steps = 1

    @property
    def works(self) -> bool:
        """Tells whether it came to its first step."""
        return self._process.poll() is None

    def turn(self) -> None:
        """Lets it run for about `SECONDS`."""
        self._input.write(f"{self._steps}\n")
        self._input.flush()
        times = json.loads(self._output.readline())
        self.times += times
        self._steps = max(1, round(SECONDS.value / statistics.median(times)))

    def rate(self) -> float:
        """Returns images/s."""
        return BATCH.value / statistics.median(self.times)

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()


def compare(task: str, cell: str) -> None:
    """Times one cell and prints its row."""
    pythons = {"jax": sys.executable}
    pythons |= {f"torch:{form}": TORCH_PYTHON.value for form in FORMS}
    sides = [Side(python, side, task, cell) for side, python in pythons.items()]
    working = [side for side in sides if side.works]
    for _ in range(TURNS.value):
        for side in working:
            side.turn()
    for side in sides:
        side.end()
    ours, *theirs = working
    if ours.name != "jax" or not theirs:
        raise SystemExit(f"only {[side.name for side in working]} could run; see --torch_python.")
    best = max(theirs, key=Side.rate)
    ratio = ours.rate() / best.rate()
    rates = "  ".join(f"{side.name.removeprefix('torch:')} {side.rate():.2f}" for side in theirs)
    print(
        f"{task:10} {cell:8} jax {ours.rate():8.2f}  torch {best.rate():8.2f} images/s  "
        f"ratio {ratio:.2f}  first step {ours.first_s:.0f} s, {best.first_s:.0f} s  ({rates})",
        flush=True,
    )


def main(argv: list[str]) -> None:
    """Compares all cells."""
    del argv
    for task in TASKS.value:
        for cell in CELLS.value:
            compare(task, cell)


if __name__ == "__main__":
    app.run(main)
