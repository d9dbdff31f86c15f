"""3x3 convolutions and their gradients; a drop-in for XLA's own."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from unet_jax.models.fast import choice
from unet_jax.models.fast.plain import SAME, along, lift
from unet_jax.models.fast.product import multiply


def convolve(x: jax.Array, kernel: jax.Array, *args: Any, **settings: Any) -> jax.Array:
    """Convolves; for `flax.linen.Conv(conv_general_dilated=convolve)`.

    Everywhere but on CPU this is XLA's convolution. There, XLA's reaches less of the cores' rate
    than its matrix product, and least of all where every channel is alone: `conv3x3` and
    `depthwise3x3` take its place for float32 images, equal up to float32 rounding, and 1x1
    convolutions are matrix products.

    Args:
        x: [B, *n, C].
        kernel: [*f, C, F].
        *args: As of `jax.lax.conv_general_dilated`.
        **settings: As of `jax.lax.conv_general_dilated`.

    Returns:
        [B, *m, F].
    """
    form = _form(x, kernel, args, settings)
    return form(x, kernel) if form else lax.conv_general_dilated(x, kernel, *args, **settings)


def convolve_affine(factor: jax.Array, bias: jax.Array, floor: float = -math.inf) -> Any:
    """Makes a convolution whose result is scaled, shifted and bounded from below by feature.

    The factor goes into the kernel, so that nothing is left to do but to add, in the same pass
    where `conv3x3` is a kernel of our own.

    Args:
        factor: float32 [F].
        bias: float32 [F].
        floor: The least value of the result; 0 for relu.

    Returns:
        As `convolve`, for float32.
    """

    def affine(x: jax.Array, kernel: jax.Array, *args: Any, **settings: Any) -> jax.Array:
        kernel = kernel * along(factor, kernel)
        form = _form(x, kernel, args, settings)
        if form is conv3x3:
            return affine_conv3x3(x, kernel, bias, floor)
        y = convolve(x, kernel, *args, **settings)
        return lift(y + along(bias, y), floor)

    return affine


def _form(
    x: jax.Array, kernel: jax.Array, args: Any, settings: dict[str, Any]
) -> choice.Form | None:
    """Returns the form that takes the place of XLA's convolution; None for none."""
    strides, padding = args
    size = kernel.shape[:-2]
    ones = (1,) * len(size)
    is_plain = (
        tuple(strides) == ones
        and tuple(settings.get("rhs_dilation") or ones) == ones
        and tuple(settings.get("lhs_dilation") or ones) == ones
        and settings.get("precision") is None
    )
    groups = settings.get("feature_group_count", 1)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:-1], size, strides, padding)
    pads = tuple(map(tuple, padding))
    is_3x3 = is_plain and size == (3, 3) and pads == SAME and x.dtype == jnp.float32
    if is_3x3 and groups == 1:
        return conv3x3
    if is_3x3 and groups == x.shape[-1] == kernel.shape[-1]:
        return depthwise3x3
    is_1x1 = is_plain and size == ones and not any(map(any, pads))
    if is_1x1 and groups == 1 and choice.keeps_pixels_together():
        return _multiply
    return None


def _multiply(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return multiply(x, kernel.reshape(kernel.shape[-2:]))


def _with_gradients(
    forward: choice.Form, data_gradient: choice.Form, kernel_gradient: choice.Form
) -> choice.Form:
    """Makes a 3x3 convolution whose gradients are fast too; it has no forward-mode derivative.

    Args:
        forward: (x, kernel) -> y.
        data_gradient: (dy, kernel) -> the gradient of x.
        kernel_gradient: (x, dy) -> the gradient of the kernel.
    """

    @jax.custom_vjp
    def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return forward(x, kernel)

    def backward(
        residuals: tuple[jax.Array, jax.Array], dy: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        x, kernel = residuals
        with jax.named_scope("data_gradient"):
            dx = data_gradient(dy, kernel)
        with jax.named_scope("filter_gradient"):
            return dx, kernel_gradient(x, dy)

    convolution.defvjp(lambda x, kernel: (convolution(x, kernel), (x, kernel)), backward)
    return convolution


conv3x3 = _with_gradients(choice.convolve3x3, choice.data_gradient3x3, choice.kernel_gradient3x3)
"""Convolves float32 [B, H, W, C] with a kernel float32 [3, 3, C, F] and same padding."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def affine_conv3x3(x: jax.Array, kernel: jax.Array, bias: jax.Array, floor: float) -> jax.Array:
    """Does what `plain.affine_convolution` does, as fast as `conv3x3` where that is a kernel."""
    return choice.affine_convolve3x3(x, kernel, bias, floor)


def _affine_forward(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, floor: float
) -> tuple[jax.Array, Any]:
    y = affine_conv3x3(x, kernel, bias, floor)
    return y, (x, kernel, y)


def _affine_backward(floor: float, residuals: Any, dy: jax.Array) -> tuple[jax.Array, ...]:
    x, kernel, y = residuals
    dy = jnp.where(y > floor, dy, 0)
    _, back = jax.vjp(conv3x3, x, kernel)
    return *back(dy), choice.channel_sums(dy)


affine_conv3x3.defvjp(_affine_forward, _affine_backward)

depthwise3x3 = _with_gradients(
    choice.depthwise3x3,
    lambda dy, kernel: choice.depthwise3x3(dy, jnp.flip(kernel, (0, 1))),
    choice.depthwise_kernel_gradient3x3,
)
"""Convolves every channel of float32 [B, H, W, C] with its own kernel, float32 [3, 3, 1, C]."""
