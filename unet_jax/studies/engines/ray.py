"""Runs jobs as tasks of a Ray cluster."""

import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet_jax.errors import UserError
from unet_jax.process.signals import handling
from unet_jax.studies.engines import child
from unet_jax.studies.engines.base import Job, Status

GRACE_S = 120.0  # for saving
MAX_RETRIES = 100  # of a task that was lost with its worker or its node
_PASSED_ON = ("JAX_", "XLA_", "UNET_JAX_")


class Ray:
    """An engine that starts a Ray task per job.

    Ray starts a task that is lost with its worker or its node elsewhere; a command that ends with
    an error is not started again. When this process ends, Ray ends its tasks, so nothing has to be
    remembered: the next sweep starts the jobs again, and they resume.
    """

    def __init__(
        self, folder: Path, options: str = "", address: str = "", max_parallel: int = 0
    ) -> None:
        """Connects to a cluster.

        Args:
            folder: DIR/engine, on a disk that all nodes share.
            options: What each job takes, such as "num_gpus=1" or "num_cpus=4,tpu_host=1"; "" for a
                GPU where the cluster has some, and a processor otherwise.
            address: HOST:PORT of the cluster, or "auto"; "" for that of $RAY_ADDRESS, and else for
                a new one of this machine alone, which listens on 127.0.0.1.
            max_parallel: Tasks at a time; 0 for as many as the cluster has room for.

        Raises:
            UserError: Ray is not installed, the cluster does not answer, or the options are wrong.
        """
        self._folder = folder.resolve() / "ray"
        self._ray = _connect(address or os.environ.get("RAY_ADDRESS") or "local")
        gpus = self._ray.cluster_resources().get("GPU", 0)
        self._takes = parse_options(options or ("num_gpus=1" if gpus else "num_cpus=1"))
        self._task = self._ray.remote(max_retries=MAX_RETRIES, **self._takes)(_run)
        self._most = max_parallel or float("inf")
        self._waiting: dict[str, Job] = {}
        self._tasks: dict[str, Any] = {}
        self._logs: dict[str, Path] = {}
        self._ended: dict[str, Status] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Starts a task per job that has none; see `base.Engine`."""
        self._check_room()
        found = self.watch()
        for job in jobs:
            if found.get(job.name) not in ("waiting", "running"):
                self._ended.pop(job.name, None)
                self._waiting[job.name] = job
        self._fill()

    def watch(self) -> Mapping[str, Status]:
        """See `base.Engine`; jobs above the limit start in here, where another has ended."""
        names = {task: name for name, task in self._tasks.items()}
        for task in self._wait(0.0):
            name = names[task]
            self._ended[name] = self._result(name, self._tasks.pop(name))
        self._fill()
        nodes = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        found: dict[str, Status] = {**self._ended}
        for name in self._waiting:
            found[name] = "waiting"
        for name in self._tasks:
            mark = self._mark(name)
            is_there = mark.exists() and mark.read_text() in nodes
            found[name] = "running" if is_there else "waiting"
        return found

    def cancel(self, names: Sequence[str] | None = None) -> None:
        """Asks jobs to save and end, and waits for them; see `base.Engine`."""
        for name in [name for name in self._waiting if names is None or name in names]:
            del self._waiting[name]
            self._ended[name] = "failed"
        asked = [name for name in self._tasks if names is None or name in names]
        for name in asked:
            self._ray.cancel(self._tasks[name], force=False)
        self._wait(GRACE_S, asked)
        for name in asked:
            if self.watch()[name] in ("waiting", "running"):
                self._ray.cancel(self._tasks[name], force=True)
        self._wait(GRACE_S, asked)

    def _fill(self) -> None:
        """Starts jobs in their order, up to the limit."""
        env = {key: value for key, value in os.environ.items() if key.startswith(_PASSED_ON)}
        while self._waiting and len(self._tasks) < self._most:
            name = next(iter(self._waiting))
            job = self._waiting.pop(name)
            self._logs[name] = job.log.resolve()
            mark = self._mark(name)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.unlink(missing_ok=True)
            args = (job.command, self._logs[name], mark, env, Path.cwd())
            self._tasks[name] = self._task.options(name=name).remote(*args)

    def _mark(self, name: str) -> Path:
        """Returns the file in which a job's task notes its node."""
        return self._folder / f"{name}.node"

    def _wait(self, seconds: float, names: Sequence[str] | None = None) -> list[Any]:
        """Returns the tasks that have ended, when all have or the time is over."""
        tasks = [task for name, task in self._tasks.items() if names is None or name in names]
        if not tasks:
            return []
        return self._ray.wait(tasks, num_returns=len(tasks), timeout=seconds)[0]

    def _result(self, name: str, task: Any) -> Status:
        try:
            return "failed" if self._ray.get(task) else "done"
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error  # of what the task itself raised
            log = self._logs[name]
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                file.write(f"Ray: {type(cause).__name__}: {' '.join(str(cause).split())[:500]}\n")
            return "failed"

    def _check_room(self) -> None:
        wanted = {"CPU": self._takes["num_cpus"], "GPU": self._takes["num_gpus"]}
        wanted |= self._takes["resources"]
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        for node in nodes:
            if all(node.get(key, 0) >= value for key, value in wanted.items()):
                return
        print(f"Ray: no node has {wanted} as yet; the jobs wait for one.", file=sys.stderr)


def parse_options(text: str) -> dict[str, Any]:
    """Reads what each job takes.

    Args:
        text: Such as "num_gpus=1" or "num_cpus=4,tpu_host=1".

    Returns:
        Arguments of `ray.remote`.

    Raises:
        UserError: It cannot be read.
    """
    found = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = -1.0
        if not name or found[name] < 0:
            raise UserError(
                f"{part.strip()!r} in the options of the Ray engine is not NAME=NUMBER; write what "
                "each job takes, such as num_gpus=1 or num_cpus=4,tpu_host=1."
            )
    taken = {name: found.pop(name, 0.0) for name in ("num_cpus", "num_gpus")}
    return {**taken, "resources": found}


def _connect(address: str) -> Any:
    # Ray reads these when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        # Its way to listen on 127.0.0.1 alone, on Linux too: it takes that address as an argument
        # for the machine's own and listens on all.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:  # times that it asks for the cluster, of 45 s each; it would take 20
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        import ray
    except ImportError:
        raise UserError(
            "Ray is not installed: pip install 'unet-jax[ray]', or use another engine."
        ) from None
    if ray.is_initialized():
        return ray
    with _same_signals():
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING)
        except Exception as error:  # Ray raises many kinds, and Exception itself
            reason = " ".join(str(error).split())[:200]
            if address == "local":
                raise UserError(f"Ray does not start on this machine: {reason}") from None
            raise UserError(
                f"no Ray cluster answers at {address!r} ({reason}); start one with "
                "`ray start --head`, or give no address for one of this machine. If it asks for a "
                "token, set RAY_AUTH_MODE=token."
            ) from None
    return ray


@contextmanager
def _same_signals() -> Iterator[None]:
    """Puts SIGTERM's handler back, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(
    command: Sequence[str], log: Path, mark: Path, env: Mapping[str, str], folder: Path
) -> int:
    """Is the task: runs a command, which is told to stop when Ray cancels the task.

    Args:
        command: The command line.
        log: For its output.
        mark: File for the id of the node.
        env: Variables that are added to the worker's.
        folder: The working directory of the command; a worker has another.

    Returns:
        The exit code.
    """
    import ray

    mark.write_text(ray.get_runtime_context().get_node_id())
    asked: list[int] = []
    # Ray cancels by an interrupt, which as an exception could come before the process is known.
    with handling({signal.SIGINT: lambda signum, _: asked.append(signum)}):
        process = child.start(command, log, os.environ | env, folder=folder)
        is_told = False
        while process.poll() is None:
            if asked and not is_told:
                process.terminate()
                is_told = True
            time.sleep(0.1)  # an interrupt of Ray's ends no system call
    return child.note_end(process.returncode, log)
