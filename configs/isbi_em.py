"""ISBI 2012 EM (Arganda-Carreras et al., 2015): membranes in 30 slices, the last 6 for the test.

python -m unet_jax.main --config=configs/isbi_em.py --config.data.path=PATH --workdir=runs/em
PATH holds train-volume.tif and train-labels.tif; trained on slices 0 to 19, val is 20 to 23. Then
--mode=eval --split=test, at the threshold of the probability that val chose.
Expected of the test: V_rand 0.945, mIoU 0.794 (seed 0), two CPU cores, 0.34 hours.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section


def get_config() -> ConfigDict:
    folder = {"layout": "stacks", "test_fraction": 0.2}
    moves = {"flip": {"left_right": True, "up_down": True}, "turn": {"quarters": (0, 1)}}
    bends = {"zoom": {"scale": (0.8, 1.25)}, "elastic": {"deviation": 6.0, "points": 6}}
    often = {"eval_every": "10%", "checkpoint_every": "10%", "log_every": "10 steps"}
    return page(
        data={"source": "folder", "image_size": (256, 256), "fit": "crop", "crops": 4}
        | {"folder": folder, "workers": 2},
        augment={**moves, **bends, "colour": {"brightness": 0.2, "contrast": 0.3}},
        model=section("folded", features=(32, 64, 128, 256)),
        loss={"cross_entropy": {"border_weight": 5.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": 3e-3, "weight_decay": 1e-2, "ema_decay": 0.99},
        train={"duration": "100 epochs", "batch_size": 4, **often},
        eval={"batch_size": 1, "headline": "V_rand", "metrics": {"segments": {"thin": True}}},
    )
