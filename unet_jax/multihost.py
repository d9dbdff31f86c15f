"""Many processes of one run: joining them, waiting for them, and ending with them."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import jax
from jax.experimental import multihost_utils

from unet_jax import signals
from unet_jax.errors import UserError
from unet_jax.logs import console

_COORDINATION = ("UNAVAILABLE", "CoordinationService", "barrier", "Gloo")
HEARTBEAT_SECONDS = 10  # without a sign of life, after which a process counts as lost
LEAVE_SECONDS = 3
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
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
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


class AgreedStop(signals.StopRequest):
    """A request to stop that all processes grant after the same step.

    SIGTERM may reach them at different times, or only one of them; jax's preemption service agrees
    on the next step that none of them has passed.
    """

    def after(self, step: int) -> int:
        """Returns SIGTERM, or 0, the same on every process; each asks once for every step."""
        return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0


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

        def tell_others(signum: int, frame: FrameType | None) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

        with signals.handling({int(signal.SIGINT): tell_others}):
            yield AgreedStop()


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
