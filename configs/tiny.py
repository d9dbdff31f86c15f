"""Seconds, for tests: a few small images and a net of a few thousand parameters.

python -m unet_jax.main --config=configs/tiny.py --workdir=runs/tiny

Expected score: not measured, since so short a training is for tests alone.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    drawn = {"train": 48, "val": 10, "test": 10, "size": 32, "shapes": 2}
    names = {"class_names": ("background", "thing")}
    data = {"image_size": (32, 32), "workers": 2, "synthetic": drawn, "folder": names}
    steps = {"eval_every": "20 steps", "checkpoint_every": "10 steps", "log_every": "1 step"}
    return page(
        data=data,
        augment={"flip": {"left_right": True}},
        model=section(features=(4, 8)),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": 3e-3, "weight_decay": 1e-2, "ema_decay": 0.9},
        train={"duration": "40 steps", "batch_size": 8, **steps},
        eval={"batch_size": 8, "shown": 2},
    )
