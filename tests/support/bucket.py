"""An object store in memory that can fail, in place of the one behind gs://."""

import collections
from typing import ClassVar

import pytest
from etils.epath import backend, gpath
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry, known_implementations


class Bucket(MemoryFileSystem):
    """Holds gs://... in memory; `failures` says how often asking for a path fails first."""

    protocol = "gcs"
    cachable = False
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    failures: ClassVar[collections.Counter] = collections.Counter()
    asked: ClassVar[collections.Counter] = collections.Counter()
    times: ClassVar[dict] = {}
    error: ClassVar[Exception] = OSError("reset\nby peer.")

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("gs://"))

    def ask(self, what, path):
        key = f"{what} {self._strip_protocol(path)[1:]}"
        self.asked[key] += 1
        if self.failures[key]:
            self.failures[key] -= 1
            raise self.error

    def info(self, path, **kwargs):
        self.ask("info", path)
        path = self._strip_protocol(path)
        return super().info(path, **kwargs) | {"mtime": self.times.get(path[1:])}

    def ls(self, path, detail=True, **kwargs):
        self.ask("ls", path)
        found = super().ls(path, detail=True, **kwargs)
        # As real stores do where someone made an empty "folder".
        found = [{"name": f"{self._strip_protocol(path)}/", "size": 0, "type": "file"}, *found]
        return found if detail else [info["name"] for info in found]

    def _open(self, path, mode="rb", **kwargs):
        self.ask("open", path)
        return super()._open(path, mode, **kwargs)

    def put_bytes(self, path, data):
        with super()._open(f"/{path}", "wb") as file:
            file.write(data)


def make_bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Makes gs:// an empty bucket, until the test ends."""
    for name in ("store", "times"):
        monkeypatch.setattr(Bucket, name, {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    for name in ("failures", "asked"):
        monkeypatch.setattr(Bucket, name, collections.Counter())
    use(monkeypatch, Bucket)
    return Bucket()


def use(monkeypatch: pytest.MonkeyPatch, system: type | None) -> None:
    """Makes gs:// that file system, or one whose package is not installed."""
    missing = {"class": "no_such_package.System", "err": "Please install no_such_package"}
    for protocol in ("gs", "gcs"):
        monkeypatch.setitem(known_implementations, protocol, missing)
        monkeypatch.delitem(_registry, protocol, raising=False)
        if system:
            monkeypatch.setitem(_registry, protocol, system)
    monkeypatch.setattr(backend, "fsspec_backend", backend._FileSystemSpecBackend())
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", backend.fsspec_backend)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
