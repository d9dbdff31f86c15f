"""Asks the program, in this process, what it makes of damaged files."""

import base64
import contextlib
import hashlib
import io
import json
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from unet_jax.errors import UserError
from unet_jax.process.owner import LOCK
from unet_jax.runs import layout
from unet_jax.studies.engines.base import Job, Status

SECONDS = 120  # after which an answer does not come
LONGEST = 2500  # characters of a line


class Hung(BaseException):
    """An answer took too long."""


class Answer(NamedTuple):
    """What the program made of it.

    Attributes:
        kind: "right", "one line" or "WRONG".
        text: The line, or what is wrong.
    """

    kind: str
    text: str = ""


class Work:
    """What costs little and changes nothing here is put in the place of what costs much.

    Use it as a context. Experiments, evaluations' programs and FLOPs are made once for a config,
    figures are empty files, and a sweep's processes are calls.

    Attributes:
        has_begun: Whether steps or images have been computed since `begin`.
    """

    def __enter__(self) -> "Work":
        """Puts it there."""
        from unet_jax import figures, header, training
        from unet_jax.predict import predictor
        from unet_jax.predict.predictor import Predictor
        from unet_jax.studies.sweep import launcher

        self.has_begun, self._stack = False, contextlib.ExitStack()
        batches, loop = Predictor.batches, training.loop
        made, assemble = _once_each(Predictor), _once(training.assemble)

        def begin(function: Callable[..., Any]) -> Callable[..., Any]:
            def called(*given: Any, **named: Any) -> Any:
                self.has_begun = True
                return function(*given, **named)

            return called

        def draw(file: Path, *given: Any, **named: Any) -> None:
            Path(file).write_bytes(_PIXEL)

        from unet_jax.studies.pack import train as pack

        replaced = [
            (Predictor, "batches", begin(batches)),
            *((module, "loop", begin(loop)) for module in (training, pack)),
            (predictor, "Predictor", made),
            *((module, "assemble", assemble) for module in (training, pack)),
            (training, "compile_ahead", lambda experiment: experiment.train_step),
            (header, "count_flops", lambda experiment: 1),
            (launcher, "ask", answer_probe),
            *((figures, name, draw) for name in _DRAWN),
        ]
        for place, name, new in replaced:
            self._stack.enter_context(mock.patch.object(place, name, new))
        return self

    def __exit__(self, *error: object) -> None:
        """Takes it away."""
        self._stack.close()

    def begin(self) -> None:
        """Nothing has been computed yet."""
        self.has_begun = False


_PIXEL = base64.b64decode(  # of a PNG that is read, as by cards
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
_DRAWN = (
    *("prediction_grid", "prediction_history", "confusion_matrix", "learning_curves"),
    "class_error_grid",
)


def _once_each(make: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a predictor once for each network and for what it computes."""
    known: dict[Any, Any] = {}

    def made(*network: Any) -> Any:
        *parts, outputs, tiles = network
        key = (*parts, tiles, outputs.label, outputs.compute.func, repr(outputs.compute.args))
        if key not in known:
            known[key] = make(*network)
        return known[key]

    return made


def _once(assemble: Callable[..., Any]) -> Callable[..., Any]:
    """Makes an experiment once for each config and splits."""
    known: dict[str, Any] = {}

    def assembled(
        config: Any, kept: Any = None, like: Any = None, *found: Any, **named: Any
    ) -> Any:
        key = json.dumps([config.to_dict(), kept, found, named], default=str, sort_keys=True)
        if key not in known:
            known[key] = assemble(config, kept, like, *found, **named)
        return known[key]

    return assembled


def answer_probe(
    configs_by_name: Mapping[str, Any],
    env: Any,
    study: Path,
    *,
    timed: bool = False,
    skips: bool = False,
) -> Any:
    """Answers as `probe.ask`, in this process."""
    from unet_jax import training
    from unet_jax.runs import splits
    from unet_jax.studies.sweep.probe import Answer as Probed
    from unet_jax.studies.sweep.probe import Facts

    facts, impossible = [], {}
    for name, config in configs_by_name.items():
        try:
            plan = training.assemble(config, splits.read(study / name)).plan
        except UserError as error:
            if not skips:
                raise UserError(f"{name}: {error}") from None
            impossible[name] = str(error)
            continue
        facts.append(Facts(*(_facts(Facts, plan))))
    return Probed(facts, None, impossible)


def _facts(kind: Any, plan: Any) -> list[Any]:
    known = {"steps": plan.total, "batch_size": plan.batch_size}
    return [known.get(name, 1) for name in kind._fields]


class Calls:
    """An engine whose jobs are calls in this process."""

    def __init__(self) -> None:
        self._status: dict[str, Status] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Does the jobs."""
        for job in jobs:
            try:
                self._do(job)
                self._status[job.name] = "done"
            except UserError as error:
                job.log.parent.mkdir(parents=True, exist_ok=True)
                job.log.write_text(f"error: {error}\n")
                self._status[job.name] = "failed"

    def watch(self) -> Mapping[str, Status]:
        """Returns how they ended."""
        return dict(self._status)

    def cancel(self, names: Sequence[str] | None = None) -> None:
        """Does nothing: they have ended."""

    def _do(self, job: Job) -> None:
        if job.name.startswith("packs/"):
            train_pack(job.trials)
        else:
            train(job.trials[0])


def train(run: Path) -> None:
    """Trains as `python -m unet_jax.main --workdir=RUN`."""
    from unet_jax import config as configs
    from unet_jax.training import train_and_evaluate

    train_and_evaluate(configs.load(run / layout.CONFIG), run)


def evaluate(run: Path) -> None:
    """Evaluates as `python -m unet_jax.main --workdir=RUN --mode=eval --split=test`."""
    from unet_jax import config as configs
    from unet_jax.evaluate import evaluate_run

    evaluate_run(configs.load(run / layout.CONFIG), run, split="test", checkpoint="best")


def predict(run: Path, image: Path) -> None:
    """Predicts as `python -m unet_jax.main --workdir=RUN --mode=predict --input=IMAGE`."""
    from unet_jax import config as configs
    from unet_jax.predict.run import predict_run

    config = configs.load(run / layout.CONFIG)
    predict_run(config, run, inputs=[str(image)], output=None, checkpoint="best")


def train_pack(folders: Sequence[Path]) -> None:
    """Trains as `python -m unet_jax.studies.pack --trial=...`."""
    from unet_jax.studies.pack import __main__ as command

    flags = {"TRIALS": list(map(str, folders)), "WAY": "in_turn"}
    with contextlib.ExitStack() as stack:
        for name, value in flags.items():
            stack.enter_context(mock.patch.object(command, name, mock.Mock(value=value)))
        command.run()


def sweep(folder: Path, page: Path) -> None:
    """Sweeps as `python -m experiments.sweep --study=PAGE --workdir=FOLDER`."""
    from unet_jax.process.owner import SWEEP, owned
    from unet_jax.studies.pages import load_study
    from unet_jax.studies.sweep.launcher import Sweep, run_design

    with owned(folder, SWEEP):
        run_design(
            Sweep(
                page=page,
                study=load_study(page),
                base={},
                folder=folder,
                mode="packed",
                slots=[{}],
                is_local=True,
            ),
            Calls(),
        )


def report(folder: Path, images: int) -> None:
    """Reports as `python -m experiments.report FOLDER`."""
    from unet_jax.report.assemble import assemble
    from unet_jax.report.material import gather
    from unet_jax.report.pages import write_report

    write_report(assemble(gather([folder], "val", {}, 100), images), folder / "report")


def listen(work: Work, folder: Path, act: Callable[[], None]) -> tuple[Answer | None, str]:
    """Does something with a folder, and hears what is said.

    Args:
        work: Entered.
        folder: What may be written.
        act: What to do.

    Returns:
        The answer where it ended in an error, else None; and all that was printed.
    """
    from unet_jax.process.console import console
    from unet_jax.studies.sweep.running import FailedTrialsError

    before, said = contents(folder), io.StringIO()
    work.begin()
    try:
        with (
            _in_time(),
            contextlib.redirect_stderr(said),
            mock.patch.object(console, "_file", said),
        ):
            act()
    except FailedTrialsError as error:
        return None, f"{said.getvalue()}\nerror: {error}"
    except UserError as error:
        line = " ".join(str(error).split())
        problem = "too long" if len(line) > LONGEST else "after time was spent" * work.has_begun
        if not problem and (lost := changes(before, contents(folder))):
            problem = f"files were changed ({', '.join(lost[:3])})"
        answer = Answer("WRONG", f"{problem}: {line}") if problem else Answer("one line", line)
        return answer, said.getvalue()
    except Hung:
        return Answer("WRONG", f"no answer in {SECONDS} s"), said.getvalue()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        text = f"{type(error).__name__} in {where}: {str(error)[:200]!r}"
        return Answer("WRONG", text), said.getvalue()
    return None, said.getvalue()


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def contents(folder: Path) -> dict[str, str]:
    """Returns what a folder holds: checksums of files, by name below it."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and file.name != LOCK
    }


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names the files that are gone, other or new."""
    return sorted(n for n in {*before, *after} if before.get(n) != after.get(n))
