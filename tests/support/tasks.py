"""Tasks of classes without a name of their own."""

from unet_jax.task import Exclusive


def exclusive(count):
    return Exclusive(tuple(map(str, range(count))))
