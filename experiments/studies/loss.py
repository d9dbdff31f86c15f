"""Does a Dice term beside cross-entropy help?

python -m experiments.sweep --study=experiments/studies/loss.py --workdir=runs/loss

Cross-entropy alone, and with 0.5 or 1 times the soft Dice loss, on pets with three seeds. The
border class, about a tenth of the pixels, is where a loss over classes rather than pixels should
tell.

It can say what the term does to mIoU and to each class's IoU here. It cannot say what it does where
classes are far rarer than a border, and the sum's gradient is larger than cross-entropy's alone,
which Adam mostly evens out but not wholly.
"""

from experiments.studies.small_pets import PAGE, SMALL
from unet_jax.studies.study import Study, choices, grid, seeds


def get_study() -> Study:
    """Returns three losses with three seeds each."""
    options = {
        "cross-entropy": {"loss.dice.weight": 0.0},
        "+ 0.5 dice": {"loss.dice.weight": 0.5},
        "+ 1 dice": {"loss.dice.weight": 1.0},
    }
    return Study(
        page=PAGE,
        overrides=SMALL,
        design=grid(choices("loss", options), seeds(3)),
        baseline={"loss": "cross-entropy"},
    )
