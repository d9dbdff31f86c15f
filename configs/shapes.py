"""Synthetic shapes: six classes, drawn on the fly, with any variant of the U-Net.

python -m unet_jax.main --config=configs/shapes.py --workdir=runs/shapes
Or :attention and so on; :multilabel, shapes also where covered; :regions, unions of classes.
Expected: test mIoU 0.909 to 0.911 (seeds 0 to 2), two CPU cores, 0.05 hours; others not measured.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section

REGIONS = (("shape", (1, 2, 3, 4, 5), 1), ("angular", (2, 3, 5), 2), ("cross", (5,), 5))
OFTEN = {"eval_every": "25%", "log_every": "10 steps"}
TASKS = {"multilabel": {}, "regions": {"regions": REGIONS}}


def get_config(variant: str = "modern") -> ConfigDict:
    task = {"kind": variant, **TASKS[variant]} if variant in TASKS else {}
    size = (156, 156) if variant == "paper" else (64, 64)  # of 156 pixels 68 are left
    own = {} if variant.startswith("resnet") else {"features": (16, 32, 64, 128)}
    drawn = {"train": 4000, "by_class": variant == "multilabel"}
    return page(
        data={"image_size": size, "workers": 2, "synthetic": drawn},
        augment={"flip": {"left_right": True, "up_down": True}},
        model=section("modern" if task else variant, **own),
        task=task,
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": 4e-3, "weight_decay": 1e-2, "ema_decay": 0.98},
        train={"duration": "1250 steps", "batch_size": 16} | OFTEN,
        eval={"batch_size": 40},
    )
