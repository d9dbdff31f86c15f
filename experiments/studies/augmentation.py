"""Which augmentation helps?

python -m experiments.sweep --study=experiments/studies/augmentation.py --workdir=runs/augmentation

None, mirroring, zoom and aspect on top, colour on top of that, on pets with three seeds; the
strengths are those of the page.

It can say which of them pays within three epochs, when a small net has seen every image three
times. It cannot say what they are worth in long trainings: augmentation works against overfitting,
of which there is hardly any here, so expect its gain to be understated, even below zero.
"""

from experiments.studies.small_pets import PAGE, SMALL
from unet_jax.studies.study import Study, choices, grid, seeds


def get_study() -> Study:
    """Returns four augmentations with three seeds each."""
    none = {
        "augment.flip.left_right": False,
        "augment.zoom.scale": (1.0, 1.0),
        "augment.zoom.aspect": 1.0,
        "augment.colour.brightness": 0.0,
        "augment.colour.contrast": 0.0,
        "augment.colour.saturation": 0.0,
        "augment.colour.hue": 0.0,
    }
    flip = {**none, "augment.flip.left_right": True}
    zoom = {**flip, "augment.zoom.scale": (0.9, 1.4), "augment.zoom.aspect": 1.2}
    colour = {
        **zoom,
        "augment.colour.brightness": 0.2,
        "augment.colour.contrast": 0.3,
        "augment.colour.saturation": 0.3,
        "augment.colour.hue": 0.03,
    }
    options = {"none": none, "flip": flip, "+ zoom": zoom, "+ colour": colour}
    return Study(
        page=PAGE,
        overrides=SMALL,
        design=grid(choices("augment", options), seeds(3)),
        baseline={"augment": "none"},
    )
