"""unet_jax: U-Nets for semantic segmentation in JAX and Flax.

The names below are the library; see docs/library.md. Importing them does not start jax.
"""

from unet_jax.errors import UserError
from unet_jax.library import Prediction, Run, draw, load, open_page, score, train

__version__ = "0.1.0"
__all__ = ["Prediction", "Run", "UserError", "draw", "load", "open_page", "score", "train"]
