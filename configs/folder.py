"""Your own images: PATH/images/NAME.jpg with PATH/masks/NAME.png, whose pixels are class ids.

Name the classes in data.folder, which has more keys, such as label_map and ignore_values, then:
python -m unet_jax.main --config=configs/folder.py --config.data.path=PATH --workdir=runs/mine

Leave `flip` out where classes have a left and a right, which mirroring makes look like each other.
PATH/train.txt, val.txt and test.txt may list the names of each split, one a line.
Expected score: not measured, since the data are your own.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    zoom = {"scale": (0.8, 1.5), "aspect": 1.2}
    colour = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.02}
    names = {"class_names": ("background", "object")}
    often = {"eval_every": "5%", "checkpoint_every": "5%", "log_every": "10 steps"}
    return page(
        data={"source": "folder", "image_size": (256, 256), "folder": names},
        augment={"flip": {"left_right": True}, "zoom": zoom, "colour": colour},
        model=section(features=(32, 64, 128, 256, 512)),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"weight_decay": 1e-2, "ema_decay": 0.99},
        train={"duration": "100 epochs", "batch_size": 16, **often},
        eval={"batch_size": 16},
    )
