"""Ways up: the transposed convolution of the decoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class TransposeConv(nn.Module):
    """Transposed convolution whose filter size equals its stride, so that placements never overlap.

    Every input pixel x[i] places the filter, multiplied by it, at output pixels i*s .. i*s + s - 1
    (Ronneberger et al., 2015, "up-conv 2x2"). Without overlaps that is one matrix product
    [C] x [C, s*s*F] per pixel followed by a move of the s*s results to their places.

    Attributes:
        features: F, output channels.
        dtype: Type of the computation; parameters stay float32.
        stride: s, also the filter size.
    """

    features: int
    dtype: str
    stride: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, s*H, s*W, F]."""
        s, (b, h, w, c) = self.stride, x.shape
        kernel = self.param("kernel", _per_tap_init, (s, s, c, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = jnp.einsum("bhwc,ijcf->bhiwjf", x, kernel)
        return y.reshape(b, h * s, w * s, self.features) + bias.reshape(1, 1, 1, -1)


def _per_tap_init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    # Each output pixel sees one tap of the filter, so the fan-in is C and not s*s*C.
    s, _, c, f = shape
    flat = nn.initializers.lecun_normal()(key, (c, s * s * f))
    return flat.reshape(c, s, s, f).transpose(1, 2, 0, 3)
