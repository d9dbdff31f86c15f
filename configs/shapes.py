"""Synthetic shapes: six classes, drawn on the fly; trains in minutes on two CPU cores.

python -m unet_jax.main --config=configs/shapes.py --workdir=runs/shapes

Any variant of unet_jax/models/variants.py, with this page's channels:
python -m unet_jax.main --config=configs/shapes.py:attention --workdir=runs/attention
"""

from ml_collections import ConfigDict

from unet_jax.models.variants import section


def get_config(variant: str = "modern") -> ConfigDict:
    # A ResNet encoder has five levels of its own.
    side = 156 if variant == "paper" else 64  # valid convolutions make 68 of 156 pixels
    features = {} if variant.startswith("resnet") else {"features": (16, 32, 64, 128)}
    return ConfigDict(
        {
            "data": {
                "source": "synthetic",
                "path": "",
                "image_size": (side, side),
                "fit": "resize",
                "val_fraction": 0.1,
                "split_seed": 0,
                "workers": 2,
                "synthetic": {
                    "train": 4000,
                    "val": 200,
                    "test": 200,
                    "size": 64,
                    "shapes": 3,
                    "seed": 0,
                },
            },
            "augment": {
                "flip_lr": True,
                "flip_ud": True,
                "zoom": (1.0, 1.0),
                "aspect": 1.0,
                "brightness": 0.0,
                "contrast": 0.0,
                "saturation": 0.0,
                "hue": 0.0,
            },
            "model": section(variant, **features),
            "pretrained": {"file": "", "keep_head": False},
            "loss": {
                "name": "cross_entropy+dice",
                "class_weights": (),
                "label_smoothing": 0.0,
                "dice_weight": 1.0,
            },
            "optim": {
                "name": "adamw",
                "learning_rate": 4e-3,
                "schedule": "cosine",
                "warmup": "5%",
                "momentum": 0.9,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "accumulate": 1,
                "ema_decay": 0.98,
            },
            "train": {
                "duration": "1250 steps",
                "batch_size": 16,
                "seed": 0,
                "eval_every": "25%",
                "checkpoint_every": "10%",
                "log_every": "10 steps",
            },
            "eval": {"batch_size": 40, "pictures": 6},
            "mesh": {"data": -1, "fsdp": 1, "space": 1},
        }
    )
