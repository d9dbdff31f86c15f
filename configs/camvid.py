"""CamVid (Brostow et al., 2009) as SegNet's authors gave it out: 360x480, 11 classes, void ignored.

python -m unet_jax.main --config=configs/camvid.py --config.data.path=CamVid --workdir=runs/camvid
CamVid holds train/, trainannot/ and so on: 367 images train, 101 are val, 233 the test, which
is scored whole, at its own size. Expected score on two CPU cores in 1.5 hours: test mIoU 0.506,
see docs/cards/index.md, where it is said what limits it: 4x4 pixels are folded into channels, so
that 100 epochs take no longer; a GPU takes fold=1.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    zoom = {"scale": (0.7, 1.5), "aspect": 1.2}
    colour = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.3, "hue": 0.02}
    often = {"eval_every": "10%", "checkpoint_every": "10%", "log_every": "10 steps"}
    return page(
        data={"source": "folder", "image_size": (352, 480), "fit": "crop", "workers": 2},
        augment={"flip": {"left_right": True}, "zoom": zoom, "colour": colour},
        model=section(fold=4, features=(32, 64, 128, 256)),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": 3e-3, "weight_decay": 1e-2, "ema_decay": 0.99},
        train={"duration": "100 epochs", "batch_size": 4, **often},
        eval={"batch_size": 1},
    )
