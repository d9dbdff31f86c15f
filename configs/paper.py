"""The U-Net of its paper (Ronneberger et al., 2015): valid convolutions, 572 to 388 pixels.

Images of cells with masks in PATH/images and PATH/masks, as for folder.py:
python -m unet_jax.main --config=configs/paper.py --config.data.path=PATH --workdir=runs/cells

As in the paper: no normalisation, dropout at the end of the contracting path, He initialisation,
one tile per step, momentum 0.99, images mirrored by the 92 pixels that valid convolutions take from
every side, elastic deformation by 3 x 3 points that deviate by 10 pixels, and a loss that weighs
classes by their pixels and gaps between objects by 10, sigma 5. Expected score: not measured.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    cells = {"folder": {"class_names": ("background", "object")}, "context": 92}
    elastic = {"deviation": 10.0, "points": 3}
    moves = {"flip": {"left_right": True, "up_down": True}, "elastic": elastic}
    colour = {"brightness": 0.2, "contrast": 0.2}
    often = {"eval_every": "5%", "checkpoint_every": "5%", "log_every": "10 steps"}
    return page(
        data={"source": "folder", "image_size": (572, 572), "fit": "crop", **cells},
        augment={**moves, "colour": colour},
        model=section("paper"),
        loss={"cross_entropy": {"class_weights": "balanced", "border_weight": 10.0}},
        optim={"name": "sgd", "schedule": "constant", "momentum": 0.99, "weight_decay": 0.0},
        train={"duration": "600 epochs", "batch_size": 1, **often},
        eval={"batch_size": 1},
    )
