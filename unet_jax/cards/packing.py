"""Arrays as text, small enough for a card.

An array is {"shape": [...], "type": NAME, "data": TEXT}: its numbers, of that NumPy type, with the
least significant byte first, in the order of C, compressed by zlib, as base64.
"""

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
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
    text = base64.b64encode(zlib.compress(data, 9)).decode("ascii")
    return {"shape": list(array.shape), "type": kind, "data": text}


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
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(base64.b64decode(packed["data"], validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"numbers that cannot be unpacked ({error})") from None
    if len(data) != size or not stream.eof:
        raise ValueError(f"numbers that are not those of the shape {shape}")
    numbers = np.frombuffer(data, np.dtype(kind).newbyteorder("<")).reshape(shape)
    return numbers.astype(np.float64 if kind == "float64" else np.int64)
