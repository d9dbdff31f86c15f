"""An ONNX graph under construction: nodes, constants, and sizes that are known when it runs."""

import ast
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

_OPERATORS: dict[type, str] = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}


class Value(NamedTuple):
    """A tensor of the graph.

    Attributes:
        name: Of the tensor.
        shape: Of integers and symbols, as jax has it.
        dtype: As jax has it.
        is_full: Whether the tensor has this shape; else it is one that broadcasts to it, which is
            all that operations by element need.
    """

    name: str
    shape: tuple[Any, ...]
    dtype: Any
    is_full: bool = True


class Builder:
    """Collects the nodes of a graph.

    Attributes:
        sizes: Of symbols, arithmetic of other symbols, or (input, axis) of an input's shape.
    """

    def __init__(self, sizes: dict[str, Any]) -> None:
        """Begins an empty graph."""
        self.sizes = sizes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[Any, str] = {}
        self._lengths: dict[str, str] = {}
        self._count = 0

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node of one output; returns its name."""
        self._count += 1
        name = f"{operator.lower()}_{self._count}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Returns the name of a constant."""
        array = np.asarray(value, dtype)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.initializer(f"constant_{len(self._constants)}", array)
        return self._constants[key]

    def initializer(self, name: str, array: np.ndarray) -> str:
        """Adds an array that the file holds, by its name."""
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, name: str, dtype: Any) -> str:
        """Adds a cast."""
        return self.add("Cast", name, to=onnx_type(dtype))

    def length(self, size: Any) -> str:
        """Returns a size as a tensor int64 [1].

        Args:
            size: An integer, a symbol, or arithmetic of symbols, as `str` writes it.

        Returns:
            Its name.
        """
        if isinstance(size, int | np.integer):
            return self.constant([int(size)])
        text = str(size)
        if text not in self._lengths:
            tree = ast.parse(text.replace("^", "**"), mode="eval").body
            self._lengths[text] = self._arithmetic(tree)
        return self._lengths[text]

    def shape(self, sizes: Sequence[Any]) -> str:
        """Returns sizes as a tensor int64 [n]."""
        if all(isinstance(size, int) for size in sizes):
            return self.constant(list(sizes))
        return self.add("Concat", *(self.length(size) for size in sizes), axis=0)

    def reshape(self, name: str, sizes: Sequence[Any]) -> str:
        """Adds a reshape; one size that is not known follows from the others."""
        unknown = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
        if len(unknown) == 1:
            known = [-1 if i in unknown else size for i, size in enumerate(sizes)]
            return self.add("Reshape", name, self.constant(known))
        return self.add("Reshape", name, self.shape(sizes))

    def full(self, value: Value) -> str:
        """Returns the name of a tensor of the value's whole shape."""
        return value.name if value.is_full else self.expand(value.name, value.shape)

    def expand(self, name: str, sizes: Sequence[Any]) -> str:
        """Adds the repetition of a tensor that broadcasts to sizes."""
        return self.add("Expand", name, self.shape(sizes))

    def _arithmetic(self, tree: Any) -> str:
        if isinstance(tree, ast.Constant):
            return self.constant([tree.value])
        if isinstance(tree, ast.Name):
            return self._symbol(tree.id)
        if isinstance(tree, ast.UnaryOp):
            return self.add("Neg", self._part(tree.operand))
        if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Pow):
            assert isinstance(tree.right, ast.Constant)
            factors = [self._part(tree.left)] * int(tree.right.value)  # pyrefly: ignore
            product = factors[0]
            for factor in factors[1:]:
                product = self.add("Mul", product, factor)
            return product
        if isinstance(tree, ast.BinOp):
            both = self._part(tree.left), self._part(tree.right)
            return self.add(_OPERATORS[type(tree.op)], *both)
        left, right = (self._part(argument) for argument in tree.args)
        if tree.func.id in ("min", "max"):
            return self.add(tree.func.id.title(), left, right)
        rest = self.add("Mod", left, right)  # of the divisor's sign, as in Python
        if tree.func.id == "mod":
            return rest
        assert tree.func.id == "floordiv", tree.func.id
        return self.add("Div", self.add("Sub", left, rest), right)

    def _part(self, tree: Any) -> str:
        return self.length(ast.unparse(tree))

    def _symbol(self, name: str) -> str:
        known = self.sizes[name]
        if isinstance(known, str):
            return self.length(known)
        image, axis = known
        return self.add("Shape", image, start=axis, end=axis + 1)


def onnx_type(dtype: Any) -> int:
    """Returns ONNX's number of a type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
