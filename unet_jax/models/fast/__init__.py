"""The door to what only makes CPU fast: the rest of the package imports from here alone.

Every name equals what flax or XLA has, in values up to rounding and in parameters, and could be
replaced by it; `choice` says which form is taken where.
"""

from unet_jax.models.fast.batch_norm import BatchNorm, GroupNorm
from unet_jax.models.fast.choice import compiler_options, describe, init_options, prepare
from unet_jax.models.fast.convolution import convolve, convolve_affine
from unet_jax.models.fast.plain import has_known_size
from unet_jax.models.fast.pool import max_pool
from unet_jax.models.fast.product import multiply

__all__ = [
    "BatchNorm",
    "GroupNorm",
    "compiler_options",
    "convolve",
    "convolve_affine",
    "describe",
    "has_known_size",
    "init_options",
    "max_pool",
    "multiply",
    "prepare",
]
