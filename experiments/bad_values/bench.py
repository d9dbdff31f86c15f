"""Asks the real command, in this process and up to its first step, what it makes of a value."""

import contextlib
import faulthandler
import io
import math
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple
from unittest import mock

from absl import flags
from ml_collections import ConfigDict

from unet_jax import command_line
from unet_jax.defaults import fill

MODES = ("train", "eval", "predict", "plan")
SECONDS = 60
LONGEST_LINE = 2500
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 0.5, 1e30, 1e-320, -0.0, math.nan, math.inf, -math.inf),
    *(4096, 2**16, 10**6, 2**31, 2**32, 2**63, 10**30, -(10**30), 10**5000),
    *("", "abc", "0", "-1", "1e400 epochs", "nan epochs", "1e30 steps", "1" * 5000),
    *("/no/such/path", "~", "nul\0nul", "\ud800", "long" * 25_000, "[red]", "(1, 2)", "gs://x/y"),
    *((), ((),), (((1,),),), (1, 2, 3, 4, 5, 6, 7), ("a", "b"), ("a", "b", "c"), (0.5, 1.5)),
    *((math.nan,), (1, "a"), (None,), (True, False), (10**30,), (10**9,) * 3, (1,) * 20_000),
    *(((0.5, 0), (1.0, 1)), [4, [8]], {}, {"a": 1}, {0.5: 1}, {"a": {"b": ()}}, (b"\xff",)),
    *(b"bytes", {1, 2}, 1j, print, Path("x")),
)
"""Of wrong types, sizes and shapes; every key takes some of them."""
PAGE = "from experiments.bad_values.bench import given\n\n\n"
PAGE += "def get_config():\n    return given()\n"


class Reached(BaseException):
    """What the command was asked for would begin now."""


class Hung(BaseException):
    """It took too long."""


class Case(NamedTuple):
    """One bad value.

    Attributes:
        mode: Of the command.
        key: Such as "train.seed".
        value: For it.
        as_text: Whether the value stands on the command line, and not in the page.
    """

    mode: str
    key: str
    value: Any
    as_text: bool

    def __str__(self) -> str:
        value = "an int of 5001 digits" if self.value == 10**5000 else repr(self.value)[:60]
        where = " on the command line" if self.as_text else ""
        return f"--mode={self.mode} config.{self.key}={value}{where}"


class Answer(NamedTuple):
    """What the command made of a case.

    Attributes:
        kind: "accepted", "one line" or "wrong".
        text: Its line, or what is wrong.
    """

    kind: str
    text: str


_page: Callable[[], Any] = dict  # what the page returns now


def given() -> Any:
    """Returns the config of the case that is tried; pages call it."""
    return _page()


def leaves(page: Any) -> list[str]:
    """Lists the sections of a config and all their keys, but those of sources it does not take."""
    unused = {"folder", "tfds", "synthetic"} - {page["data"]["source"]}

    def below(values: Any, prefix: str) -> Iterator[str]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from below(value, f"{prefix}{name}.")
            yield f"{prefix}{name}"

    keys = below(fill(page), "")
    return [key for key in keys if not key.startswith(tuple(f"data.{name}" for name in unused))]


def changed(values: dict[str, Any], key: str, value: Any) -> Any:
    """Returns a config like `values`, with another value of a key; missing sections are made."""
    new = ConfigDict(values).to_dict()
    *path, name = key.split(".")
    section = new
    for part in path:
        section = section.setdefault(part, {})
    section[name] = value
    return ConfigDict(new)


class Bench:
    """Asks the command, in this process, what it makes of values.

    Use it as a context: meanwhile the command stops where its first step, or image, would begin.
    """

    def __init__(self, folder: Path, values: dict[str, Any], run: Path | None = None) -> None:
        """Takes what a good config is.

        Args:
            folder: An empty one, to write to.
            values: Of the config.
            run: Folder of a finished run of it, which is read; None to train and plan alone.
        """
        self._folder, self._values, self._run = folder, values, run
        self._page = folder / "page.py"
        self._page.write_text(PAGE)
        self._known: dict[Any, Any] = {}

    def __enter__(self) -> "Bench":
        """Puts the stops in."""
        from unet_jax import evaluate, header, training
        from unet_jax.plan import memory
        from unet_jax.predict import run as prediction
        from unet_jax.predict.predictor import Predictor

        def stop(*_: Any, **__: Any) -> Any:
            raise Reached

        stand_in = mock.Mock(**{"return_value.begin_state": stop})
        stand_in.return_value.checkpoints.steps.return_value = {}
        self._stack = contextlib.ExitStack()
        for module, name, new in (
            (training, "Run", stand_in),
            (training, "compile_ahead", mock.Mock()),
            (evaluate, "evaluate", stop),
            (Predictor, "batches", stop),
            (memory, "compile_step", stop),
            (header, "count_flops", self._once(header.count_flops)),
            (evaluate, "restore", self._restore),
            (prediction, "restore", self._restore),
            (Predictor, "_check_memory", self._check_memory(Predictor)),
        ):
            self._stack.enter_context(mock.patch.object(module, name, new))
        return self

    def __exit__(self, *error: Any) -> None:
        """Takes them out."""
        self._stack.close()

    def ask(self, case: Case, seconds: float = SECONDS) -> Answer:
        """Runs the command for a case.

        Args:
            case: The case.
            seconds: That it may take.

        Returns:
            Its answer.
        """
        global _page
        if case.as_text and not is_writable(case.value):
            case = case._replace(as_text=False)
        text = f"--config.{case.key}={write(case.value)}" if case.as_text else None
        _page = lambda: changed(self._values, case.key, case.value)  # noqa: E731
        if case.as_text:
            _page = lambda: ConfigDict(self._values)  # noqa: E731
        work = self._folder / "run"
        if case.mode in ("eval", "predict"):
            work = self._run or work
        line = ["main", f"--config={self._page}", f"--mode={case.mode}", f"--workdir={work}"]
        line += [f"--input={self._image()}"] * (case.mode == "predict")
        line += [text] if text else []
        names = case.key.rpartition(".")[2], *([case.value] if is_path(case.value) else [])
        answer = judge(lambda: command(line), names, seconds)
        if work != self._run and work.exists():
            if answer.kind == "one line" and list(work.iterdir()):
                answer = Answer("wrong", f"files were left: {answer.text}")
            shutil.rmtree(work)
        return answer

    def _image(self) -> Path:
        """Returns an image of as many axes as those of the page, and of their type."""
        is_volume = len(self._values["data"]["image_size"]) == 3
        file = self._folder / ("image.npy" if is_volume else "image.png")
        if not file.exists():
            import numpy as np
            from PIL import Image

            if is_volume:
                np.save(file, np.zeros((8, 8, 8), np.uint16))
            else:
                Image.new("RGB", (32, 32)).save(file)
        return file

    def _restore(self, config: Any, *given: Any) -> Any:
        """Restores the checkpoint once for each model."""
        from unet_jax.restore import restore

        parts = (config[name].to_json() for name in ("model", "data", "eval", "mesh"))
        key = ("restored", *parts, *given)
        if key not in self._known:
            self._known[key] = restore(config, *given)
        return self._known[key]

    def _check_memory(self, kind: Any) -> Any:
        """Compiles the evaluation once for each model and shape."""
        compile_it = kind._check_memory

        def check(step: Any, variables: Any, batch_size: int, canvas: Any, *given: Any) -> None:
            key = ("memory", step._model, batch_size, canvas)
            if key not in self._known:
                self._known[key] = compile_it(step, variables, batch_size, canvas, *given)

        return check

    def _once(self, find: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Returns a function that finds something out once for each model and size."""

        def found(experiment: Any) -> Any:
            key = (find, experiment.model, experiment.loading.image_size)
            if key not in self._known:
                self._known[key] = find(experiment)
            return self._known[key]

        return found


def judge(run: Callable[[], int], names: tuple[str, ...], seconds: float = SECONDS) -> Answer:
    """Runs a command, and says what its answer is.

    Args:
        run: The command, up to where its work begins; it returns the exit code.
        names: Of which a line must hold one.
        seconds: That it may take.

    Returns:
        Its answer.
    """
    said, began = io.StringIO(), time.perf_counter()
    try:
        with time_limit(seconds), contextlib.redirect_stderr(said), hushed():
            code = run()
    except Reached:
        return Answer("accepted", "")
    except Hung:
        return Answer("wrong", f"no answer in {seconds} s")
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return Answer("wrong", f"{type(error).__name__} in {where}: {str(error)[:200]}")
    text = said.getvalue().rstrip("\n")
    passed = time.perf_counter() - began
    is_line = "\n" not in text and text.startswith("error: ") and len(text) < LONGEST_LINE
    if code == 0 and not text:
        return Answer("accepted", "")
    if code == 2 and is_line and any(name in text for name in names) and passed < seconds:
        return Answer("one line", text)
    return Answer("wrong", f"code {code}, {passed:.1f} s: {text[:300]}")


def command(line: list[str]) -> int:
    """Runs `unet_jax.main` in this process; returns its exit code."""
    from unet_jax import main  # which defines flags

    for name in [name for name in flags.FLAGS if name.startswith("config.")]:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    with mock.patch.object(sys, "argv", line):
        return command_line.run(line, main.run, main)


def is_path(value: Any) -> bool:
    """Tells whether a line may name a value instead of its key, as lines on files do."""
    return isinstance(value, str) and "/" in value


def write(value: Any) -> str:
    """Writes a value as people do on a command line."""
    return value if isinstance(value, str) else repr(value)


def is_writable(value: Any) -> bool:
    """Tells whether a command line can hold a value."""
    try:
        text = write(value)
        return "\0" not in text and bool(os.fsencode(text) or True)
    except ValueError:  # also of an int of too many digits
        return False


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `Hung` after some seconds; ends the process where Python is not reached."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(3 * seconds, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keeps what the command says on the console to itself."""
    from unet_jax.process.console import console

    console.quiet = True
    try:
        yield
    finally:
        console.quiet = False


def small(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Makes a page's config one of a few seconds, of eight images.

    Args:
        values: Of the page.
        folder: To write the images to, where the page reads files.

    Returns:
        The values.
    """
    data, model = values["data"], values["model"]
    model["features"] = (4,) * len(model["features"])
    axes = len(data["image_size"])
    side = 64 if axes == 2 else 16
    if model["padding"] == "same":
        data["image_size"] = (side,) * axes
    drawn = {"train": 8, "val": 2, "test": 2, "size": side // 2, "axes": axes}
    data["synthetic"] = {**data["synthetic"], **drawn}
    if data["source"] != "synthetic":
        data["source"], data["path"] = "folder", str(write_images(folder / "data"))
        names = data["folder"]["class_names"] or ("background", "object")
        written = {"class_names": names, "layout": "", "test_fraction": 0.0}
        data["folder"] = {**data["folder"], **written}
    values["train"] |= {"duration": "1", "batch_size": 8, "log_every": "1"}
    values["eval"] |= {"batch_size": 8, "shown": 1}
    return values


def write_images(folder: Path) -> Path:
    """Writes eight images with masks of two classes; returns the folder."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, shape, most in (("images", (40, 48, 3), 256), ("masks", (40, 48), 2)):
        (folder / name).mkdir(parents=True)
        for index in range(8):
            image = Image.fromarray(rng.integers(0, most, shape, np.uint8))
            image.save(folder / name / f"{index}.png")
    return folder


def train(folder: Path, values: dict[str, Any]) -> Path:
    """Trains a config; returns the run's folder."""
    global _page
    _page = lambda: ConfigDict(values)  # noqa: E731
    (folder / "page.py").write_text(PAGE)
    with hushed():
        code = command(["main", f"--config={folder / 'page.py'}", f"--workdir={folder / 'good'}"])
    if code:
        raise RuntimeError("the config is not good")
    return folder / "good"
