"""How should the decoder go up: transposed convolutions (f, p, s), interpolation, or others?

python -m experiments.sweep --study=experiments/studies/upsampling.py --workdir=runs/upsampling

Transposed convolutions with kernels of 2 (no overlap), 3 (which overlaps unevenly, and so draws
checkerboards) and 4 (evenly), against interpolation with a convolution, pixel shuffle and
unpooling, on pets with three seeds.

It can say which way up gives better masks in short trainings of a small net, and at which cost.
It cannot say what is best in a long training, where the differences usually shrink, and the ways
differ in parameters and FLOPs as well: see both in the report.
"""

from experiments.studies.small_pets import PAGE, SMALL
from unet_jax.studies.study import Study, choices, grid, seeds


def get_study() -> Study:
    """Returns seven ways up with three seeds each."""
    ways = {
        "transposed 2 0 2": {"model.up": "transpose", "model.up_filters": ((2, 0, 2),)},
        "transposed 3 1 2": {"model.up": "transpose", "model.up_filters": ((3, 1, 2),)},
        "transposed 4 1 2": {"model.up": "transpose", "model.up_filters": ((4, 1, 2),)},
        "bilinear": {"model.up": "bilinear"},
        "nearest": {"model.up": "nearest"},
        "pixel shuffle": {"model.up": "pixel_shuffle"},
        "unpool": {"model.up": "unpool"},
    }
    return Study(
        page=PAGE,
        overrides=SMALL,
        design=grid(choices("up", ways), seeds(3)),
        baseline={"up": "transposed 2 0 2"},
    )
