"""Oxford-IIIT Pet (Parkhi et al., 2012) at 128x128: pet, background and border.

The full recipe, for a GPU:
python -m unet_jax.main --config=configs/oxford_pets.py --workdir=runs/pets

The recipe for two CPU cores:
python -m unet_jax.main --config=configs/oxford_pets.py:cpu --workdir=runs/pets

On first use the data set is downloaded and prepared in config.data.path, by default
~/tensorflow_datasets. With --config.data.source=folder, config.data.path is the folder that holds
the unpacked archives' images/ and annotations/.
"""

from ml_collections import ConfigDict

from unet_jax.models.variants import section

RECIPES = ("full", "cpu")


def get_config(recipe: str = "full") -> ConfigDict:
    if recipe not in RECIPES:
        raise ValueError(f"oxford_pets.py:{recipe} is no recipe; allowed are {RECIPES}.")
    config = ConfigDict(
        {
            "data": {
                "source": "tfds",
                "path": "",
                "image_size": (128, 128),
                "fit": "resize",
                "val_fraction": 0.1,
                "split_seed": 0,
                "workers": 8,
                "tfds": {"verify_checksums": True},
                "folder": {},
            },
            "augment": {
                "flip_lr": True,
                "flip_ud": False,
                "zoom": (0.8, 1.6),
                "aspect": 1.3,
                "brightness": 0.2,
                "contrast": 0.3,
                "saturation": 0.3,
                "hue": 0.03,
            },
            "model": section(features=(64, 128, 256, 512, 1024), dtype="bfloat16"),
            "pretrained": {"file": "", "keep_head": False},
            "loss": {
                "name": "cross_entropy+dice",
                "class_weights": (),
                "label_smoothing": 0.0,
                "dice_weight": 1.0,
            },
            "optim": {
                "name": "adamw",
                "learning_rate": 1e-3,
                "schedule": "cosine",
                "warmup": "5%",
                "momentum": 0.9,
                "weight_decay": 1e-2,
                "clip_norm": 1.0,
                "accumulate": 1,
                "ema_decay": 0.999,
            },
            "train": {
                "duration": "200 epochs",
                "batch_size": 32,
                "seed": 0,
                "eval_every": "5%",
                "checkpoint_every": "5%",
                "log_every": "20 steps",
            },
            "eval": {"batch_size": 32, "pictures": 6},
            "mesh": {"data": -1, "fsdp": 1, "space": 1},
        }
    )
    if recipe == "cpu":
        config.model.features = (16, 32, 64, 128, 256)
        config.model.dtype = "float32"
        config.augment.zoom = (0.9, 1.4)
        config.augment.aspect = 1.2
        config.optim.learning_rate = 3e-3
        config.optim.ema_decay = 0.995
        config.train.duration = "5 epochs"
        config.train.batch_size = 16
        config.train.eval_every = "50%"
        config.data.workers = 2
    return config
