"""The U-Net of its paper (Ronneberger et al., 2015): valid convolutions, 572 to 388 pixels.

Grey or colour pictures of cells with masks in PATH/images and PATH/masks, as for folder.py:
python -m unet_jax.main --config=configs/paper.py --config.data.path=PATH --workdir=runs/cells

As in the paper: no normalisation, dropout at the end of the contracting path, He initialisation,
one tile of 572x572 per step, SGD with momentum 0.99, pictures mirrored by the 92 pixels that valid
convolutions take from every side. Not as there: no elastic deformation and no border weights.
"""

from ml_collections import ConfigDict

from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "data": {
                "source": "folder",
                "path": "",
                "image_size": (572, 572),
                "fit": "crop",
                "val_fraction": 0.1,
                "split_seed": 0,
                "crops": 1,  # of every image in an epoch, with fit "crop"
                "workers": 4,
                "context": 92,
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
                "flip_ud": True,
                "zoom": (1.0, 1.0),
                "aspect": 1.0,
                "brightness": 0.2,
                "contrast": 0.2,
                "saturation": 0.0,
                "hue": 0.0,
            },
            "model": section("paper"),
            "pretrained": {"file": "", "keep_head": False},
            "loss": {
                "name": "cross_entropy",
                "class_weights": (),
                "label_smoothing": 0.0,
                "dice_weight": 1.0,
            },
            "optim": {
                "name": "sgd",
                "learning_rate": 1e-3,
                "schedule": "constant",
                "warmup": "5%",
                "momentum": 0.99,
                "weight_decay": 0.0,
                "clip_norm": 1.0,
                "accumulate": 1,
                "ema_decay": 0.0,
            },
            "train": {
                "duration": "600 epochs",
                "batch_size": 1,
                "seed": 0,
                "eval_every": "5%",
                "checkpoint_every": "5%",
                "log_every": "10 steps",
            },
            "eval": {"batch_size": 1, "pictures": 6},
            "mesh": {"data": -1, "fsdp": 1, "space": 1},
        }
    )
