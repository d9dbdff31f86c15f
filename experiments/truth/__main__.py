"""Compares every number and mask of small runs with what NumPy and plain network calls give.

python -m experiments.truth              # all combinations of size, norm, fit, padding and batch
python -m experiments.truth --pairwise   # those of the tests: every pair of two values
"""

if __name__ == "__main__":  # before the imports that take long
    from unet_jax.process import signals

    signals.install()

import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from unet_jax import command_line

PAIRWISE = flags.DEFINE_bool("pairwise", False, "A small part, in which every pair occurs.")


def run() -> None:
    """Runs the cases and prints what is wrong.

    Raises:
        UserError: A number or a mask is wrong.
    """
    from experiments.truth.cases import all_cases, pairwise
    from experiments.truth.check import check_case
    from unet_jax.errors import UserError
    from unet_jax.process.console import console, duration

    cases = pairwise() if PAIRWISE.value else all_cases()
    began, failed = time.monotonic(), 0
    for done, case in enumerate(cases, 1):
        console.quiet = True
        with tempfile.TemporaryDirectory() as folder:
            wrong = check_case(case, Path(folder))
        console.quiet, failed = False, failed + bool(wrong)
        left = (time.monotonic() - began) / done * (len(cases) - done)
        console.print(
            f"{done}/{len(cases)}  {case.name}  {'WRONG' if wrong else 'right'}  "
            f"{duration(left)} left"
        )
        for line in wrong:
            console.print(f"  {line}")
    if failed:
        raise UserError(f"{failed} of {len(cases)} combinations give wrong numbers; see above.")
    console.print(f"all {len(cases)} combinations are right")


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, run, sys.modules[__name__]))
