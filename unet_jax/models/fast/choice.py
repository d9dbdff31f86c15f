"""Which form of an operation is taken where: the one place that asks what a program runs on.

Elsewhere than on CPU every operation is XLA's own. On CPU

- a 3x3 convolution and its gradients, on one device, with `NATIVE_CHANNELS` or fewer, half of it on
  one side, are those of `native`, if there are any; that of its kernel with up to `NATIVE_LARGE`
  where images have `LARGE` pixels;
- they are Winograd's with `WINOGRAD_CHANNELS` or more in and out, even sizes, one device, and tiles
  of a batch up to `BATCH_TILES` or of an image up to `IMAGE_TILES`, for the gradient of the kernel
  `IMAGE_TILES_GRADIENT`;
- other gradients of kernels, to fewer than `SWAPPED_CHANNELS`, from more, are XLA's with x and dy
  swapped;
- a depthwise 3x3 convolution and its gradients are nine shifted products;
- on one device, gradients of 1x1 convolutions and of transposed convolutions without overlap are
  matrix products of all pixels as one axis;
- the sums over all axes but the channels that normalisation needs are those of `native`, on one
  device, for float32; any other one is a matrix product with ones, and one of products, of up to
  `PRODUCT_CHANNELS` on one device, the diagonal of a matrix product;
- blocks that are computed again (`Options.remat`) are kept from being merged with the first time;
- the program that draws the initial parameters is compiled in a fourth of the time.

3x3 convolutions are those of float32 images with stride 1 and same padding; all others, and those
of volumes, are XLA's everywhere. A device that takes its images through the model by itself counts
as one device (see `sharding.by_parts`), but not for `native`, which not every machine has. Every
form is equal to XLA's up to float32 rounding. What a program runs on is known when it is lowered,
so that one traced program fits all.
"""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from unet_jax.models.fast import native, plain
from unet_jax.models.fast.winograd import (
    winograd,
    winograd_data_gradient,
    winograd_kernel_gradient,
)
from unet_jax.models.options import Options
from unet_jax.process import target
from unet_jax.sharding import is_part

# Measured on CPU: what Winograd's form needs to be faster than XLA's convolution.
WINOGRAD_CHANNELS = 128  # in and out, at least
BATCH_TILES = 2**23  # numbers in the tiles of a batch, at most; above, image by image
IMAGE_TILES = 2**24  # numbers in the tiles of an image, at most
IMAGE_TILES_GRADIENT = 2**22  # for the kernel's gradient
NATIVE_CHANNELS = 64  # at most for native convolutions, and half of it on the side with fewer
NATIVE_LARGE = 128  # the same for the gradient of a kernel, of images of `LARGE` pixels or more
LARGE = 2**12
SWAPPED_CHANNELS = 32  # out of a convolution, below which the swapped gradient is twice as fast
LEVEL = "xla_backend_optimization_level"
PRODUCT_CHANNELS = 32  # at most, for sums as products of all channels with all

Form = Callable[..., jax.Array]


def convolve3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves float32 images with a 3x3 kernel and same padding; see `plain.convolution`."""
    fast = _native_form(native.convolution, kernel.shape, NATIVE_CHANNELS)
    fast = fast or _winograd_form(winograd, x, kernel.shape, IMAGE_TILES)
    return _on_cpu(fast, plain.convolution, x, kernel) if fast else plain.convolution(x, kernel)


def affine_convolve3x3(x: jax.Array, kernel: jax.Array, bias: jax.Array, floor: float) -> jax.Array:
    """Convolves, adds and bounds in one pass where it can; see `plain.affine_convolution`."""
    fast = _native_form(native.affine_convolution, kernel.shape, NATIVE_CHANNELS)
    if not fast:
        return plain.lift(convolve3x3(x, kernel) + plain.along(bias, x), floor)
    own, other = (functools.partial(form, floor=floor) for form in (fast, plain.affine_convolution))
    return _on_cpu(own, other, x, kernel, bias)


def data_gradient3x3(dy: jax.Array, kernel: jax.Array) -> jax.Array:
    """Goes back through `convolve3x3` to its images; see `plain.data_gradient`."""
    fast = _native_form(native.data_gradient, kernel.shape, NATIVE_CHANNELS)
    fast = fast or _winograd_form(winograd_data_gradient, dy, kernel.shape, IMAGE_TILES)
    other = plain.data_gradient
    return _on_cpu(fast, other, dy, kernel) if fast else other(dy, kernel)


def kernel_gradient3x3(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Goes back through `convolve3x3` to its kernel; see `plain.kernel_gradient`."""
    c, features = x.shape[-1], dy.shape[-1]
    is_narrow = features < min(c, SWAPPED_CHANNELS)
    other = plain.swapped_kernel_gradient if is_narrow else plain.kernel_gradient
    most = NATIVE_LARGE if x.shape[1] * x.shape[2] >= LARGE else NATIVE_CHANNELS
    fast = _native_form(native.filter_gradient, (c, features), most)
    fast = fast or _winograd_form(winograd_kernel_gradient, x, (c, features), IMAGE_TILES_GRADIENT)
    return _on_cpu(fast or other, plain.kernel_gradient, x, dy)


def depthwise3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves every channel with its own 3x3 kernel; see `plain.depthwise`."""
    return _on_cpu(plain.sum_of_shifts, plain.depthwise, x, kernel)


def depthwise_kernel_gradient3x3(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Goes back through `depthwise3x3` to its kernel; see `plain.depthwise_kernel_gradient`."""

    def by_shifts(x: jax.Array, dy: jax.Array) -> jax.Array:
        sums = [channel_sums(shifted * dy) for shifted in plain.shifts(x)]
        return jnp.stack(sums).reshape(3, 3, 1, x.shape[-1])

    return _on_cpu(by_shifts, plain.depthwise_kernel_gradient, x, dy)


def channel_sums(x: jax.Array) -> jax.Array:
    """Sums over all axes but the last, in float32; see `channel_moments`.

    Args:
        x: [..., *n, C], with two axes before the last at least.

    Returns:
        float32 [C].
    """
    x = x.astype(jnp.float32)
    if _is_narrow(x):
        return _on_cpu(plain.sum_blocks, plain.sum_all, plain.blocks(x))
    # The last two axes are summed as one first, so that a core adds whole vectors.
    *rest, width, channels = x.shape
    sums = _on_cpu(plain.multiply_rows, plain.sum_all, x.reshape(*rest, width * channels))
    return sums.reshape(width, channels).sum(0)


def channel_moments(x: jax.Array, center: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums x - center and its squares over all axes but the last, in float32.

    Args:
        x: [..., *n, C], with two axes before the last at least.
        center: float32 [C].

    Returns:
        float32 [C] each.
    """
    if _has_native_sums(x):
        return _on_cpu(native.channel_moments, plain.channel_moments, x, center)
    centred = x.astype(jnp.float32) - plain.along(center, x)
    return channel_sums(centred), _product_sums(centred, centred)


def channel_products(y: jax.Array, x: jax.Array, center: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums y, and y * (x - center), over all axes but the last, in float32.

    Args:
        y: As x.
        x: [..., *n, C], with two axes before the last at least.
        center: float32 [C].

    Returns:
        float32 [C] each.
    """
    if _has_native_sums(x) and _has_native_sums(y):
        return _on_cpu(native.channel_products, plain.channel_products, y, x, center)
    y, centred = y.astype(jnp.float32), x.astype(jnp.float32) - plain.along(center, x)
    return channel_sums(y), _product_sums(y, centred)


def _product_sums(x: jax.Array, y: jax.Array) -> jax.Array:
    """Sums x * y, float32 [..., *n, C], over all axes but the last.

    XLA fuses no product x * y into the sum of it on CPU, and makes what x and y are computed from
    anew for it. Where channels are few, the products of all channels of x with all of y, a matrix
    product, take less than that.
    """
    if not _is_narrow(x):
        return channel_sums(x * y)
    sums = functools.partial(_on_cpu, plain.multiply_blocks, lambda x, y: plain.sum_all(x * y))
    return sums(plain.blocks(x), plain.blocks(y))


def _has_native_sums(x: jax.Array) -> bool:
    return x.dtype == jnp.float32 and _is_single_cpu() and native.load().name is not None


def keeps_pixels_together() -> bool:
    """Tells whether products of pixels and a matrix take all pixels of a batch as one axis."""
    # Those of images that lie on several devices would be gathered on each.
    return _is_single_cpu()


def _is_narrow(x: jax.Array) -> bool:
    # Blocks of rows that lie on several devices would be gathered on each.
    fits = x.shape[-1] <= PRODUCT_CHANNELS and _is_on_one_device()
    return fits and plain.has_known_size(x)


def _is_on_one_device() -> bool:
    return target.device_count() == 1 or is_part()


def _is_single_cpu() -> bool:
    # A kernel of ours would be given the images of all devices on each.
    return target.device_count() == 1 and target.platform() == "cpu"


def prepare() -> None:
    """Begins to compile the kernels, if a program here would take them, while others begin too."""
    if _is_single_cpu():
        threading.Thread(target=native.load, daemon=True).start()


def describe() -> str:
    """Says which form convolutions of few channels and sums have, and why; "" without a choice.

    What stands before a colon decides how its sums are rounded.
    """
    if not _is_single_cpu():
        return ""
    kernels = native.load()
    return "native" if kernels.name else f"XLA's: {kernels.why}"


def compiler_options(model: Options) -> dict[str, str] | None:
    """Returns XLA's options for a model's train step."""
    # On CPU, XLA would merge what is computed again with the first time, and save nothing.
    merges = model.remat and target.platform() == "cpu"
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if merges else None


def init_options() -> dict[str, Any]:
    """Returns XLA's options for the program that draws the initial parameters.

    It runs once, and LLVM's third level takes four times as long over it as the second, to the same
    bytes. A level in XLA_FLAGS holds.
    """
    is_open = LEVEL not in os.environ.get("XLA_FLAGS", "") and target.platform() == "cpu"
    return {LEVEL: 2} if is_open else {}


def _on_cpu(fast: Callable[..., Any], other: Callable[..., Any], *operands: jax.Array) -> Any:
    """Computes one form on CPU and another elsewhere."""
    if target.is_stand_in():
        return other(*operands)
    return lax.platform_dependent(*operands, cpu=fast, default=other)


def _native_form(form: Form, channels: tuple[int, ...], most: int) -> Form | None:
    """Returns a form of `native`; None where it is not the faster one.

    Args:
        form: The form.
        channels: (..., C, F).
        most: Channels on one side, at most; half of it on the other.
    """
    few, many = sorted(channels[-2:])
    fits = many <= most and few <= most // 2 and _is_single_cpu()
    return form if fits and native.load().name else None


def _winograd_form(
    form: Callable[..., jax.Array], x: jax.Array, channels: tuple[int, ...], most: int
) -> Form | None:
    """Returns one of Winograd's forms for images x; None where it is not the faster one.

    Args:
        form: The form.
        x: [B, H, W, C].
        channels: (..., C, F).
        most: Numbers in the tiles of an image, at most, where images come one by one.
    """
    if not plain.has_known_size(x):
        return None
    b, h, w, _ = x.shape
    tiles = 4 * x.size
    by_image = tiles > BATCH_TILES
    # Tiles of images that lie on several devices would be gathered on each.
    fits = _is_on_one_device() and (not by_image or tiles <= b * most)
    if h % 2 == w % 2 == 0 and min(channels[-2:]) >= WINOGRAD_CHANNELS and fits:
        return functools.partial(form, by_image=by_image)
    return None
