"""Serves a run: its model, its page, and the socket that it listens on."""

import errno
import importlib.util
import ipaddress
import socket
from pathlib import Path

from ml_collections import ConfigDict

import unet_jax
from unet_jax.browser.page import SERVER, Facts, make_page
from unet_jax.data.sample import RGB
from unet_jax.errors import UserError
from unet_jax.library import Run
from unet_jax.process.console import console
from unet_jax.restore import mask_classes
from unet_jax.serve.limits import Limits, parse_limits

LOOPBACK = "127.0.0.1"
# Modules by the name that installs them.
_NEEDED = {"python-multipart": "python_multipart", "starlette": "starlette", "uvicorn": "uvicorn"}
_NAMES = (LOOPBACK, "localhost")  # of this computer, in requests
_CONNECTIONS = 512  # at a time; more are sent away before they are read
_IDLE_SECONDS, _LAST_SECONDS = 15, 5  # of a connection without a request; of all when it ends


def serve_run(
    config: ConfigDict, workdir: Path, *, checkpoint: str, host: str, port: int, limits: str
) -> None:
    """Serves the model of a run until a signal ends it.

    Args:
        config: The run's config.
        workdir: The run's directory.
        checkpoint: "best" or "latest".
        host: Address to listen on.
        port: Port; 0 for one that is free.
        limits: See `limits.parse_limits`.

    Raises:
        UserError: A package is missing, the address is taken, there is no such run, or it reads
            volumes.
    """
    check_packages()
    most = parse_limits(limits)
    with listen(host, port) as listening:  # before the model is loaded
        run = Run(config, workdir, checkpoint)
        if run.spec.axes != 2:
            raise UserError(
                f"{workdir} reads volumes, and a server takes images of two axes; use "
                "--mode=predict."
            )
        serve(run, listening, most, by_class=bool(mask_classes(config, workdir, checkpoint)))


def check_packages() -> None:
    """Checks that what the extra installs is there.

    Raises:
        UserError: It is not.
    """
    missing = [name for name, module in _NEEDED.items() if not importlib.util.find_spec(module)]
    if missing:
        raise UserError(
            f"--mode=serve needs {', '.join(missing)}; install them with "
            "pip install 'unet-jax[serve]'."
        )


def listen(host: str, port: int) -> socket.socket:
    """Opens the socket of an address.

    Args:
        host: A name or an address.
        port: Port; 0 for one that is free.

    Returns:
        The socket.

    Raises:
        UserError: It cannot be had.
    """
    try:
        if not host:  # which would be every address
            raise OSError(errno.EADDRNOTAVAIL, "no address")
        return socket.create_server((host, port), family=_family(host), backlog=_CONNECTIONS)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"--host={host} --port={port} cannot be listened on ({why}); choose another --port, or "
            "--port=0 for one that is free."
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def serve(run: Run, listening: socket.socket, limits: Limits, *, by_class: bool) -> None:
    """Serves a model on a socket until a signal ends it.

    Args:
        run: The model.
        listening: The socket.
        limits: What is taken.
        by_class: Whether classes may overlap.
    """
    import uvicorn

    from unet_jax.serve.app import make_app

    host, port = listening.getsockname()[:2]
    title = f"{run.workdir.absolute().name}, step {run.step:,}"
    hosts = _NAMES if ipaddress.ip_address(host).is_loopback else ("*",)
    app = make_app(
        run,
        limits,
        _page(run, title, limits, by_class=by_class),
        title=title,
        version=unet_jax.__version__,
        hosts=hosts,
    )
    shown = f"[{host}]" if ":" in host else host
    console.print(f"serving {title} at http://{shown}:{port}/ ; Ctrl-C ends it")
    facts = ", ".join(f"{name} {value:,}" for name, value in limits._asdict().items())
    console.print(f"limits: {facts}")
    if not ipaddress.ip_address(host).is_loopback:
        console.print(
            "Every computer that reaches this address can use the model: there are no passwords "
            "and no encryption; put a proxy before it that has both."
        )
    settings = uvicorn.Config(
        app,
        log_config=None,  # Python's own: warnings and errors go to the console
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_LAST_SECONDS,
        lifespan="off",
        ws="none",
    )
    uvicorn.Server(settings).run(sockets=[listening])


def _page(run: Run, title: str, limits: Limits, *, by_class: bool) -> str:
    if by_class or run.spec[:3] != RGB[:3]:
        what = "has classes that overlap" if by_class else f"reads images with {run.spec}"
        return (
            f"<!DOCTYPE html><title>unet_jax</title><p>The model {what}, which a page cannot show; "
            "POST images to /predict (see /openapi.json).\n"
        )
    about = {"run": str(run.workdir.absolute().name), "step": f"{run.step:,}"}
    facts = Facts(title, run.class_names, about=about, most_pixels=limits.pixels)
    return make_page(facts, SERVER, {})
