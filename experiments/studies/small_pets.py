"""What the ready studies have in common: pets, sized so that a trial takes about a minute.

On two CPU cores; a larger device runs larger trials by --set, for example
--set=data.image_size=128,128 --set=model.features=32,64,128,256 --set=train.duration="30 epochs".
"""

from typing import Any

PAGE = "configs/oxford_pets.py:cpu"
SMALL: dict[str, Any] = {
    "data.image_size": (64, 64),
    "model.features": (8, 16, 32, 64),
    "train.duration": "3 epochs",
    "train.eval_every": "50%",
    "train.checkpoint_every": "50%",
}
