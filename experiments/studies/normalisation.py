"""Which normalisation, if any?

python -m experiments.sweep --study=experiments/studies/normalisation.py --workdir=runs/norm

Batch, group, instance and no normalisation, on pets with three seeds, all with the learning rate of
the page, which was chosen with batch normalisation. Groups have 8 channels, so that group
normalisation has one group of all channels on the first level and 8 on the last.

It can say what to expect when nothing else is changed, at a batch of 16 images. It cannot say
what each would reach with a learning rate of its own, which favours batch normalisation here (cross
this factor with values("optim.learning_rate", ...) to see), nor what happens at batches of 1 or 2,
where batch normalisation is known to suffer.
"""

from experiments.studies.small_pets import PAGE, SMALL
from unet_jax.studies.study import Study, grid, seeds, values


def get_study() -> Study:
    """Returns four normalisations with three seeds each."""
    return Study(
        page=PAGE,
        overrides=SMALL,
        design=grid(values("model.norm", "batch", "group", "instance", "none"), seeds(3)),
        baseline={"norm": "batch"},
    )
