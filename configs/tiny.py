"""Seconds, for tests: a few small pictures and a net of a few thousand parameters.

python -m unet_jax.main --config=configs/tiny.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "data": {
                "source": "synthetic",
                "path": "",
                "image_size": (32, 32),
                "fit": "resize",
                "val_fraction": 0.1,
                "split_seed": 0,
                "workers": 2,
                "synthetic": {
                    "train": 48,
                    "val": 10,
                    "test": 10,
                    "size": 32,
                    "shapes": 2,
                    "seed": 0,
                },
                "folder": {"class_names": ("background", "thing")},
            },
            "augment": {
                "flip_lr": True,
                "flip_ud": False,
                "zoom": (1.0, 1.0),
                "aspect": 1.0,
                "brightness": 0.0,
                "contrast": 0.0,
                "saturation": 0.0,
                "hue": 0.0,
            },
            "model": section(features=(4, 8)),
            "pretrained": {"file": "", "keep_head": False},
            "loss": {
                "name": "cross_entropy+dice",
                "class_weights": (),
                "label_smoothing": 0.0,
                "dice_weight": 1.0,
            },
            "optim": {
                "name": "adamw",
                "learning_rate": 3e-3,
                "schedule": "cosine",
                "warmup": "5%",
                "momentum": 0.9,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "accumulate": 1,
                "ema_decay": 0.9,
            },
            "train": {
                "duration": "40 steps",
                "batch_size": 8,
                "seed": 0,
                "eval_every": "20 steps",
                "checkpoint_every": "10 steps",
                "log_every": "1 step",
            },
            "eval": {"batch_size": 8, "pictures": 2},
            "mesh": {"data": -1, "fsdp": 1, "space": 1},
        }
    )
