"""Files of weights that anybody may have written: right, or one line in no time."""

import io
import json
import os
import random
import struct
import time
import zipfile
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib import format as npy
from safetensors.numpy import save

from unet_jax.errors import UserError
from unet_jax.models.pretrained.weight_files import read_weights

VALUES = {
    "a.b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.ones(2, np.float16),
    "count": np.array(3),
    "wide": np.ones((1, 2), jnp.bfloat16),
}


@contextmanager
def refused(file, *says):
    """Checks that reading ends soon and in one line that names the file and says so."""
    began = time.perf_counter()
    with pytest.raises(UserError) as caught:
        yield
    said = str(caught.value)
    assert time.perf_counter() - began < 2
    assert said.startswith(f"{file} ")
    assert not [text for text in says if text not in said], said
    assert len(said) < 1000
    assert "\n" not in said


def safetensors(folder, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = folder / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return file


def entry(dtype, shape, size):
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        *((f"F8_{kind}", 8) for kind in ("E4M3", "E5M2", "E8M0", "E4M3FNUZ", "E5M2FNUZ")),
        ("F6_E2M3", 6),
        ("F6_E3M2", 6),
        ("F4", 4),
        ("F128", 128),
        ("new", 8),
    ],
)
def test_types_that_numpy_lacks_are_refused_with_the_name(tmp_path, kind, size):
    file = safetensors(tmp_path, {"a.b": entry(kind, [8], size)}, bytes(size))
    with refused(file, f"a.b is of type {kind}, which NumPy lacks"):
        read_weights(file)


HEADERS = {
    "brackets": (b"[" * 100_000, "nested too deep"),
    "braces": (b'{"a":' * 100_000, "nested too deep"),
    # Nested too deep, or no table of tensors: versions of Python differ in how deep they read.
    "closed brackets": (b"[" * 5000 + b"]" * 5000, "cannot be read as weights: its header is n"),
    "a list": (b"[1]", "no table of tensors"),
    "no JSON": (b"{", "cannot be read as weights: "),
    "not UTF-8": (b'{"\xff": 1}', "cannot be read as weights: "),
    "null": ({"a.b": None}, "a.b has no dtype, shape and data_offsets"),
    "no shape": ({"a.b": {"dtype": "F32"}}, "a.b has no dtype, shape and data_offsets"),
    "text for a shape": ({"a.b": entry("F32", "12", 4)}, "a.b has a shape or place that is none"),
    "negative": ({"a.b": entry("F32", [-1], -4)}, "a.b has a shape or place that is none"),
    "fraction": ({"a.b": entry("F32", [1.0], 4)}, "a.b has a shape or place that is none"),
    "many axes": ({"a.b": entry("F32", [1] * 10**6, 4)}, "a.b has a shape or place that is none"),
    "1e12": ({"a.b": entry("F32", [10**12], 4 * 10**12)}, "a.b of F32 and shape (1000000000000,)"),
    "1e12 lies": ({"a.b": entry("F32", [10**12], 4)}, "needs 4000000000000 bytes, and the file"),
    "1e36": ({"a.b": entry("F32", [10**18] * 2, 4)}, "a.b of F32 and shape"),
    "outside": ({"a.b": {**entry("F32", [1], 4), "data_offsets": [90, 94]}}, "file has 0 for it"),
    "overlap": ({"a": entry("U8", [4], 4), "b": entry("U8", [4], 4)}, "cannot be read"),
    "long name": ({"n" * 10**6: None}, "nnn... has no dtype"),
    "lines": ({"a\n\nb": None}, "a b has no dtype"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_safetensors_that_are_wrong(tmp_path, case):
    header, says = HEADERS[case]
    file = safetensors(tmp_path, header, bytes(4))
    with refused(file, says):
        read_weights(file)


def test_safetensors_larger_than_memory(tmp_path):
    file = safetensors(tmp_path, {"a.b": entry("U8", [2**46], 2**46)})
    try:
        os.truncate(file, file.stat().st_size + 2**46)  # a hole
    except OSError:
        file = safetensors(tmp_path, {"a.b": entry("U8", [2**42], 2**42)})
        os.truncate(file, file.stat().st_size + 2**42)
    with refused(file, "a.b has ", "the machine's memory"):
        read_weights(file)


def test_a_length_of_the_header_that_is_none(tmp_path):
    file = tmp_path / "a.safetensors"
    for data in (b"", b"abc", b"\xff" * 8, struct.pack("<Q", 10**9) + bytes(100)):
        file.write_bytes(data)
        with refused(file, "cannot be read as weights"):
            read_weights(file)


def array_file(header, data=b"", version=(1, 0)):
    """An .npy file whose header is any text."""
    text = header if isinstance(header, bytes) else header.encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return npy.magic(*version) + size + text + data


def described(descr="'<f4'", shape="(1,)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


GOOD = array_file(described(), bytes(4))
HUGE = "(4294967296, 4294967296)"  # bytes that no 64 bits count
MEMBERS = {
    "no npy": ({"a.txt": b"text"}, "a.txt is no .npy file"),
    "a folder": ({"a/": b""}, "a/ is no .npy file"),
    "no suffix": ({"a": GOOD}, "a is no .npy file"),
    "empty": ({"a.npy": b""}, "a: "),
    "text": ({"a.npy": b"text, and more text"}, "a: "),
    "1e12": ({"a.npy": array_file(described(shape="(10**12,)"))}, "a: "),
    "a terabyte": ({"a.npy": array_file(described(shape="(1000000000000,)"))}, "needs 40000"),
    "more": (
        {"a.npy": array_file(described(shape="(2,)"), bytes(4))},
        "needs 8 bytes, and",
    ),
    "overflow": (
        {"a.npy": array_file(described(shape=HUGE))},
        "a.npy of <",
    ),
    "negative": ({"a.npy": array_file(described(shape="(-1,)"), bytes(4))}, "its shape is (-1,)"),
    "text for a shape": ({"a.npy": array_file(described(shape="'ab'"), bytes(4))}, "a: "),
    "brackets": ({"a.npy": array_file("[" * 9000)}, "a: "),
    "long header": ({"a.npy": array_file("[" * 60_000)}, "a: "),
    "endless header": ({"a.npy": array_file("[" * 10**6, version=(2, 0))}, "a: "),
    "minus": ({"a.npy": array_file(described("-" * 9000 + "1"))}, "a: "),
    "null byte": ({"a.npy": array_file("\0" * 100)}, "a: "),
    "unclosed": ({"a.npy": array_file("{'descr': '''")}, "a: "),
    "objects": ({"a.npy": array_file(described("'|O'"), bytes(8))}, "a.npy holds Python objects"),
    "in fields": ({"a.npy": array_file(described("[('x', '|O')]"), bytes(8))}, "Python objects"),
    "no type": ({"a.npy": array_file(described("'<f3'"), bytes(8))}, "a: "),
    "version": ({"a.npy": b"\x93NUMPY\x09\x00" + GOOD[8:]}, "a: "),
    "long name": ({"n" * 60_000: GOOD}, "nnn... is no .npy file"),
}


def pack(folder, members, compression=zipfile.ZIP_STORED):
    file = folder / "a.npz"
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


@pytest.mark.parametrize("case", MEMBERS)
def test_members_of_npz_that_are_wrong(tmp_path, case):
    members, says = MEMBERS[case]
    file = pack(tmp_path, {"good.npy": GOOD} | members)
    with refused(file, "cannot be read as weights: ", says):
        read_weights(file)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name(tmp_path):
    file = pack(tmp_path, {"a.npy": GOOD})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("a.npy", GOOD)
    with refused(file, "a is in it twice"):
        read_weights(file)


@pytest.mark.parametrize("bit", [1, 64])  # encrypted, and encrypted strongly
def test_encrypted_members(tmp_path, bit):
    data = bytearray(pack(tmp_path, {"a.npy": GOOD}).read_bytes())
    for place in (6, data.rindex(b"PK\1\2") + 8):  # its flags, in both places
        data[place] |= bit
    file = tmp_path / "a.npz"
    file.write_bytes(data)
    with refused(file, "a: "):
        read_weights(file)


def test_a_member_compressed_in_an_unknown_way(tmp_path):
    data = bytearray(pack(tmp_path, {"a.npy": GOOD}).read_bytes())
    for place in (8, data.rindex(b"PK\1\2") + 10):
        data[place] = 93
    file = tmp_path / "a.npz"
    file.write_bytes(data)
    with refused(file, "a: "):
        read_weights(file)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    file = pack(tmp_path, {"a.npy": array_file(described(shape="(25000000,)"), bytes(10**8))}, 8)
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist() * 20
    assert sum(one.file_size for one in entries) > 2**30
    # The same bytes under many names, as in bombs whose members overlap.
    start, end = data.rindex(b"PK\1\2"), data.rindex(b"PK\5\6")
    central = b"".join(
        bytes(data[start:end]).replace(b"a.npy", bytes([ord("a") + i]) + b".npy") for i in range(20)
    )
    tail = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 20, 20, len(central), start, 0)
    file.write_bytes(bytes(data[:start]) + central + tail)
    with refused(file, f"has {file.stat().st_size} bytes and unpacks to 2000"):
        read_weights(file)


def test_odd_members_that_are_right(tmp_path):
    fields = np.zeros(2, [("x", np.float32)])
    saved = {"a/b": np.ones(2), "/c": np.ones(3), "../d": np.array(4.0), "e": np.zeros((0, 10**12))}
    file = tmp_path / "a.npz"
    np.savez(file, **saved, fields=fields)
    found = read_weights(file)
    assert {name: value.shape for name, value in found.items()} == {
        "a/b": (2,), "/c": (3,), "../d": (), "e": (0, 10**12), "fields": (2,)
    }  # fmt: skip
    assert found["fields"].dtype == fields.dtype
    np.savez_compressed(file, a=np.asfortranarray(VALUES["a.b"]), b=np.zeros(10**6))
    np.testing.assert_array_equal(read_weights(file)["a"], VALUES["a.b"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_weights_that_are_no_regular_file(tmp_path, suffix):
    for name, make in (("directory", os.mkdir), ("FIFO", os.mkfifo)):
        file = tmp_path / f"{name}{suffix}"
        make(file)
        with refused(file, f"is no file but a {name}"):
            read_weights(file)


def valid(suffix):
    if suffix == ".safetensors":
        return save(VALUES)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in VALUES.items() if name != "wide"})
    return buffer.getvalue()


def mutated(data, dice):
    """Returns a file's bytes with a few changes, most of them in its headers."""
    data = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 8])):
        place = dice.randrange(min(len(data), dice.choice([16, 400, 10**6])))
        change = dice.randrange(6)
        if change == 0:
            data[place] ^= 1 << dice.randrange(8)
        elif change == 1:
            data[place] = dice.choice(b"\0\xff0919[]{}\"'-,:")
        elif change == 2:
            data[place:place] = dice.choice([b"[" * 3000, b"9" * 30, b'"', b"\0" * 9])
        elif change == 3:
            del data[place : place + dice.choice([1, 8, 10**6])]
        elif change == 4:
            old, new = dice.choice([(b"F32", b"F64"), (b"<f4", b"|O8"), (b"(2, 3)", b"(9**9)")])
            data = data.replace(old, new)
        else:
            data = data.replace(dice.choice([b"2", b"3", b"24"]), dice.choice([b"9", b"-1", b"0"]))
        data = data or bytearray(1)
    return bytes(data)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_mutated_files_are_right_or_one_line(tmp_path, suffix):
    dice, data, file = random.Random(7), valid(suffix), tmp_path / f"a{suffix}"
    counts = {"read": 0, "refused": 0}
    began = time.perf_counter()
    for _ in range(300):
        file.write_bytes(mutated(data, dice))
        try:
            found = read_weights(file)
        except UserError as error:
            said = str(error)
            assert said.startswith(f"{file} cannot be read as weights: ")
            assert "\n" not in said
            counts["refused"] += 1
            continue
        assert all(type(value) is np.ndarray for value in found.values())
        counts["read"] += 1
    assert min(counts.values()) >= 10, counts
    assert time.perf_counter() - began < 20
