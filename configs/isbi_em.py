"""ISBI 2012 EM."""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    moves = {"flip": {"left_right": True, "up_down": True}, "turn": {"quarters": (0, 1)}}
    bends = {"zoom": {"scale": (0.8, 1.25)}, "elastic": {"deviation": 6.0, "points": 6}}
    colour = {"brightness": 0.2, "contrast": 0.3}
    return page(
        data={"source": "folder", "image_size": (256, 256), "fit": "crop", "crops": 4, "workers": 2},
        augment={**moves, **bends, "colour": colour},
        model=section(features=(16, 32, 64, 128)),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": 3e-3, "weight_decay": 1e-2, "ema_decay": 0.99},
        train={"duration": "15 minutes", "batch_size": 4, "eval_every": "20%", "checkpoint_every": "20%"},
        eval={"batch_size": 1, "metrics": {"segments": {"inside": 1}}},
    )
