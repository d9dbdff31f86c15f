"""Synthetic volumes: six classes of solids in 3-D, drawn on the fly.

python -m unet_jax.main --config=configs/volumes.py --workdir=runs/volumes
python -m unet_jax.main --mode=predict --input=scan.npy --workdir=runs/volumes

Expected score: not measured.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    solids = {"axes": 3, "size": 32, "shapes": 2, "train": 200, "val": 20, "test": 20}
    return page(
        data={"image_size": (32, 32, 32), "workers": 2, "synthetic": solids},
        augment={"flip": {"left_right": True, "up_down": True}},
        model=section(dimensions=3, features=(8, 16, 32)),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": 4e-3, "weight_decay": 1e-2, "ema_decay": 0.98},
        train={"duration": "500 steps", "batch_size": 4, "log_every": "10 steps"},
        eval={"batch_size": 4},
    )
