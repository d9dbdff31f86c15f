"""A data set as it was downloaded: PATH is its folder, whose layout is recognised.

CamVid, Cityscapes, PASCAL VOC, ADE20K, COCO, YOLO, a file for each object: their classes are known.
python -m unet_jax.main --config=configs/downloaded.py --config.data.path=PATH --workdir=runs/mine

Where they are not, set data.folder.class_names. Trains on random parts, evaluates whole images.
Expected score: not measured; docs/data.md has the command for each layout.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    zoom = {"scale": (0.8, 1.5), "aspect": 1.2}
    colour = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02}
    often = {"eval_every": "5%", "checkpoint_every": "5%", "log_every": "10 steps"}
    return page(
        data={"source": "folder", "image_size": (256, 256), "fit": "crop"},
        augment={"flip": {"left_right": True}, "zoom": zoom, "colour": colour},
        model=section(features=(32, 64, 128, 256, 512)),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"weight_decay": 1e-2, "ema_decay": 0.99},
        train={"duration": "100 epochs", "batch_size": 16, **often},
        eval={"batch_size": 4},
    )
