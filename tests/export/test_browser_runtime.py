"""Where onnxruntime-web comes from: a folder, the cache, or npm; and never a byte of it changed."""

import hashlib
import io
import tarfile

import pytest

from unet_jax.errors import UserError
from unet_jax.export import runtime

DATA = {name: name.encode() * 3 for name in runtime.FILES}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Makes small files stand for the real ones, and an npm that copies an archive of them."""
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in DATA.items()}
    monkeypatch.setattr(runtime, "FILES", sums)
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    return tmp_path / "cache" / f"onnxruntime-web-{runtime.VERSION}"


def make_npm(tmp_path, text):
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{text}\n")
    npm.chmod(0o755)


def pack(tmp_path, data):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name, content in data.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    # npm pack NAME@VERSION --silent --pack-destination FOLDER
    make_npm(tmp_path, f'[ "$1 $4" = "pack --pack-destination" ] && cp {tmp_path}/a.tgz "$5/b.tgz"')


@pytest.mark.parametrize("inner", ["dist", ""])
def test_a_folder_is_read_as_it_is_and_kept(cache, tmp_path, inner):
    folder = tmp_path / "package"
    (folder / inner).mkdir(parents=True)
    for name, data in DATA.items():
        (folder / inner / name).write_bytes(data)
    assert runtime.read_runtime(folder) == DATA
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == DATA
    (folder / inner / "ort.wasm.min.js").write_bytes(b"another")
    with pytest.raises(UserError, match=r"package has another ort\.wasm\.min\.js than .* SHA-256"):
        runtime.read_runtime(folder)
    (folder / inner / "ort.wasm.min.js").unlink()
    with pytest.raises(UserError, match=r"has no ort\.wasm\.min\.js \(No such file"):
        runtime.read_runtime(folder)
    assert runtime.read_runtime(None) == DATA


def test_npm_fetches_once_and_again_where_the_cache_is_damaged(cache, tmp_path):
    pack(tmp_path, DATA)
    assert runtime.read_runtime(None) == DATA
    make_npm(tmp_path, "exit 1")
    assert runtime.read_runtime(None) == DATA
    (cache / "ort-wasm-simd-threaded.wasm").write_bytes(b"damaged")
    with pytest.raises(UserError, match="npm cannot fetch"):
        runtime.read_runtime(None)
    pack(tmp_path, DATA)
    assert runtime.read_runtime(None) == DATA
    assert (cache / "ort-wasm-simd-threaded.wasm").read_bytes() != b"damaged"


def test_what_npm_brings_is_checked(cache, tmp_path):
    pack(tmp_path, DATA | {"ort.wasm.min.js": b"another"})
    with pytest.raises(UserError, match=r"another ort\.wasm\.min\.js"):
        runtime.read_runtime(None)
    pack(tmp_path, {})
    with pytest.raises(UserError, match="cannot be unpacked"):
        runtime.read_runtime(None)
    assert not cache.exists()


def test_without_npm_the_line_says_what_to_give(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match=r"is not here: .*--runtime=FOLDER"):
        runtime.read_runtime(None)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    make_npm(tmp_path, "echo no network >&2; exit 1")
    with pytest.raises(UserError, match=r"\(no network\); give the folder"):
        runtime.read_runtime(None)
