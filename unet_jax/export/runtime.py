"""What runs ONNX models in a browser: three files of one version of onnxruntime-web, unchanged.

They are in no wheel of this package: a user gives the unpacked npm package once, or npm fetches it,
and the user's cache keeps them.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from unet_jax.errors import UserError
from unet_jax.process.console import console
from unet_jax.process.runtime import cache_dir
from unet_jax.process.whole import write_whole

VERSION = "1.30.0"
_PACKAGE = f"onnxruntime-web@{VERSION}"
FILES = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": (
        "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""SHA-256 by name: the library, the glue around its WebAssembly, and that, on CPU alone."""
_SECONDS = 600  # to fetch 33 MB


def read_runtime(folder: Path | None) -> dict[str, bytes]:
    """Reads the files, from the cache where no folder is given, and fetches them where needed.

    Args:
        folder: The unpacked npm package, or its dist folder; what is read of it is kept in the
            cache, so that later calls need none.

    Returns:
        The bytes by name, in the order of `FILES`.

    Raises:
        UserError: One is not there, is of another version, or cannot be fetched.
    """
    kept = cache_dir() / f"onnxruntime-web-{VERSION}"
    if folder is not None:
        inner = folder / "dist" if (folder / "dist").is_dir() else folder
        found = {name: _read(inner / name, f"--runtime={folder}") for name in FILES}
    else:
        try:
            return {name: _read(kept / name, str(kept)) for name in FILES}
        except UserError:  # not there yet, or damaged
            found = _fetch()
    kept.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        write_whole(kept / name, data)
    return found


def _read(file: Path, where: str) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{where} has no {file.name} ({error.strerror}); it must be the folder of the unpacked "
            f"npm package {_PACKAGE}."
        ) from None
    return _checked(file.name, data, where)


def _checked(name: str, data: bytes, where: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != FILES[name]:
        raise UserError(
            f"{where} has another {name} than {_PACKAGE}: its SHA-256 differs. Give the folder of "
            "that version, unchanged."
        )
    return data


def _fetch() -> dict[str, bytes]:
    """Fetches the package by npm, which knows the user's registry; returns the files."""
    npm = shutil.which("npm")
    cure = f"give the folder of the unpacked npm package {_PACKAGE}: --runtime=FOLDER"
    if npm is None:
        raise UserError(
            f"a page needs {_PACKAGE}, and npm, which would fetch it, is not here: {cure}."
        )
    console.print(f"fetching {_PACKAGE}, 33 MB, once")
    with tempfile.TemporaryDirectory() as place:
        line = [npm, "pack", _PACKAGE, "--silent", "--pack-destination", place]
        try:
            done = subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise UserError(f"npm did not fetch {_PACKAGE} in {_SECONDS} s; {cure}.") from None
        archives = list(Path(place).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
            raise UserError(f"npm cannot fetch {_PACKAGE} ({said[-1][:200]}); {cure}.")
        return _unpack(archives[0])


def _unpack(archive: Path) -> dict[str, bytes]:
    """Reads the files out of a package; nothing of it is written anywhere."""
    found = {}
    try:
        with tarfile.open(archive) as package:
            for name in FILES:
                stream = package.extractfile(f"package/dist/{name}")
                found[name] = _checked(name, stream.read() if stream else b"", _PACKAGE)
    except (tarfile.TarError, KeyError, OSError, EOFError) as error:
        raise UserError(f"{_PACKAGE} cannot be unpacked ({error}); fetch it again.") from None
    return found
