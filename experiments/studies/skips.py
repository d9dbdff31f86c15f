"""Which skip connections matter?

python -m experiments.sweep --study=experiments/studies/skips.py --workdir=runs/skips

All on, each level off alone (0 is full resolution), and all off, on pets with three seeds. Without
a skip its decoder block takes only what comes from below, so it also has fewer parameters.

It can say how much a level's skip brings to this net and these images of 64 pixels: fine borders
of 64 pixels are two levels of an image of 256. It cannot say whether a wider net without skips
would do as well: at equal cost is another question, of size.py's kind.
"""

from experiments.studies.small_pets import PAGE, SMALL
from unet_jax.studies.study import Study, choices, grid, seeds


def get_study() -> Study:
    """Returns five choices of skips with three seeds each."""
    off = {"none": (), "0": (0,), "1": (1,), "2": (2,), "all": (0, 1, 2)}
    options = {label: {"model.skips_off": levels} for label, levels in off.items()}
    return Study(
        page=PAGE,
        overrides=SMALL,
        design=grid(choices("skips_off", options), seeds(3)),
        baseline={"skips_off": "none"},
    )
