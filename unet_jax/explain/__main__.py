"""Draws what an operation does, with numbers, or what a U-Net is made of.

unet-jax-explain --operation=transpose_conv --filter=3 --stride=2 --padding=1
unet-jax-explain --operation=conv --input="1 2 3; 4 5 6" --filter=2 --kernel="0 1; 2 3"
unet-jax-explain --operation=max_pool --input=numbers.csv
unet-jax-explain --operation=unet --config=oxford_pets.py

Writes OUTPUT/OPERATION.png, a sheet, and OUTPUT/OPERATION.gif, an animation of every step; of a
U-Net a figure alone. `python -m unet_jax.explain` is the same command.
"""

if __name__ == "__main__":  # before the imports that take long
    from unet_jax.process import signals

    signals.install()

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from absl import flags
from ml_collections import config_flags

from unet_jax import command_line
from unet_jax.errors import UserError
from unet_jax.process.paths import expand
from unet_jax.process.streams import printable

if TYPE_CHECKING:
    import numpy as np

    from unet_jax.models.up.geometry import Geometry

# Filter, stride, padding and rows of the input, where no flag says otherwise.
DEFAULTS = {"transpose_conv": (3, 2, 1, 3), "conv": (3, 1, 1, 3), "max_pool": (2, 2, 0, 4)}
LARGEST = 24
"""Cells per row of the largest grid: more could not be read."""

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "unet: config page; default: shapes.py.", lock_config=True
)
OPERATION = flags.DEFINE_enum(
    "operation", "transpose_conv", [*DEFAULTS, "unet"], "What to explain."
)
OUTPUT = flags.DEFINE_string("output", "runs/explain", "Directory for the figures.")
FILTER = flags.DEFINE_integer("filter", None, "Filter size f, or that of the window.")
STRIDE = flags.DEFINE_integer("stride", None, "Stride s.")
PADDING = flags.DEFINE_integer("padding", None, "Padding p.")
OUTPUT_PADDING = flags.DEFINE_integer("output_padding", 0, "transpose_conv: output padding.")
DILATION = flags.DEFINE_integer("dilation", 1, "Dilation d.")
INPUT = flags.DEFINE_string(
    "input", None, 'Numbers such as "1 2; 3 4", or a .txt or .csv file; default: random.'
)
KERNEL = flags.DEFINE_string(
    "kernel", None, "transpose_conv, conv: f x f numbers, like --input; default: random."
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of random numbers.", lower_bound=0)
SIZE = flags.DEFINE_integer("size", None, "Rows and columns of a random input.", 1, LARGEST)
NUM_CLASSES = flags.DEFINE_integer("num_classes", 3, "unet: K.", 1, 254)

_WINDOWS = tuple(DEFAULTS)
OPERATIONS = {
    "filter": _WINDOWS,
    "stride": _WINDOWS,
    "padding": _WINDOWS,
    "dilation": _WINDOWS,
    "input": _WINDOWS,
    "seed": _WINDOWS,
    "size": _WINDOWS,
    "output_padding": ("transpose_conv",),
    "kernel": ("transpose_conv", "conv"),
    "config": ("unet",),
    "num_classes": ("unet",),
}
"""The operations that take a flag; --output is for all of them."""


def explain() -> None:
    """Draws what the flags say.

    Raises:
        UserError: Flags do not fit together, or the files cannot be written.
    """
    name = OPERATION.value
    command_line.refuse_unused("operation", OPERATIONS)
    if INPUT.value is not None and SIZE.value is not None:
        raise UserError(f"--size={SIZE.value} is for a random input; leave it out beside --input.")
    has_kernel = KERNEL.value is not None or name == "max_pool"
    if flags.FLAGS["seed"].present and INPUT.value is not None and has_kernel:
        raise UserError(f"--seed={SEED.value} is for random numbers, and all are given.")
    try:
        folder = expand(OUTPUT.value, "--output")
        folder.mkdir(parents=True, exist_ok=True)
        written = _unet(folder) if name == "unet" else _windows(name, folder)
    except OSError as error:
        raise UserError(f"--output={OUTPUT.value} cannot be written: {error}.") from error
    for path in written:
        print(printable(path))


def _windows(name: str, folder: Path) -> list[str]:
    import numpy as np

    from unet_jax.explain.draw_transpose import explain_transpose_conv
    from unet_jax.explain.draw_windows import explain_windows
    from unet_jax.explain.lessons import write_lesson
    from unet_jax.explain.windows import grid_size, read_numbers, transpose_conv_steps, window_steps
    from unet_jax.models.up.geometry import Geometry

    given = (FILTER.value, STRIDE.value, PADDING.value, SIZE.value)
    f, s, p, size = (
        default if value is None else value
        for value, default in zip(given, DEFAULTS[name], strict=True)
    )
    x = None if INPUT.value is None else read_numbers("input", INPUT.value)
    shape = (size, size) if x is None else x.shape
    geometry = Geometry(f, s, p, OUTPUT_PADDING.value, DILATION.value)
    where = _in_words(geometry, shape)
    try:
        largest = max(grid_size(n, geometry, transposed=name == "transpose_conv") for n in shape)
        if largest > LARGEST:
            raise UserError(
                f"this needs a grid of {largest} rows or columns; at most {LARGEST} can be read. "
                "Use fewer input pixels or smaller numbers."
            )
        rng = np.random.default_rng(SEED.value)
        x = _random_input(rng, size) if x is None else x
        if name == "max_pool":
            lesson = explain_windows(window_steps(x, None, geometry))
        elif name == "conv":
            lesson = explain_windows(window_steps(x, _kernel(rng, f), geometry))
        else:
            steps = transpose_conv_steps(x, _kernel(rng, f), geometry)
            lesson = explain_transpose_conv(steps)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return write_lesson(lesson, folder / name)


def _in_words(geometry: "Geometry", shape: tuple[int, ...]) -> str:
    names = ("filter", "stride", "padding", "output_padding", "dilation")
    says = [f"--{name}={number}" for name, number in zip(names, geometry, strict=True)]
    return f"{' '.join(says)} with an input of {shape[0]}x{shape[1]}"


def _random_input(rng: "np.random.Generator", size: int) -> "np.ndarray":
    """Small integers, all different where there are few, so that they can be told apart."""
    import numpy as np

    if size * size <= 16:
        return (rng.permutation(size * size) + 1.0).reshape(size, size)
    return rng.integers(1, 10, (size, size)).astype(np.float64)


def _kernel(rng: "np.random.Generator", f: int) -> "np.ndarray":
    from unet_jax.explain.windows import read_numbers

    if KERNEL.value is None:
        return rng.integers(1, 5, (f, f)).astype(float)
    kernel = read_numbers("kernel", KERNEL.value)
    if kernel.shape != (f, f):
        rows, columns = kernel.shape
        raise UserError(f"--kernel={KERNEL.value} is {rows}x{columns}; it must be {f}x{f}.")
    return kernel


def _unet(folder: Path) -> list[str]:
    from unet_jax.config import call, check_sections
    from unet_jax.data.sources import make_loading
    from unet_jax.explain.draw_unet import write_unet
    from unet_jax.models.anatomy import dissect
    from unet_jax.models.rules import check_options
    from unet_jax.models.unet import UNet

    config, flag = CONFIG.value, cast(Any, flags.FLAGS["config"])
    check_sections(config)
    model = call(UNet, "config.model", config.model, num_classes=NUM_CLASSES.value)
    check_options(model)
    given = {key: config.data[key] for key in ("image_size",) if key in config.data}
    size = call(make_loading, "config.data", given).image_size
    if len(set(size)) == 1:  # a cube of the same side in 3-D
        size = size[:1] * model.dimensions
    anatomy = dissect(model, size)
    path = str(folder / "unet.png")
    write_unet(path, anatomy, f"The U-Net of {Path(flag.config_filename).name}")
    return [path]


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, explain, sys.modules[__name__]))
