"""Oxford-IIIT Pet (Parkhi et al., 2012) at 128x128: for a GPU; :cpu and :folded for two CPU cores.

python -m unet_jax.main --config=configs/oxford_pets.py:folded --workdir=runs/pets
Expected test mIoU: :folded 0.755 (seed 0), two CPU cores, 1.1 hours; :cpu 0.679, 0.23 hours; of
the full recipe: not measured. With --config.data.source=pets, data.path holds unpacked archives.
"""

from unet_jax.defaults import ConfigDict, choose, page
from unet_jax.models.variants import section

RECIPES = {  # features, fold, zoom, learning rate, decay of the mean, batch, duration, evaluations
    "full": ((64, 128, 256, 512, 1024), 1, (0.8, 1.6), 1e-3, 0.999, 32, "200 epochs", "5%"),
    "cpu": ((16, 32, 64, 128, 256), 1, (0.9, 1.4), 3e-3, 0.995, 16, "5 epochs", "50%"),
    "folded": ((32, 64, 128, 256), 2, (0.9, 1.4), 3e-3, 0.99, 8, "40 epochs", "5%"),
}


def get_config(recipe: str = "full") -> ConfigDict:
    features, fold, scale, rate, decay, size, duration, every = choose(recipe, RECIPES)
    colour = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.3, "hue": 0.03}
    moves = {"flip": {"left_right": True}, "zoom": {"scale": scale, "aspect": 1.2}}
    workers, dtype = (8, "bfloat16") if recipe == "full" else (2, "float32")
    return page(
        data={"source": "tfds", "workers": workers},
        augment=moves | {"colour": colour},
        model=section(features=features, fold=fold, dtype=dtype),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": rate, "weight_decay": 1e-2, "ema_decay": decay},
        train={"duration": duration, "batch_size": size, "eval_every": every},
    )
