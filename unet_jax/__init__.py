"""unet_jax: U-Nets for semantic segmentation in JAX and Flax.

The names below are the library; see docs/library.md. Importing them does not start jax.
"""

from unet_jax.errors import UserError
from unet_jax.library import draw, load, open_page, score, train
from unet_jax.loaded import Prediction, Run

__version__ = "0.1.0"
__all__ = ["Prediction", "Run", "UserError", "draw", "load", "open_page", "score", "train"]
