"""The weights alone, in PyTorch's layout, with a script that loads them there."""

import json
import shutil
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save

from unet_jax.defaults import DEFAULTS
from unet_jax.export.bundle import Bundle
from unet_jax.models.pretrained.torch_layout import in_torch_layout, milesial_weights
from unet_jax.models.unet import UNet
from unet_jax.process.whole import write_whole

FILE, SCRIPT = "model.safetensors", "load_torch.py"
# Arguments of a model that change nothing in the network of its inference.
_FREE = {
    *("features", "width", "up_initial", "dropout", "stochastic_depth", "remat", "frozen"),
    *("dtype",),
}


def export(bundle: Bundle, folder: Path) -> None:
    """Writes the weights and the script.

    Args:
        bundle: The model.
        folder: Where; it is there.
    """
    says = {"unet_jax": json.dumps(bundle.describe())}
    write_whole(folder / FILE, save(torch_weights(bundle), metadata=says))
    shutil.copy(Path(__file__).with_name(SCRIPT), folder / SCRIPT)


def torch_weights(bundle: Bundle) -> dict[str, np.ndarray]:
    """Returns the weights in PyTorch's layout.

    Args:
        bundle: The model.

    Returns:
        Of a standard U-Net by the names of milesial/Pytorch-UNet, of any other by those of our
        modules, joined by dots.
    """
    model = bundle.network.model
    if is_standard(model):
        return milesial_weights(bundle.variables, model.bottom())
    flat = flatten_dict(bundle.variables)
    is_up = model.up == "transpose"
    return {
        ".".join(path): in_torch_layout(np.asarray(x), is_up and path[1].startswith("up_"))
        for path, x in flat.items()
    }


def is_standard(model: UNet) -> bool:
    """Tells whether a model is the U-Net that the script has: "modern", of any features."""
    standard = DEFAULTS["model"]
    return all(getattr(model, name) == standard[name] for name in standard if name not in _FREE)
