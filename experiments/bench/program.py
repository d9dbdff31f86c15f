"""Reads a compiled program's HLO text: kind of work, FLOPs and bytes of every operation."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

COPIES, OTHER = "copies", "other"
_KERNEL = re.compile(r'custom_call_target="unet_jax_\w*_(convolution|filter_gradient)"')
MIXED = " + "  # between the kinds of a fusion that does several

# The first rule that a part of an operation's scope matches holds; the scopes are those that flax
# gives modules and their methods, and `jax.named_scope`s.
_SCOPES = (
    (r"augment", "augmentation"),
    (r"optimizer", "optimiser"),
    (r"loss", "loss"),
    (r"filter_gradient", "convolution, filter gradient"),
    (r"data_gradient", "convolution, data gradient"),
    (r"(Conv_\d+|head(_\d+)?|stem)", "convolution, forward"),
    (r"(Batch|Group)Norm_\d+", "normalisation"),
    (r"activation", "activation"),
    (r"pool", "pooling"),
    (r"up_\w+", "way up"),
    (r"concatenate|split|add_any", "concatenation"),  # forward, backward, and the sum of both ways
)
_BACKWARD = {"convolution, forward": "convolution, other gradients"}
_FREE = {"parameter", "constant", "broadcast", "bitcast", "reshape", "iota", "tuple"} | {
    "get-tuple-element"
}
_MOVES = {"copy", "transpose", "copy-start", "copy-done"}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2}
_BYTES |= {"s64": 8, "u64": 8, "f64": 8}


class Operation(NamedTuple):
    """An operation that the program runs as a whole, such as a fusion.

    Attributes:
        kind: Of its work; several joined by `MIXED` where one fusion does them in one pass.
        flops: Of its convolutions and matrix products as they are defined, with those of the
            padding; a multiplication and an addition are two.
        bytes: Of its inputs and results.
    """

    kind: str
    flops: float
    bytes: float


class _Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    rest: str  # operands and attributes

    def scope(self) -> str:
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found.group(1) if found else ""

    def calls(self) -> str | None:
        found = re.search(r"calls=%?([\w.\-]+)", self.rest)
        return found.group(1) if found else None

    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])


def kind_of(scope: str, opcode: str = "") -> str:
    """Names the kind of work of one instruction.

    Args:
        scope: Its op_name, such as "jit(train_step)/jvp(UNet)/decoder_0/Conv_0/add"; "" where the
            compiler made it.
        opcode: Of HLO, such as "add".

    Returns:
        The kind.
    """
    if opcode in _MOVES:
        return COPIES
    parts = re.split(r"[/()]+", re.sub(r"jit\(\w+\)", "", scope))  # functions are no scopes
    for pattern, kind in _SCOPES:
        if any(re.fullmatch(pattern, part) for part in parts):
            return _BACKWARD.get(kind, kind) if "transpose(jvp" in scope else kind
    return OTHER


def operations(text: str) -> dict[str, Operation]:
    """Finds all operations of a program.

    Args:
        text: HLO of the compiled program, as `jax.stages.Compiled.as_text` gives it.

    Returns:
        Operations by name, also of the computations inside of loops and of fusions.
    """
    computations = _parse(text)
    shapes = {i.name: i.shape for body in computations.values() for i in body}
    found, readers = {}, defaultdict(list)
    for body in computations.values():
        for one in body:
            for name in one.operands():
                readers[name].append(one.name)
            inner = computations.get(one.calls() or "", [])
            parts = [one, *inner] if one.opcode != "fusion" else inner or [one]
            sizes = (_bytes(shapes.get(name, "")) for name in one.operands())
            found[one.name] = Operation(
                mixture((kind_of(i.scope(), i.opcode), _weight(i)) for i in parts),
                sum(_flops(i, shapes) for i in parts),
                _bytes(one.shape) + sum(sizes),
            )
    # What the compiler made without a scope is of the kind of what reads it.
    for name in [name for name, operation in found.items() if operation.kind == OTHER]:
        kinds = (found[reader].kind for reader in readers[name])
        found[name] = found[name]._replace(kind=next((k for k in kinds if k != OTHER), OTHER))
    return found


def mixture(parts: Iterable[tuple[str, float]]) -> str:
    """Names the kinds that an operation does, without those below a tenth of its work.

    Args:
        parts: (kind, elements that it computes) of its instructions.

    Returns:
        Kinds, in order of the alphabet, joined by `MIXED`.
    """
    weights: dict[str, float] = defaultdict(float)
    for kind, weight in parts:
        weights[kind] += weight
    known = {kind: weight for kind, weight in weights.items() if kind != OTHER} or weights
    total = sum(known.values())
    return MIXED.join(sorted(kind for kind, weight in known.items() if weight >= total / 10))


def _parse(text: str) -> dict[str, list[_Instruction]]:
    computations: dict[str, list[_Instruction]] = {}
    body: list[_Instruction] = []
    for line in text.splitlines():
        if begins := _COMPUTATION.match(line):
            body = computations.setdefault(begins.group(1), [])
        elif instruction := _INSTRUCTION.match(line):
            body.append(_Instruction(*instruction.groups()))
    return computations


def _weight(instruction: _Instruction) -> float:
    return 0.0 if instruction.opcode in _FREE else _elements(instruction.shape)


def _arrays(shape: str) -> list[tuple[str, list[int]]]:
    return [(t, [int(n) for n in dims.split(",") if n]) for t, dims in _ARRAY.findall(shape)]


def _elements(shape: str) -> float:
    return float(sum(math.prod(dims) for _, dims in _arrays(shape)))


def _bytes(shape: str) -> float:
    return float(sum(_BYTES.get(t, 4) * math.prod(dims) for t, dims in _arrays(shape)))


def _flops(instruction: _Instruction, shapes: dict[str, str]) -> float:
    """Counts two for every product that a convolution or a matrix product adds up."""
    own = _KERNEL.search(instruction.rest)
    if instruction.opcode not in ("convolution", "dot") and not own:
        return 0.0
    first, second = (_arrays(shapes[name])[0][1] for name in instruction.operands()[:2])
    if own and own.group(1) == "filter_gradient":
        over = math.prod(first[:-1])  # all pixels
    elif own:
        over = math.prod(second[:-1])  # taps and channels
    elif instruction.opcode == "dot":
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
        over = math.prod(first[int(n)] for n in found.group(1).split(",") if n) if found else 1
    else:
        labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.rest)
        over = math.prod(second) / second[labels.group(1).index("o")] if labels else 0
    return 2.0 * _elements(instruction.shape) * over
