"""Reading the tensors of .safetensors and .npz files that anybody may have written.

What a header says is checked against the file's size before memory is taken for it.
"""

import contextlib
import json
import lzma
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open

from unet_jax.errors import UserError
from unet_jax.models.pretrained.torch_layout import shortened
from unet_jax.process.regular import irregular_kind, open_regular

SUFFIXES = (".safetensors", ".npz")
# A file that unpacks to more than this and to more than so many times its own size is no weights.
_BOMB_BYTES, _BOMB_TIMES = 2**30, 100
_LONGEST_HEADER = 100_000_000  # of a .safetensors file, which is the format's own limit
_MOST_AXES = 64  # of NumPy
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
# What the readers raise of a file that is damaged.
_BROKEN = (
    SafetensorError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # encryption, unknown compression, recursion
    MemoryError,
)


def read_weights(file: Path) -> dict[str, np.ndarray]:
    """Reads the named tensors of a file.

    Args:
        file: A .safetensors or .npz file.

    Returns:
        The tensors by name; those of another floating type, such as bfloat16, as float32. Floating
        types of 8 bits and less are refused.

    Raises:
        UserError: The file is missing, broken, or has another suffix.
    """
    if file.suffix not in SUFFIXES:
        raise UserError(
            f"{file} must end in {' or '.join(SUFFIXES)}; where PyTorch is installed, "
            "safetensors.torch.save_file(torch.load(file, weights_only=True), new_file) makes one."
        )
    if not os.path.isfile(file):
        kind = irregular_kind(file)
        what = f"is no file but a {kind}" if kind else "does not exist or is no file"
        raise UserError(f"{file} {what}; give a file of weights.")
    try:
        with _says_what_is_wrong():
            weights = _read_safetensors(file) if file.suffix == SUFFIXES[0] else _read_npz(file)
    except ValueError as error:
        raise UserError(
            f"{file} cannot be read as weights: {error}; fetch or save it again."
        ) from None
    with np.errstate(over="ignore"):  # who uses a value looks whether it is finite
        return {
            name: value.astype(np.float32) if jnp.issubdtype(value.dtype, jnp.floating) else value
            for name, value in weights.items()
        }


class _WrongError(ValueError):
    """Says what is wrong with a file, in words of our own."""


@contextlib.contextmanager
def _says_what_is_wrong(name: str = "") -> Iterator[None]:
    """Makes of all that readers raise a `_WrongError`, which begins with a tensor's name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of old headers and odd escapes
            yield
    except _WrongError:
        raise
    except _BROKEN as error:
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, RecursionError | MemoryError):
            text = "its header is nested too deep, or it is larger than the memory"
        raise _WrongError(f"{shortened(name)}: {text:.300}" if name else f"{text:.300}") from None


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    header, size = _read_header(file)
    for name, entry in header.items():
        _check_entry(name, entry, size)
    weights = {}
    with safe_open(file, framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118 (it cannot be iterated itself)
            with _says_what_is_wrong(name):
                weights[name] = tensors.get_tensor(name)
    return weights


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """Returns what the header says of each tensor, and the bytes of all values."""
    with open_regular(file) as stream:
        there = os.fstat(stream.fileno()).st_size - 8
        length = int.from_bytes(stream.read(8), "little")
        if length > min(there, _LONGEST_HEADER):
            raise _WrongError(f"its header would have {length} bytes, and it has {max(0, there)}")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise _WrongError("its header is no table of tensors")
    header.pop("__metadata__", None)
    return header, there - length


def _check_entry(name: str, entry: Any, size: int) -> None:
    short = shortened(name)
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise _WrongError(f"{short} has no dtype, shape and data_offsets in the header")
    kind, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in _BITS:
        raise _WrongError(f"{short} is of type {kind!s:.40}, which NumPy lacks")
    numbers = [*shape, *place]
    if (
        len(place) != 2
        or len(shape) > _MOST_AXES
        or not all(type(n) is int and 0 <= n < 2**63 for n in numbers)
    ):
        raise _WrongError(f"{short} has a shape or place that is none")
    needed, given = math.prod(shape) * _BITS[kind] // 8, place[1] - place[0]
    if needed != given or place[1] > size:
        raise _WrongError(
            f"{short} of {kind} and shape {_write_shape(shape)} needs {needed} bytes, and the file "
            f"has {max(0, min(given, size - place[0]))} for it"
        )
    _check_memory(short, needed)


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    weights = {}
    with open_regular(file) as stream:
        if not zipfile.is_zipfile(stream):
            raise _WrongError("it is no zip archive")
        size = os.fstat(stream.fileno()).st_size
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > max(_BOMB_BYTES, _BOMB_TIMES * size):
                raise _WrongError(f"it has {size} bytes and unpacks to {unpacked}")
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in weights:
                    raise _WrongError(f"{shortened(name)} is in it twice")
                with _says_what_is_wrong(name):
                    weights[name] = _read_member(archive, member)
    return weights


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    name = shortened(member.filename)
    if member.is_dir() or not member.filename.endswith(".npy"):
        raise _WrongError(f"{name} is no .npy file")
    with archive.open(member) as stream:
        shape, dtype, start = _read_npy_header(stream)
    if dtype.hasobject:
        raise _WrongError(f"{name} holds Python objects, which are not loaded")
    needed = math.prod(shape) * dtype.itemsize
    if needed > member.file_size - start:
        raise _WrongError(
            f"{name} of {dtype.str} and shape {_write_shape(shape)} needs {needed} bytes, and the "
            f"file has {member.file_size - start} for it"
        )
    _check_memory(name, needed)
    with archive.open(member) as stream:
        array = npy.read_array(stream, allow_pickle=False)
        while stream.read(2**20):  # to the end, where the checksum is compared
            pass
    return array


def _read_npy_header(stream: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Returns shape and type of an array, and where its values begin."""
    version = npy.read_magic(stream)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"it is of version {version} of the format, which is not read")
    shape, _, dtype = readers[version](stream)
    if any(n < 0 for n in shape):
        raise ValueError(f"its shape is {_write_shape(shape)}")
    return shape, dtype, stream.tell()


def _check_memory(name: str, needed: int) -> None:
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise _WrongError(f"{name} has {needed} bytes, and the machine's memory {there}")


def _write_shape(shape: Any) -> str:
    text = str(tuple(shape))
    return text if len(text) < 80 else f"{text[:80]}..."
