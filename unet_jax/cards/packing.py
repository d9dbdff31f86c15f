"""Arrays and names as text, small enough for a card.

An array is {"shape": [...], "type": NAME, "data": TEXT}: its numbers, of that NumPy type, with the
least significant byte first, in the order of C, compressed by zlib, as base64. Names are a list as
JSON, compressed by zlib, as base64.
"""

import base64
import binascii
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_jax.process import records

SHAPE = {"shape": [records.Count], "type": str, "data": str}
"""Of a packed array; see `records.Shape`."""
_TYPES = ("uint8", "uint16", "uint32", "int64", "float64")
_MOST = 2**30  # bytes


def pack(array: np.ndarray) -> dict[str, Any]:
    """Packs numbers.

    Args:
        array: Integers or floating-point numbers.

    Returns:
        What JSON can hold, in the smallest type that holds all of them exactly.
    """
    kind = "float64"
    if array.dtype.kind in "iub":
        ends = (int(array.min()), int(array.max())) if array.size else (0, 0)
        limits = ((name, np.iinfo(name)) for name in _TYPES[:-1])
        kind = next(n for n, i in limits if i.min <= ends[0] and ends[1] <= i.max)
    data = array.astype(np.dtype(kind).newbyteorder("<")).tobytes()
    return {"shape": list(array.shape), "type": kind, "data": _squeeze(data)}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """Unpacks what `pack` packed.

    Args:
        packed: Of `SHAPE`.

    Returns:
        int64 or float64 of its shape.

    Raises:
        ValueError: It is something else; the message says what.
    """
    kind, shape = packed["type"], tuple(packed["shape"])
    if kind not in _TYPES:
        raise ValueError(f"numbers of type {kind!r}; known are {', '.join(_TYPES)}")
    size = math.prod(shape) * np.dtype(kind).itemsize
    if size > _MOST:
        raise ValueError(f"{size} bytes of numbers; at most {_MOST} are read")
    data = _unsqueeze(packed["data"], size, "numbers")
    if len(data) != size:
        raise ValueError(f"numbers that are not those of the shape {shape}")
    numbers = np.frombuffer(data, np.dtype(kind).newbyteorder("<")).reshape(shape)
    return numbers.astype(np.float64 if kind == "float64" else np.int64)


def pack_names(names: Sequence[str]) -> str:
    """Packs texts, such as the names of images."""
    return _squeeze(json.dumps(list(names)).encode())


def unpack_names(text: str) -> tuple[str, ...]:
    """Unpacks what `pack_names` packed.

    Args:
        text: Of names.

    Returns:
        The names.

    Raises:
        ValueError: It is something else; the message says what.
    """
    data = _unsqueeze(text, _MOST, "names")
    try:
        names = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("names that are no JSON") from None
    if problem := records.mismatch(names, [str]):
        raise ValueError(f"names of which {problem}")
    return tuple(names)


def _squeeze(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _unsqueeze(text: str, most: int, what: str) -> bytes:
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(base64.b64decode(text, validate=True), most + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"{what} that cannot be unpacked ({error})") from None
    if not stream.eof or len(data) > most:
        raise ValueError(f"{what} that do not end where they should")
    return data
