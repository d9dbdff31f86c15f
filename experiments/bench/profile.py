"""Prints where the time of a compiled train step, or of an inference, goes, on CPU.

python -m experiments.bench.profile --cells=16@128,64@128 --ablate=normalisation --ablate=activation

A cell is the width of level 0 and the image's side, as in `against_torch`. Steps are traced, and
every moment of a step belongs to the operations that have the cores then; that in which none runs
is not attributed. An operation is of the kind of work that its scopes say. A fusion that does
several kinds in one pass has a row of its own, since no trace tells them apart; --ablate times
steps that lack one kind, in turns with the whole step. Beside them is the roofline of the same run:
what the row would take at the rate of a matrix product and of a copy.
"""

import glob
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from absl import app, flags

from experiments.bench import workers
from experiments.bench.ablate import ABLATIONS, leave_out
from experiments.bench.program import MIXED, OTHER, Operation, operations
from experiments.bench.timeline import NOT_ATTRIBUTED, attribute, read_trace
from unet_jax.process import runtime

CELLS = flags.DEFINE_list("cells", ["16@128", "64@128"], "WIDTH@SIDE, ...")
TASK = flags.DEFINE_enum("task", "training", ["training", "inference"], "What is profiled.")
BATCH = flags.DEFINE_integer("batch", 8, "Images per step.", lower_bound=1)
STEPS = flags.DEFINE_integer("steps", 10, "Steps that are traced.", lower_bound=2)
ABLATE = flags.DEFINE_multi_enum("ablate", [], list(ABLATIONS), "What to leave out in turn.")
TURNS = flags.DEFINE_integer("turns", 7, "Turns of a step with each of --ablate.", lower_bound=1)

SMALL = 0.01  # share of the step below which a fusion of several kinds has no row of its own
SEVERAL = "several kinds, each below 1%"
SIDE, COPIED = 2048, 2**26  # of the matrices, and float32 numbers of the copy
COLOUR = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.3, "hue": 0.03}
AUGMENT = {"flip": {"left_right": True}, "zoom": {"scale": (0.9, 1.4)}, "colour": COLOUR}


class Roof(NamedTuple):
    """What the machine reaches.

    Attributes:
        flops: Of a matrix product, per second.
        bytes: Read and written by a copy, per second.
    """

    flops: float
    bytes: float


class Row(NamedTuple):
    """A kind of work.

    Attributes:
        seconds: Of a step.
        flops: Of its convolutions and matrix products.
        bytes: Of inputs and results of its operations.
        least: Seconds at the roofline, summed over its operations.
    """

    seconds: float
    flops: float
    bytes: float
    least: float


class Step:
    """A train step, or a forward pass, that is run again and again."""

    def __init__(self, cell: str) -> None:
        """Compiles it and takes two steps."""
        width, size = map(int, cell.split("@"))
        train = workers.make_train(width, size, BATCH.value, "float32", AUGMENT)
        self._state, self._batch, self._key = train.state, train.batch, train.key
        if TASK.value == "training":
            self.compiled = train.step.lower(train.state, train.batch, train.key).compile()
            self._take = self._train
        else:
            self.compiled = workers.make_forward(train, width, "float32")
            self._take = self._infer
        self.run()
        self.run()

    def _train(self) -> object:
        self._state, scalars = self.compiled(self._state, self._batch, self._key)
        return self._state, scalars

    def _infer(self) -> object:
        return self.compiled(self._state.eval_variables(), self._batch["image"])

    def run(self) -> float:
        """Takes a step and returns its seconds."""
        import jax

        began = time.perf_counter()
        jax.block_until_ready(self._take())
        return time.perf_counter() - began


def trace(step: Step, steps: int) -> dict[str, float]:
    """Traces steps.

    Args:
        step: That has run before.
        steps: How many.

    Returns:
        Seconds of a step by operation: the mean over the faster half of the steps, which others
        that use the machine disturb least.
    """
    import jax

    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            times = [step.run() for _ in range(steps)]
        (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        runs = read_trace(file)
    fast = sorted(zip(times, runs, strict=True), key=lambda one: one[0])[: max(1, steps // 2)]
    found: dict[str, float] = defaultdict(float)
    for seconds, spans in fast:
        for name, own in attribute(spans, seconds, runtime.cores()).items():
            found[name] += own / len(fast)
    return found


def tabulate(times: dict[str, float], known: dict[str, Operation], roof: Roof) -> dict[str, Row]:
    """Sums the seconds of operations by kind of work.

    Args:
        times: Seconds by operation, and `NOT_ATTRIBUTED`.
        known: The program's operations.
        roof: Of this machine.

    Returns:
        Rows by kind, the longest first, `NOT_ATTRIBUTED` last; their seconds sum to those of times.
    """
    unknown, rows = Operation(OTHER, 0, 0), defaultdict(list)
    for name in times.keys() - {NOT_ATTRIBUTED}:
        work = known.get(name, unknown)
        least = max(work.flops / roof.flops, work.bytes / roof.bytes)
        rows[work.kind].append(Row(times[name], work.flops, work.bytes, least))
    whole = sum(times.values())
    small = [k for k, own in rows.items() if sum(r.seconds for r in own) < SMALL * whole]
    for kind in [kind for kind in small if MIXED in kind]:
        rows[SEVERAL] += rows.pop(kind)
    summed = {kind: _add(own) for kind, own in rows.items()}
    longest = sorted(summed, key=lambda kind: -summed[kind].seconds)
    left = Row(times.get(NOT_ATTRIBUTED, 0.0), 0, 0, 0)
    return {kind: summed[kind] for kind in longest} | {NOT_ATTRIBUTED: left}


def _add(rows: list[Row]) -> Row:
    seconds, flops, moved, least = (sum(column) for column in zip(*rows, strict=True))
    return Row(seconds, flops, moved, least)


def measure_roof() -> Roof:
    """Measures the best of a few matrix products and copies."""
    import jax
    import jax.numpy as jnp

    a, b = jnp.ones((SIDE, SIDE)), jnp.ones(COPIED)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda b: b + 1)

    def best(run: Callable[..., jax.Array], *args: jax.Array) -> float:
        times = []
        for _ in range(8):
            began = time.perf_counter()
            jax.block_until_ready(run(*args))
            times.append(time.perf_counter() - began)
        return min(times)

    return Roof(2 * SIDE**3 / best(product, a, a), 2 * b.nbytes / best(copy, b))


def show(cell: str, rows: dict[str, Row], roof: Roof) -> None:
    """Prints the table of a cell, as Markdown."""
    whole = sum(row.seconds for row in rows.values())
    print(
        f"\n{cell}: {1e3 * whole:.0f} ms a step of {BATCH.value} images, "
        f"{BATCH.value / whole:.1f} images/s; a matrix product reaches {roof.flops / 1e9:.0f} "
        f"GFLOP/s, a copy {roof.bytes / 1e9:.1f} GB/s\n"
    )
    print(
        "| kind of work | ms | share | GFLOP | GB | ms at the roofline |\n|---|---|---|---|---|---|"
    )
    for kind, row in rows.items():
        print(
            f"| {kind} | {1e3 * row.seconds:.1f} | {row.seconds / whole:.1%} "
            f"| {row.flops / 1e9:.2f} | {row.bytes / 1e9:.2f} | {1e3 * row.least:.1f} |"
        )
    print(f"| sum | {1e3 * whole:.1f} | 100% | | | |", flush=True)


def ablate(cell: str, whole: Step) -> None:
    """Times steps that lack a kind of work, in turns with the whole step, and prints them."""
    for name in ABLATE.value:
        with leave_out(name):
            lacking = Step(cell)
        pairs = [(whole.run(), lacking.run()) for _ in range(TURNS.value)]
        saved = [1e3 * (one - other) for one, other in pairs]
        low, *_, high = statistics.quantiles(saved, n=4) if len(saved) > 1 else saved * 2
        share = statistics.median(1 - other / one for one, other in pairs)
        print(
            f"without {name}: {statistics.median(saved):.0f} ms less ({low:.0f} to {high:.0f}, "
            f"quartiles of {TURNS.value} turns), {share:.1%} of the step",
            flush=True,
        )


def main(argv: list[str]) -> None:
    """Profiles all cells."""
    del argv
    for cell in CELLS.value:
        step = Step(cell)
        known = operations(step.compiled.as_text())
        before = measure_roof()
        times = trace(step, STEPS.value)
        after = measure_roof()
        roof = Roof(max(before.flops, after.flops), max(before.bytes, after.bytes))
        show(cell, tabulate(times, known, roof), roof)
        ablate(cell, step)


if __name__ == "__main__":
    runtime.use_huge_pages()
    runtime.prepare()
    app.run(main)
