"""CamVid."""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    zoom = {"scale": (0.7, 1.5), "aspect": 1.2}
    colour = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.3, "hue": 0.02}
    return page(
        data={"source": "folder", "image_size": (352, 480), "fit": "crop", "workers": 2},
        augment={"flip": {"left_right": True}, "zoom": zoom, "colour": colour},
        model=section("folded", features=(32, 64, 128, 256)),
        loss={"cross_entropy": {"class_weights": "median_frequency"}},
        optim={"learning_rate": 3e-3, "weight_decay": 1e-2, "ema_decay": 0.99},
        train={"duration": "1 hour", "batch_size": 4, "eval_every": "20%", "checkpoint_every": "20%"},
        eval={"batch_size": 1},
    )
