"""Deep and narrow, or shallow and wide, at equal FLOPs?

python -m experiments.sweep --study=experiments/studies/size.py --workdir=runs/size

Two to five levels with channels chosen so that a forward pass over 64x64 pixels, as
unet_jax.models.anatomy.forward_flops counts it, takes the same:

levels  features               MFLOPs  parameters
2       13, 25                   72.0      16,544
3       9, 20, 40                70.9      45,150
4       8, 16, 32, 64            70.1     121,195
5       7, 14, 28, 58, 116       69.2     395,838

It can say how to spend a budget of arithmetic on images of this size. It cannot say how to spend
memory, which goes to the full resolution's channels, or time, which follows FLOPs only loosely; and
with --set=data.image_size the budgets stay equal but the depth that pays changes.
"""

from experiments.studies.small_pets import PAGE, SMALL
from unet_jax.studies.study import Study, choices, grid, seeds


def get_study() -> Study:
    """Returns four depths with three seeds each."""
    features = {
        "2": (13, 25),
        "3": (9, 20, 40),
        "4": (8, 16, 32, 64),
        "5": (7, 14, 28, 58, 116),
    }
    options = {label: {"model.features": channels} for label, channels in features.items()}
    return Study(
        page=PAGE,
        overrides=SMALL,
        design=grid(choices("levels", options), seeds(3)),
        baseline={"levels": "4"},
    )
