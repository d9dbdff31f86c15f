"""What a U-Net is made of: its blocks with the shapes and parameters that the model really has."""

import math
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from unet_jax.models.up.ways import WAYS

Shape = tuple[int, ...]

_NAME = re.compile(r"(encoder|bottom|up|node|decoder|head)(?:_(\d+))?(?:_(\d+))?")


class Stage(NamedTuple):
    """What a convolution makes.

    Attributes:
        label: The convolution, such as "conv 3x3".
        shape: Of its output, [H, W, F].
    """

    label: str
    shape: Shape


class Block(NamedTuple):
    """A part of the model.

    Attributes:
        name: Its name among the parameters.
        role: "encoder", "bottom", "up", "node" (of nested skips), "decoder", "head", or "other".
        level: 0 for full resolution.
        column: Of a node or its way up, 1 or more; otherwise 0.
        label: What a way up does; otherwise empty.
        input: Shape of what it reads, [H, W, C].
        stages: Its convolutions, in order.
        output: Shape of what it makes, [H, W, F].
        parameters: How many numbers it learns.
    """

    name: str
    role: str
    level: int
    column: int
    label: str
    input: Shape
    stages: tuple[Stage, ...]
    output: Shape
    parameters: int


class Anatomy(NamedTuple):
    """A model, taken apart.

    Attributes:
        input: Shape of an image, [H, W, C].
        output: Shape of its logits, [H, W, K].
        blocks: In the order in which they are computed.
        skips: Levels whose decoder (or last node) reads more channels than come from below.
        pool: How a level becomes the next, unless a strided convolution does it.
        convolution: What follows every convolution of a block.
        parameters: How many numbers the whole model learns.
    """

    input: Shape
    output: Shape
    blocks: tuple[Block, ...]
    skips: tuple[int, ...]
    pool: str
    convolution: str
    parameters: int

    def find(self, role: str, level: int, column: int = 0) -> Block | None:
        """Returns the block of that role and place, or None."""
        wanted = (role, level, column)
        return next((b for b in self.blocks if (b.role, b.level, b.column) == wanted), None)


class _Call(NamedTuple):
    module: nn.Module
    input: Shape
    output: Shape


def dissect(model: nn.Module, image_size: tuple[int, ...], channels: int = 3) -> Anatomy:
    """Follows an image through a model, without computing a number.

    Args:
        model: A U-Net; its blocks are known by their names.
        image_size: H, W.
        channels: C.

    Returns:
        The shapes as the model's own modules read and make them.
    """
    calls: dict[Shape | tuple[str, ...], _Call] = {}

    def watch(function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = function(*args, **kwargs)
        if context.method_name == "__call__" and args and hasattr(result, "shape"):
            shapes = args[0].shape[1:], result.shape[1:]
            calls[context.module.path] = _Call(context.module, *shapes)
        return result

    image = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    with nn.intercept_methods(watch):
        output = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, image)
    params = variables["params"]
    blocks = [_block(path, calls, params, model, image_size) for path in _places(calls)]
    # Modules are recorded as they end, so the order is that of computing.
    return Anatomy(
        input=(*image_size, channels),
        output=output.shape[1:],
        blocks=tuple(blocks),
        skips=_skips(blocks),
        pool=f"{getattr(model, 'pool', 'max')} pool",
        convolution=_after_convolutions(model),
        parameters=_size(params),
    )


def _places(calls: dict[Any, _Call]) -> list[tuple[str, ...]]:
    """The modules that are blocks: those directly in the model, and those in one "encoder"."""
    top = [path for path in calls if len(path) == 1 and path != ("encoder",)]
    inside = [path for path in calls if len(path) == 2 and path[0] == "encoder"]
    # Of an encoder with names of its own, what it makes last at each resolution is a level.
    last = {calls[path].output[:-1]: path for path in inside}
    return [*last.values(), *top]


def _block(
    path: tuple[str, ...],
    calls: dict[Any, _Call],
    params: Any,
    model: Any,
    image_size: tuple[int, ...],
) -> Block:
    call = calls[path]
    match = _NAME.fullmatch(path[-1]) if len(path) == 1 else None
    role, level, column = match.groups() if match else ("other", None, None)
    if path[0] == "encoder":
        role = "encoder"
    if level is None and role == "head":
        level = 0
    if level is None:
        level = round(math.log2(max(1.0, image_size[0] / call.output[0])))
    stages = tuple(
        Stage(_conv_label(other.module), other.output)
        for inner, other in calls.items()
        if inner[: len(path)] == path and isinstance(other.module, nn.Conv)
    )
    for name in path:
        params = params.get(name, {})
    return Block(
        name="/".join(path),
        role=role,
        level=int(level),
        column=int(column or 0),
        label=_up_label(call, model, int(level)) if role == "up" else "",
        input=call.input,
        stages=stages,
        output=call.output,
        parameters=_size(params),
    )


def _size(params: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _by(sizes: Any) -> str:
    return "x".join(str(n) for n in sizes)


def _conv_label(module: Any) -> str:
    size = module.kernel_size
    label = f"conv {_by((size,) if isinstance(size, int) else size)}"
    strides = module.strides if isinstance(module.strides, tuple | list) else (module.strides,)
    strides = [s or 1 for s in strides]
    return label if max(strides) == 1 else f"{label}, stride {max(strides)}"


def _up_label(call: _Call, model: Any, level: int) -> str:
    way = WAYS.get(getattr(model, "up", ""))
    label = way.label if way else type(call.module).__name__
    if way and way.has_filter:
        label += f" {_by((model.ups()[level].filter,) * model.dimensions)}"
    strides = [m // n for m, n in zip(call.output[:-1], call.input[:-1], strict=True)]
    return f"{label}, stride {max(strides)}"


def _skips(blocks: list[Block]) -> tuple[int, ...]:
    ups = {(b.level, b.column): b.output[-1] for b in blocks if b.role == "up"}
    own = {b.name.removesuffix(f"_from_{b.level}") for b in blocks if "_from_" in b.name}
    levels = set()
    for block in blocks:
        if block.role not in ("decoder", "node"):
            continue
        up = ups.get((block.level, block.column))
        if (up is not None and block.input[-1] > up) or block.name in own:
            levels.add(block.level)
    return tuple(sorted(levels))


def _after_convolutions(model: Any) -> str:
    norm = getattr(model, "norm", "none")
    parts = [] if norm == "none" else [f"{norm} norm"]
    return ", ".join([*parts, getattr(model, "activation", "relu").replace("_", " ")])


def forward_flops(model: nn.Module, variables: Any, shape: Shape) -> float:
    """Counts the floating-point operations of a forward pass, before optimisation.

    They are those of convolutions as they are defined, whatever form computes them here: on CPU,
    Winograd's has fewer.

    Args:
        model: A linen module, called with (image, train=False).
        variables: Its variables, or their shapes.
        shape: Of the image, [B, *n, C].

    Returns:
        The number of operations; a multiplication and an addition are two.
    """

    def forward(variables: Any, image: jax.Array) -> Any:
        return model.apply(variables, image, train=False)

    traced = jax.jit(forward).trace(variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    cost: Any = traced.lower(lowering_platforms=("cuda",)).cost_analysis()  # needs no such device
    return float(cost["flops"]) if cost else math.nan
