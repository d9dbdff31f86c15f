"""Many processes of one run: joining them, waiting for them, and ending with them."""

import io
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from unet_jax.errors import UserError
from unet_jax.process import owner, signals
from unet_jax.process.console import console

_COORDINATION = ("UNAVAILABLE", "CoordinationService", "barrier", "Gloo")
HEARTBEAT_SECONDS = 10  # without a sign of life, after which a process counts as lost
LEAVE_SECONDS = 3
FAREWELL_SECONDS = 3600  # to wait at the end for the first, which draws its last figures
_LONGEST = 4096  # bytes of a text that one process tells the others
JOIN_SECONDS = 300  # to wait for all processes at the start


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes; to be called before jax looks for devices.

    On TPU VMs, and under Slurm, Open MPI and Kubernetes, jax finds the others by itself.

    Args:
        coordinator: HOST:PORT of process 0, where nothing tells it.
        num_processes: How many there are.
        process_id: Which one this is, from 0.

    Raises:
        UserError: Nothing tells who the others are, or they do not come.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=FAREWELL_SECONDS,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"--multihost: the other processes were not found ({error}); under Slurm, Open MPI, "
            "Kubernetes and on TPU VMs they are found by themselves, elsewhere give each process "
            "--coordinator=HOST:PORT, --num_processes=N and --process_id=0..N-1."
        ) from None
    console.quiet = not is_first()


def is_joined() -> bool:
    """Tells whether `join` found other processes."""
    return jax.distributed.is_initialized()


def is_loss(error: BaseException) -> bool:
    """Tells whether an error is one of those that the loss of another process leads to.

    Args:
        error: What was raised: a collective of the devices by its name, or a step of the
            coordination of processes, which Orbax too waits for.
    """
    is_native = isinstance(error, jax.errors.JaxRuntimeError)
    return is_native or any(name in str(error) for name in _COORDINATION)


def is_first() -> bool:
    """Tells whether this process is the one that writes logs and figures."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Waits until every process has come to the same place.

    Args:
        name: Of the place.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def in_any(flags: Sequence[bool]) -> list[bool]:
    """Tells which flags any process has set, so that all go on alike.

    Args:
        flags: As many on every process.

    Returns:
        One flag for each, the same on every process.
    """
    if jax.process_count() == 1:
        return list(flags)
    found = np.asarray(multihost_utils.process_allgather(np.asarray(flags, np.uint8)))
    return [bool(flag) for flag in found.max(axis=0)]


def gather_arrays(own: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Returns the arrays that every process has, on each of them.

    Bytes travel, so that numbers arrive exactly which devices do not have, such as float64.

    Args:
        own: By name; the processes may have other names, and arrays of any size.

    Returns:
        Those of each process, in their order.
    """
    if jax.process_count() == 1:
        return [dict(own)]
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, **own)
    data = np.frombuffer(written.getvalue(), np.uint8)
    gather = multihost_utils.process_allgather
    with jax.transfer_guard("allow"):  # also amid a training
        sizes = np.asarray(gather(np.array([len(data)], np.int32))).ravel()
        padded = np.zeros(sizes.max(), np.uint8)
        padded[: len(data)] = data
        found = np.asarray(gather(padded))
    texts = [io.BytesIO(row[:size].tobytes()) for row, size in zip(found, sizes, strict=True)]
    return [dict(np.load(text, allow_pickle=False)) for text in texts]


class AgreedStop(signals.StopRequest):
    """A request to stop that all processes grant after the same step.

    SIGTERM may reach them at different times, or only one of them; jax's preemption service agrees
    on the next step that none of them has passed.
    """

    def after(self, step: int) -> int:
        """Returns a signal, or 0 on every process; each asks once for every step.

        The signal is the one that reached this process, and SIGTERM where it reached another.
        """
        is_agreed = multihost_utils.reached_preemption_sync_point(step)
        return self.signum or signal.SIGTERM if is_agreed else 0


@contextmanager
def stop_requests() -> Iterator[signals.StopRequest]:
    """Does what `signals.stop_requests` does, for one process or many.

    Of many each leaves SIGTERM to jax, which tells the others.

    Yields:
        The request.
    """
    if jax.process_count() == 1:
        with signals.stop_requests() as request:
            yield request
    else:
        request = AgreedStop()

        def tell_others(signum: int, frame: FrameType | None) -> None:
            request.signum = signum
            os.kill(os.getpid(), signal.SIGTERM)

        caught = [signum for signum in signals.asking() if signum != signal.SIGTERM]
        with signals.handling(dict.fromkeys(caught, tell_others)):
            yield request


@contextmanager
def owned(folder: Path, work: str) -> Iterator[None]:
    """Does what `owner.owned` does, for one process or many: the first one owns for all.

    Args:
        folder: See there.
        work: See there.

    Raises:
        UserError: Another process owns the folder, or it cannot be made; on every process.
    """
    with ExitStack() as stack:
        problem = ""
        try:
            if is_first():
                stack.enter_context(owner.owned(folder, work))
        except UserError as error:
            problem = str(error)
        if problem := _tell_others(problem):
            raise UserError(problem)
        yield


def _tell_others(text: str) -> str:
    """Returns the text of the first process on every one."""
    if jax.process_count() == 1:
        return text
    padded = text.encode(errors="replace")[:_LONGEST].ljust(_LONGEST, b"\0")
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(padded, np.uint8))
    return np.asarray(told).tobytes().rstrip(b"\0").decode(errors="replace")


def leave(code: int) -> NoReturn:
    """Ends this process without the farewell that waits for the others.

    The others lose the first process at once, since they report to it, so that it leaves them a
    moment for an error of their own.

    Args:
        code: The exit code.
    """
    if is_first():
        time.sleep(LEAVE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
