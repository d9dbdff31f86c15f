"""Damages every file of tiny runs, a sweep and a pack, and asks who reads it.

python -m experiments.damage            # every file in ten ways
python -m experiments.damage --part=40  # some of these, drawn

Who reads a file is one of training, evaluation, prediction, sweeps and reports, called in this
process. A right answer gives the results that come without the damage, or says what is other; or it
is one line that names the file, before time is spent and with nothing changed. The exit code is 1
where an answer is neither.
"""

import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from absl import flags

from unet_jax import command_line

PART = flags.DEFINE_integer("part", 0, "How many cases to draw; 0 for all.", 0)
SEED = flags.DEFINE_integer("seed", 0, "Of what is drawn.")
ONLY = flags.DEFINE_string(
    "only", "", "Only cases in whose description this regular expression is found."
)


class WrongAnswersError(Exception):
    """Some answers were wrong; the command exits with code 1."""

    exit_code = 1


def run() -> None:
    """Does what the flags say.

    Raises:
        WrongAnswersError: An answer was neither right nor one line.
    """
    with tempfile.TemporaryDirectory() as folder:
        wrong = try_all(Path(folder), PART.value, SEED.value, ONLY.value)
    if wrong:
        raise WrongAnswersError(f"{wrong} wrong answers; see above.")


def try_all(folder: Path, part: int, seed: int, only: str = "") -> int:
    """Tries cases, and prints what was answered.

    Args:
        folder: An empty one.
        part: How many; 0 for all.
        seed: Of the draws.
        only: Regular expression that must be found in the descriptions.

    Returns:
        How many answers were wrong.
    """
    from experiments.damage import material
    from experiments.damage.ask import Work
    from experiments.damage.cases import Bench, all_cases
    from unet_jax.process.console import console, duration

    began, counts = time.monotonic(), Counter()
    with Work() as work:
        (folder / "material").mkdir()
        console.quiet = True
        try:
            made = material.make(folder / "material")
        finally:
            console.quiet = False
        bench = Bench(made, folder, work)
        cases = [case for case in all_cases(made) if re.search(only, str(case))]
        if part:
            cases = random.Random(seed).sample(cases, min(part, len(cases)))
        print(f"{len(cases)} cases; material {duration(time.monotonic() - began)}", flush=True)
        for case in cases:
            answer = bench.try_case(case, seed)
            if answer is None:
                continue
            counts[case.mode, answer.kind] += 1
            if answer.kind == "WRONG":
                print(f"{answer.kind}: {case}: {answer.text}", flush=True)
    for mode in dict.fromkeys(case.mode for case in cases):
        own = {kind: counts[mode, kind] for kind in ("right", "one line", "WRONG")}
        print(f"{mode:<9} " + ", ".join(f"{count} {kind}" for kind, count in own.items()))
    wrong = sum(count for (_, kind), count in counts.items() if kind == "WRONG")
    print(f"{counts.total()} answers, {wrong} wrong; {duration(time.monotonic() - began)}")
    return wrong


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
