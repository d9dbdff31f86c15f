"""What becomes of each primitive of jax in ONNX; one that has no row cannot be exported."""

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unet_jax.errors import UserError
from unet_jax.export.graph.builder import Builder, Value

Rule = Callable[..., str]  # (builder, the equation, its inputs) -> name of a tensor of its shape

BY_ELEMENT = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "erf": "Erf",
    "abs": "Abs",
    "neg": "Neg",
    "sign": "Sign",
    "floor": "Floor",
    "sqrt": "Sqrt",
    "pow": "Pow",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "not": "Not",
    "round": "Round",
    "stop_gradient": "Identity",
    "copy": "Identity",
    "optimization_barrier": "Identity",
}
"""Operations by element that ONNX has, which broadcast."""
REDUCTIONS = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_sum": "ReduceSum"}


def convert(builder: Builder, equation: Any, inputs: Sequence[Value]) -> Value:
    """Adds an equation of a jaxpr to a graph.

    Args:
        builder: The graph.
        equation: The equation, of one output.
        inputs: Its operands.

    Returns:
        Its result.

    Raises:
        UserError: There is no rule for its primitive.
    """
    name, aval = equation.primitive.name, equation.outvars[0].aval
    if name in BY_ELEMENT or name in ELEMENTWISE:
        operands = [value.name for value in inputs]
        if name in BY_ELEMENT:
            result = builder.add(BY_ELEMENT[name], *operands)
        else:
            result = ELEMENTWISE[name](builder, equation, inputs)
        # Of operands none of which is whole the result need not be either.
        is_full = not aval.shape or any(
            value.is_full and value.shape == aval.shape for value in inputs
        )
        return Value(result, aval.shape, aval.dtype, is_full)
    if name == "broadcast_in_dim":
        return _broadcast(builder, equation, inputs[0])
    if name not in RULES:
        raise UserError(
            f"--format=onnx cannot write jax's {name!r}, which this model needs; export it as "
            "stablehlo, or add a rule to unet_jax/export/graph/rules.py."
        )
    whole = [value._replace(name=builder.full(value), is_full=True) for value in inputs]
    return Value(RULES[name](builder, equation, *whole), aval.shape, aval.dtype)


def _broadcast(builder: Builder, equation: Any, x: Value) -> Value:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    ones = [1] * len(shape)
    for size, place in zip(x.shape, places, strict=True):
        ones[place] = size
    name = x.name
    if list(x.shape) != ones:
        name = builder.reshape(builder.full(x), ones)
    return Value(name, shape, x.dtype, x.is_full and tuple(ones) == tuple(shape))


def _select(b: Builder, equation: Any, inputs: Sequence[Value]) -> str:
    which, no, yes = (value.name for value in inputs)
    return b.add("Where", which, yes, no)


def _logical(of_bool: str, of_int: str) -> Rule:
    def rule(b: Builder, equation: Any, inputs: Sequence[Value]) -> str:
        is_bool = inputs[0].dtype == np.bool_
        return b.add(of_bool if is_bool else of_int, *(value.name for value in inputs))

    return rule


def _shift(b: Builder, equation: Any, inputs: Sequence[Value]) -> str:
    x, by = inputs
    two = b.cast(b.add("Pow", b.constant(2.0, np.float32), b.cast(by.name, np.float32)), x.dtype)
    if equation.primitive.name == "shift_left":
        return b.add("Mul", x.name, two)
    # Division rounds towards 0, a shift down.
    return b.add("Div", b.add("Sub", x.name, b.add("Mod", x.name, two)), two)


def _integer_pow(b: Builder, equation: Any, inputs: Sequence[Value]) -> str:
    power = b.constant(equation.params["y"], np.float32)
    return b.add("Pow", inputs[0].name, b.cast(power, inputs[0].dtype))


ELEMENTWISE: dict[str, Rule] = {
    "select_n": _select,
    "and": _logical("And", "BitwiseAnd"),
    "or": _logical("Or", "BitwiseOr"),
    "ne": lambda b, e, v: b.add("Not", b.add("Equal", v[0].name, v[1].name)),
    "rem": lambda b, e, v: b.add("Mod", v[0].name, v[1].name, fmod=1),  # of the dividend's sign
    "rsqrt": lambda b, e, v: b.add("Reciprocal", b.add("Sqrt", v[0].name)),
    "square": lambda b, e, v: b.add("Mul", v[0].name, v[0].name),
    "integer_pow": _integer_pow,
    "shift_left": _shift,
    "shift_right_arithmetic": _shift,
    "clamp": lambda b, e, v: b.add("Min", b.add("Max", v[1].name, v[0].name), v[2].name),
    "convert_element_type": lambda b, e, v: b.cast(v[0].name, e.outvars[0].aval.dtype),
}


def _reduce(b: Builder, equation: Any, x: Value) -> str:
    axes = b.constant(list(equation.params["axes"]))
    return b.add(REDUCTIONS[equation.primitive.name], x.name, axes, keepdims=0)


def _argmax(b: Builder, equation: Any, x: Value) -> str:
    (axis,) = equation.params["axes"]
    place = b.add("ArgMax", x.name, axis=axis, keepdims=0, select_last_index=0)
    return b.cast(place, equation.outvars[0].aval.dtype)


def _iota(b: Builder, equation: Any) -> str:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    limit = b.add("Squeeze", b.length(shape[axis]), b.constant([0]))
    count = b.add("Range", b.constant(0), limit, b.constant(1))
    count = b.cast(count, equation.params["dtype"])
    if len(shape) == 1:
        return count
    ones = [shape[i] if i == axis else 1 for i in range(len(shape))]
    return b.expand(b.reshape(count, ones), shape)


def _dim_as_value(b: Builder, equation: Any) -> str:
    size = b.add("Squeeze", b.length(equation.params["dim"]), b.constant([0]))
    return b.cast(size, equation.outvars[0].aval.dtype)


def _slice(b: Builder, equation: Any, x: Value) -> str:
    p, axes = equation.params, b.constant(list(range(len(x.shape))))
    strides = p["strides"] or (1,) * len(x.shape)
    ends = b.shape(p["start_indices"]), b.shape(p["limit_indices"])
    return b.add("Slice", x.name, *ends, axes, b.constant(list(strides)))


def _reverse(b: Builder, equation: Any, x: Value) -> str:
    axes = list(equation.params["dimensions"])
    back = [b.constant([n] * len(axes)) for n in (-1, -(2**31), -1)]
    return b.add("Slice", x.name, *back[:2], b.constant(axes), back[2])


def _pad(b: Builder, equation: Any, x: Value, value: Value) -> str:
    low, high, inside = zip(*equation.params["padding_config"], strict=True)
    if any(inside) or any(n < 0 for n in (*low, *high)):
        raise UserError("--format=onnx cannot write a pad between pixels; export it as stablehlo.")
    return b.add("Pad", x.name, b.constant([*low, *high]), value.name)


def _gather(b: Builder, equation: Any, x: Value, indices: Value) -> str:
    """Takes slices along one axis, as `jnp.take` does, at indices that are cut to it."""
    p = equation.params
    numbers = p["dimension_numbers"]
    axes, sizes = numbers.collapsed_slice_dims, p["slice_sizes"]
    rank = len(indices.shape) - 1
    others = [i for i in range(len(x.shape)) if i not in axes]
    # Where the taken slices stand in the result: the axis is replaced by those of the indices.
    is_take = (
        len(axes) == 1
        and tuple(numbers.start_index_map) == tuple(axes)
        and not numbers.operand_batching_dims
        and all(sizes[i] == x.shape[i] for i in others)
        and tuple(numbers.offset_dims) == tuple(i if i < axes[0] else i + rank - 1 for i in others)
    )
    if not is_take:
        raise UserError(
            "--format=onnx cannot write a gather along several axes; export it as stablehlo."
        )
    places = b.add("Squeeze", b.cast(indices.name, np.int64), b.constant([rank]))
    last = b.add("Sub", b.length(x.shape[axes[0]]), b.constant([1]))
    last = b.add("Squeeze", last, b.constant([0]))
    places = b.add("Max", b.add("Min", places, last), b.constant(0))
    return b.add("Gather", x.name, places, axis=axes[0])


def _dot(b: Builder, equation: Any, x: Value, y: Value) -> str:
    (cx, cy), (bx, by) = equation.params["dimension_numbers"]
    if (tuple(cx), tuple(cy)) == ((len(x.shape) - 1,), (0,)) and not bx and len(y.shape) == 2:
        return b.add("MatMul", x.name, y.name)
    letters = iter(string.ascii_lowercase)
    of_x = [next(letters) for _ in x.shape]
    of_y = [next(letters) for _ in y.shape]
    for i, j in zip((*cx, *bx), (*cy, *by), strict=True):
        of_y[j] = of_x[i]
    kept_x = [c for i, c in enumerate(of_x) if i not in (*cx, *bx)]
    kept_y = [c for j, c in enumerate(of_y) if j not in (*cy, *by)]
    result = [*(of_x[i] for i in bx), *kept_x, *kept_y]
    equation_text = f"{''.join(of_x)},{''.join(of_y)}->{''.join(result)}"
    return b.add("Einsum", x.name, y.name, equation=equation_text)


def _conv(b: Builder, equation: Any, x: Value, kernel: Value) -> str:
    p = equation.params
    if any(n != 1 for n in p["lhs_dilation"]) or p["batch_group_count"] != 1:
        raise UserError(
            "--format=onnx cannot write a convolution of pixels with holes between; export it as "
            "stablehlo."
        )
    image, weights, result = p["dimension_numbers"]
    low, high = zip(*p["padding"], strict=True)
    y = b.add(
        "Conv",
        b.add("Transpose", x.name, perm=image),
        b.add("Transpose", kernel.name, perm=weights),
        pads=[*low, *high],
        strides=p["window_strides"],
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    return b.add("Transpose", y, perm=np.argsort(result).tolist())


def _max_pool(b: Builder, equation: Any, x: Value) -> str:
    p, last = equation.params, len(x.shape) - 1
    to_torch, back = [0, last, *range(1, last)], [0, *range(2, last + 1), 1]
    inside = slice(1, last)
    low, high = zip(*p["padding"][inside], strict=True)
    y = b.add(
        "MaxPool",
        b.add("Transpose", x.name, perm=to_torch),
        kernel_shape=p["window_dimensions"][inside],
        strides=p["window_strides"][inside],
        pads=[*low, *high],
    )
    return b.add("Transpose", y, perm=back)


def _sort(b: Builder, equation: Any, x: Value) -> str:
    axis = equation.params["dimension"]
    values = f"{b.add('Identity', x.name)}_sorted"
    count = b.length(x.shape[axis])
    node = b.add("TopK", x.name, count, axis=axis, largest=0, sorted=1)
    b.nodes[-1].output[:] = [values, node]
    return values


RULES: dict[str, Rule] = {
    **dict.fromkeys(REDUCTIONS, _reduce),
    "argmax": _argmax,
    "iota": _iota,
    "dim_as_value": _dim_as_value,
    "slice": _slice,
    "rev": _reverse,
    "pad": _pad,
    "gather": _gather,
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "reduce_window_max": _max_pool,
    "sort": _sort,
    "reshape": lambda b, e, x: b.reshape(x.name, e.params["new_sizes"]),
    "squeeze": lambda b, e, x: b.add("Squeeze", x.name, b.constant(list(e.params["dimensions"]))),
    "transpose": lambda b, e, x: b.add("Transpose", x.name, perm=e.params["permutation"]),
    "concatenate": lambda b, e, *x: b.add(
        "Concat", *(each.name for each in x), axis=e.params["dimension"]
    ),
    "stack": lambda b, e, *x: b.add(
        "Concat",
        *(b.add("Unsqueeze", each.name, b.constant([e.params["axis"]])) for each in x),
        axis=e.params["axis"],
    ),
}
"""By primitive: of operands that have their whole shape."""
