"""A loss that compares borders by how far pixels are from the right one."""

import jax
import jax.numpy as jnp

from unet_jax.losses.example import Example
from unet_jax.losses.pixel import weighted_mean


def boundary(example: Example) -> jax.Array:
    """Weighted mean over pixels i and channels k of p_ik phi_ik, sum w p phi / (K sum w).

    phi is the distance to the border of what is true, below 0 inside of it and above 0 outside
    (Kervadec et al., 2019, eq. 5): `data.maps.Distance`, in pixels, whose details are stated there;
    of the whole image, also where parts are cut from it. A channel without a pixel in an image adds
    nothing there. It grows with the image, can be below 0, and says little where a network knows
    nothing: the paper adds it to a loss over regions, whose weight falls from 1 to 0 while this
    one's grows from 0.01, as `ramp` has it for both.

    Args:
        example: The batch, with the extra "distance" [..., K].

    Returns:
        Scalar; 0 if all weights are 0.
    """
    logits, _, weight, task, extras = example
    losses = task.probability(logits) * extras["distance"]
    return weighted_mean(losses, jnp.broadcast_to(weight[..., None], losses.shape))
