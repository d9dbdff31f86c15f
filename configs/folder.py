"""Your own pictures: PATH/images/NAME.jpg with PATH/masks/NAME.png, whose pixels are class ids.

Name the classes in data.folder, then:
python -m unet_jax.main --config=configs/folder.py --config.data.path=PATH --workdir=runs/mine

PATH/train.txt, val.txt and test.txt may list the names of each split, one a line.
"""

from ml_collections import ConfigDict

from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "data": {
                "source": "folder",
                "path": "",
                "image_size": (256, 256),
                "fit": "resize",
                "val_fraction": 0.1,
                "split_seed": 0,
                "crops": 1,  # of every image in an epoch, with fit "crop"
                "workers": 4,
                "folder": {
                    "images": "images",
                    "masks": "masks",
                    "mask_suffix": "",
                    "class_names": ("background", "object"),
                    # (mask value, class id) pairs, where masks do not hold class ids, such as
                    # ((0, 0), (255, 1)).
                    "label_map": (),
                    # Mask values of pixels that do not count, such as (255,).
                    "ignore_values": (),
                    "test_fraction": 0.0,
                    # Folder of train.txt, val.txt and test.txt, below `path` or anywhere; "" is
                    # `path` itself.
                    "lists": "",
                },
            },
            "augment": {
                "flip_lr": True,
                "flip_ud": False,
                "zoom": (0.8, 1.5),
                "aspect": 1.2,
                "brightness": 0.2,
                "contrast": 0.2,
                "saturation": 0.2,
                "hue": 0.02,
            },
            "model": section(features=(32, 64, 128, 256, 512)),
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
                "ema_decay": 0.99,
            },
            "train": {
                "duration": "100 epochs",
                "batch_size": 16,
                "seed": 0,
                "eval_every": "5%",
                "checkpoint_every": "5%",
                "log_every": "10 steps",
            },
            "eval": {"batch_size": 16, "pictures": 6},
            "mesh": {"data": -1, "fsdp": 1, "space": 1},
        }
    )
