"""Oxford-IIIT Pet (Parkhi et al., 2012) at 128x128: for a GPU; :cpu and :folded for two CPU cores.

python -m unet_jax.main --config=configs/oxford_pets.py:folded --workdir=runs/pets
Expected test mIoU: :folded 0.755 (seed 0), two CPU cores, 1.1 hours; :cpu 0.679, 0.23 hours; of
the full recipe: not measured. At the images' own sizes :folded has 0.740 on 41 of the 3,669 (all
of them: not run) by --mode=predict and --mode=score; see docs/cards/index.md.
With --config.data.source=pets, config.data.path holds the unpacked images/ and annotations/.
"""

from unet_jax.defaults import ConfigDict, page
from unet_jax.models.variants import section

COLOUR = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.3, "hue": 0.03}
RATES = {"cpu": (3e-3, 0.995, 16), "folded": (3e-3, 0.99, 8), "full": (1e-3, 0.999, 32)}


def get_config(recipe: str = "full") -> ConfigDict:
    if recipe not in RATES:
        raise ValueError(f"oxford_pets.py:{recipe} is no recipe; allowed are full, cpu, folded.")
    cpu = recipe != "full"
    zoom = {"scale": (0.9, 1.4), "aspect": 1.2} if cpu else {"scale": (0.8, 1.6), "aspect": 1.3}
    fold = 2 if recipe == "folded" else 1
    features = (16, 32, 64, 128, 256)[fold - 1 :] if cpu else (64, 128, 256, 512, 1024)
    rate, decay, size = RATES[recipe]
    duration = "5 epochs" if recipe == "cpu" else "40 epochs" if cpu else "200 epochs"
    often = {"eval_every": "50%" if recipe == "cpu" else "5%", "checkpoint_every": "5%"}
    return page(
        data={"source": "tfds", "workers": 2 if cpu else 8},
        augment={"flip": {"left_right": True}, "zoom": zoom, "colour": COLOUR},
        model=section(features=features, fold=fold, dtype="float32" if cpu else "bfloat16"),
        loss={"cross_entropy": {"weight": 1.0}, "dice": {"weight": 1.0}},
        optim={"learning_rate": rate, "weight_decay": 1e-2, "ema_decay": decay},
        train={"duration": duration, "batch_size": size, **often},
    )
