"""Gives every key of every config page bad values, on the real command up to its first step.

python -m experiments.bad_values
python -m experiments.bad_values --pages=tiny,folder --modes=train,plan --ways=4

A value comes from the page, or as --config.KEY=TEXT where that can be written, in one of the modes;
which of these ways is drawn, or all are tried with --ways=8. Every answer must
be a run that begins, or exit code 2 with one line that names the key, in a few seconds and with
nothing written. The exit code is 1 where one is not.
"""

import argparse
import itertools
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from experiments.bad_values import bench
from unet_jax.page import load_page
from unet_jax.process import runtime

ROOT = Path(__file__).parents[2]
PAGES = sorted(file.stem for file in (ROOT / "configs").glob("*.py"))
MEMORY = 12 * 2**30


def show(text: str) -> None:
    """Shows on a terminal what is tried, in the place of what was shown before."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:150]}", end="", file=sys.stderr, flush=True)


def try_page(page: str, folder: Path, count: Counter[str], options: Any) -> None:
    """Tries a page, and prints what is wrong.

    Args:
        page: Its name.
        folder: To write to.
        count: Of answers by kind, to add to.
        options: Of the command line.
    """
    modes = options.modes.split(",")
    file = ROOT / "configs" / f"{page}.py"
    values = bench.small(load_page(str(file)).to_dict(), folder)
    run = bench.train(folder, values) if {"eval", "predict"} & set(modes) else None
    keys = [key for key in bench.leaves(values) if key.startswith(options.only)]
    ways = list(itertools.product(modes, (False, True)))
    rng = random.Random(options.seed)
    with bench.Bench(folder, values, run) as ask:
        for key, value in itertools.product(keys, bench.VALUES):
            for mode, as_text in rng.sample(ways, min(options.ways, len(ways))):
                case = bench.Case(mode, key, value, as_text)
                show(f"{page} {case}")
                answer = ask.ask(case)
                count[answer.kind] += 1
                if answer.kind == "wrong":
                    show("")
                    print(f"{page} {case}: {answer.text}", flush=True)


def main() -> int:
    """Does what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", default=",".join(PAGES), help="names, with commas between them")
    parser.add_argument("--modes", default=",".join(bench.MODES), help="likewise")
    parser.add_argument("--ways", type=int, default=1, help="to give each value, drawn of 2 a mode")
    parser.add_argument("--seed", type=int, default=0, help="of those draws")
    parser.add_argument("--only", default="", help="keys that begin so")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    runtime.prepare()
    began, count = time.perf_counter(), Counter()
    for page in options.pages.split(","):
        with tempfile.TemporaryDirectory() as folder:
            try_page(page, Path(folder), count, options)
    show("")
    print(
        f"{count.total()} tried: {count['one line']} answered by one line, "
        f"{count['accepted']} accepted, {count['wrong']} wrong; "
        f"{time.perf_counter() - began:.0f} s"
    )
    return 1 if count["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
