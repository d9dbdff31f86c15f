"""Commands in processes that are forked where others are started: all imports are done already.

Imports are half of what a command on small data costs. A server of each process of tests imports
what commands need, asks for no device, and forks a process for each of them, which has the
arguments, folder, environment, streams and parent of a new one, and runs the module as `python -m`
does; the commands that it starts in turn are forked as well. Other than in a new process, the seed
of Python's hashes is the server's. Tests of a start and of imports start real ones.
"""

import atexit
import ctypes
import gc
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from support.paths import ROOT

MODULES = (
    "experiments.bad_values.commands",
    "experiments.report",
    "experiments.sweep",
    "unet_jax.explain",
    "unet_jax.main",
    "unet_jax.studies.pack",
    "unet_jax.studies.sweep.probe",
)
"""What is forked, beside programs of `python -c`; any other is started."""
TIED = "unet_jax.studies.engines.child"
"""A module that becomes another command."""
IMPORTED = (
    "unet_jax.doctor.run",
    "unet_jax.evaluate",
    "unet_jax.explain.draw_transpose",
    "unet_jax.explain.draw_unet",
    "unet_jax.explain.draw_windows",
    "unet_jax.plan.memory",
    "unet_jax.predict.run",
    "unet_jax.process.multihost",
    "unet_jax.report.assemble",
    "unet_jax.report.material",
    "unet_jax.report.pages",
    "unet_jax.sheet",
    "unet_jax.studies.pack.train",
    "unet_jax.studies.sweep.launcher",
    "unet_jax.training",
)
"""What commands import, except for their own modules, which define flags."""
READ_LATE = ("CXX", "NPROC", "PYTEST_CURRENT_TEST", "XLA_FLAGS")
"""Variables that no import of a command reads, beside those that begin with `LATE`."""
LATE = ("UNET_JAX_", "KMP_", "MLFLOW_", "_MLFLOW_", "RAY_", "WANDB_")
"""Packages of others set some of these in a process of tests, once a test imports them."""
_PAGES = "GLIBC_TUNABLES"  # a command starts again with it, and the server has done so
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
_LONGEST = 2**20  # bytes of a message
_ROOM = 2**13  # bytes for a command line, as `ps` shows it
_PROGRAM = "from support import forks; forks.serve({fd})"

_env: dict[str, str] = {}
_server: "Server | None" = None


def remember() -> None:
    """Takes the environment as it is for that of the server, before any test changes it."""
    _env.update(os.environ)


class Popen(subprocess.Popen):
    """Is subprocess.Popen, but forks the process where that is as good as starting it."""

    def _execute_child(self, args: Any, *given: Any) -> None:
        names = [*inspect.signature(super()._execute_child).parameters][1:]
        asked = dict(zip(names, given, strict=True))
        env = {**(os.environ if asked["env"] is None else asked["env"])}
        server = _get_server() if sys.platform == "linux" else None
        if server is None or not server.can_fork(args, env):
            super()._execute_child(args, *given)
            return
        streams = [asked[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        self.pid = server.fork(
            {
                "line": [os.fsdecode(arg) for arg in args],
                "env": env | server.own,
                "folder": str(Path(asked["cwd"] or ".").absolute()),
                "apart": asked["start_new_session"],
            },
            [number if fd == -1 else fd for number, fd in enumerate(streams)],
        )
        self._child_created = True
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(asked[name] for name in ends))


def run(line: Sequence[object], **given: Any) -> subprocess.CompletedProcess:
    """Runs a command to its end, as subprocess.run does where text is captured.

    Args:
        line: The command line.
        **given: For `Popen`.

    Returns:
        Its exit code and what it wrote.
    """
    line = [*map(str, line)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with Popen(line, **pipes | given) as process:
        texts = process.communicate()
    return subprocess.CompletedProcess(line, process.returncode, *texts)


class Server:
    """The server of this process, as this process sees it."""

    def __init__(self, channel: socket.socket, env: Mapping[str, str], own: Mapping[str, str]):
        """Takes the way to it, what its imports read, and what it sets by itself."""
        self._channel, self._env, self.own = channel, {**env}, own
        self._env.pop(_PAGES, None)
        self._lock = threading.Lock()

    def can_fork(self, args: Any, env: Mapping[str, str]) -> bool:
        """Tells whether a forked process does what a new one would."""
        if isinstance(args, str | bytes | os.PathLike):
            return False
        line = [os.fsdecode(arg) for arg in args]
        if line[1:3] == ["-m", TIED] and line[0] == sys.executable:
            line = line[4:]
        names = self._env.keys() | env.keys() - {_PAGES}
        differ = {name for name in names if self._env.get(name) != env.get(name)}
        if env.get("PYTHONPATH") == str(ROOT):  # where the package is in any case
            differ.discard("PYTHONPATH")
        is_late = [name in READ_LATE or name.startswith(LATE) for name in differ]
        is_ours = line[1:2] == ["-c"] or (line[1:2] == ["-m"] and line[2] in MODULES)
        return line[0] == sys.executable and is_ours and all(is_late)

    def fork(self, asked: Mapping[str, Any], streams: Sequence[int]) -> int:
        """Forks a process, which becomes a child of this one; returns its number."""
        prctl = ctypes.CDLL(None).prctl
        # The process between the server and the new one ends, and its child comes to here.
        with self._lock:
            prctl(_SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(self._channel, [json.dumps(asked).encode()], streams)
                pid = int(self._channel.recv(_LONGEST))
                assert self._channel.recv(_LONGEST) == b"ready"
            finally:
                prctl(_SUBREAPER, 0, 0, 0, 0)
        return pid


def _get_server() -> Server:
    global _server
    if _server is None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.pathsep.join([str(ROOT / "tests"), *filter(None, [_env.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(fd=its.fileno()), "." * _ROOM],
            cwd=ROOT,
            env=_env | {"PYTHONPATH": path},
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        its.close()
        own = json.loads(ours.recv(_LONGEST))
        _server = Server(ours, _env, own)
        atexit.register(_end, ours, process)
    return _server


def _end(channel: socket.socket, process: subprocess.Popen) -> None:
    channel.close()
    process.wait()


def serve(fd: int) -> None:
    """Is the server, until nobody asks any more; returns where a command has ended.

    Args:
        fd: Of the socket over which it is asked.
    """
    global _server
    from unet_jax.process import runtime, signals

    runtime.use_huge_pages()
    signals.unblock()
    for name in IMPORTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    channel = socket.socket(fileno=fd)
    own = {_PAGES: os.environ[_PAGES]} if _PAGES in os.environ else {}
    channel.send(json.dumps(own).encode())
    asked, channel = _wait_to_be_asked(channel)
    _server = Server(channel, asked["env"], own)
    _become(asked)


def _wait_to_be_asked(channel: socket.socket) -> tuple[dict[str, Any], socket.socket]:
    """Forks until nobody asks any more; returns in each forked process, which can ask another."""
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands
    while True:
        message, streams, *_ = socket.recv_fds(channel, _LONGEST, 3)
        if not message:
            os._exit(0)
        if between := os.fork():
            for stream in streams:
                os.close(stream)
            os.waitpid(between, 0)
            channel.send(b"ready")
            continue
        between = os.getpid()
        if pid := os.fork():
            channel.send(b"%d" % pid)
            os._exit(0)
        while os.getppid() == between:
            time.sleep(0.0005)
        channel.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            its.close()
            signal.signal(signal.SIGINT, heard)
            return json.loads(message), ours
        # This one forks what the command starts; it must not hold the command's pipes.
        ours.close()
        channel, null = its, os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)


class _Replaced(BaseException):
    """Another command takes the place of the one in this process."""


def _become(asked: Mapping[str, Any]) -> None:
    """Runs a command in this process."""
    import numpy as np

    if asked["apart"]:
        os.setsid()
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path.remove(str(ROOT / "tests"))
    if asked["env"].get("PYTHONPATH") == str(ROOT) and str(ROOT) not in sys.path:
        sys.path.insert(1, str(ROOT))
    np.random.seed()  # noqa: NPY002  of its own, as `random` has
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    subprocess.Popen = Popen
    line = asked["line"]
    if line[2] == TIED:
        line = _tie(line)
    try:
        _run(line)
        code = None
    except SystemExit as error:
        code = error.code
    if code is None or isinstance(code, int):
        _leave(code or 0)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """Ends this process as Python does, but for taking down, one by one, all that is imported."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _tie(line: Sequence[str]) -> list[str]:
    """Does what the module `TIED` does; returns the command that takes its place."""
    exec_really, os.execvp = os.execvp, _replace
    try:
        _run(line)
    except _Replaced as error:
        return error.args[0]
    finally:
        os.execvp = exec_really
    sys.exit(0)


def _replace(program: str, line: list[str]) -> NoReturn:
    raise _Replaced(line)


def _run(line: Sequence[str]) -> None:
    sys.orig_argv, sys.argv = [*line], [*line[2:]]
    _show(line)
    if line[1] == "-c":
        sys.argv[0], sys.path[0] = "-c", ""
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(line[2], sys.modules["__main__"].__dict__)
    else:
        sys.path[0] = os.getcwd()
        sys.modules.pop(line[2], None)  # imported by the server, for others
        runpy.run_module(line[2], run_name="__main__", alter_sys=True)


def _show(line: Sequence[str]) -> None:
    """Makes the kernel tell a command line as that of this process."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = (int(fields[number - 3]) for number in (48, 49))  # as proc(5) counts them
    text = b"".join(os.fsencode(word) + b"\0" for word in line)[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))
