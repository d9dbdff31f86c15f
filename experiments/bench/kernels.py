"""Compares the compiled train step with and without kernels of our own, in turns.

python -m experiments.bench.kernels --cells=16@128,64@128

Flags and processes are those of `against_torch`: each side sleeps while the other has its turn. A
turn's ratio is that of the medians of its steps; medians and quartiles of all turns are printed.
"""

import os
import statistics
import sys

from absl import app

from experiments.bench.against_torch import BATCH, CELLS, TURNS, Side


def compare(cell: str) -> None:
    """Times one cell and prints its row."""
    ours, xlas = (Side(sys.executable, side, "training", cell) for side in ("jax", "jax:xla"))
    ratios = []
    for turn in range(TURNS.value):
        for side in (ours, xlas) if turn % 2 else (xlas, ours):
            side.times.clear()
            side.turn()
        pair = [statistics.median(side.times) for side in (ours, xlas)]
        ratios.append((pair[1] / pair[0], *pair))
    for side in (ours, xlas):
        side.end()
    middle = statistics.median(ratio for ratio, *_ in ratios)
    low, _, high = statistics.quantiles([ratio for ratio, *_ in ratios], n=4)
    rates = [BATCH.value / statistics.median(one[n] for one in ratios) for n in (1, 2)]
    print(
        f"training {cell:8} with {rates[0]:.2f}, without {rates[1]:.2f} images/s, ratio "
        f"{middle:.2f} ({low:.2f} to {high:.2f}, quartiles of {len(ratios)} turns), load "
        f"{os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main(argv: list[str]) -> None:
    """Compares all cells."""
    del argv
    for cell in CELLS.value:
        compare(cell)


if __name__ == "__main__":
    app.run(main)
