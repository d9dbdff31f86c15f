"""Several trials as one: each leaves in its directory what it would leave alone."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self

import jax
from ml_collections import ConfigDict

from unet_jax.checks import check_data
from unet_jax.data.cache import Before, prepare
from unet_jax.data.normalise import RANGE
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sample import Sample, Source, reduced
from unet_jax.data.sources import Loading
from unet_jax.errors import NonFiniteLossError, UserError
from unet_jax.experiment import Experiment, assemble
from unet_jax.glance.page import leave_page
from unet_jax.header import describe_accumulation, write_run
from unet_jax.models import fast
from unet_jax.predict.eval_step import make_eval_step
from unet_jax.predict.predictor import Predictor
from unet_jax.process.console import console, print_header
from unet_jax.process.owner import PACK, owned
from unet_jax.run import Run
from unet_jax.runs import class_weights, layout, splits, statistics
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.gallery import draw_missing
from unet_jax.runs.intact import check_intact
from unet_jax.runs.logs import Arrivals
from unet_jax.runs.results import read_results, says_finished, write_results
from unet_jax.sharding import replicate
from unet_jax.studies.pack.grouping import program_of, varying
from unet_jax.studies.pack.in_turn import InTurn
from unet_jax.studies.pack.side_by_side import SideBySide
from unet_jax.studies.pack.step import Member, Way, distinct
from unet_jax.training import ADVICE, loop

WAYS: dict[str, Callable[[Sequence[Member]], Way]] = {
    "in_turn": InTurn,
    "side_by_side": SideBySide,
}


def train_packed(
    configs: Mapping[Path, ConfigDict], overrides: Mapping[Path, Any], kind: str | None = None
) -> None:
    """Trains trials through one program, all at once or as many as fit into memory.

    Every trial's directory is owned meanwhile, as by a training of its own.

    Args:
        configs: The trials' configs by run directory; they must be alike but for numbers.
        overrides: What their configs change of the study's page, for the record.
        kind: A key of `WAYS`; None for the one that suits the devices.

    Raises:
        UserError: Configs, data or directories do not fit, or a directory is in use; nothing was
            trained.
        NonFiniteLossError: The loss of some trials became NaN or infinite; the others finished.
        StoppedError: A signal asked to stop; the states were saved.
    """
    with ExitStack() as stack:
        for folder in configs:
            stack.enter_context(owned(folder, PACK))
        _train_owned(configs, overrides, kind)


def _train_owned(
    configs: Mapping[Path, ConfigDict], overrides: Mapping[Path, Any], kind: str | None
) -> None:
    first, *others = configs
    for folder in others:
        if program_of(configs[folder]) != program_of(configs[first]):
            raise UserError(
                f"{first.name} and {folder.name} differ in more than numbers, so they cannot be "
                "one program; see unet_jax/studies/pack/grouping.py, and train each by itself."
            )
    for folder, config in configs.items():
        for line in run_dir.check_config(folder, config, ADVICE):
            console.print(f"{folder.name}: {line}")
        check_intact(folder)
    for folder, config in configs.items():
        if says_finished(read_results(folder)):
            draw_missing(config, folder)
            if config.eval.figures:
                leave_page(folder)
    configs = {
        folder: config for folder, config in configs.items() if not run_dir.is_finished(folder)
    }
    if not configs:
        return
    kept = _kept(configs)
    shared, members = None, []
    ends = next((found for folder in configs if (found := statistics.read(folder))), None)
    for folder, config in configs.items():
        experiment = assemble(config, kept, shared, ends, class_weights.read(folder))
        shared = shared or experiment
        members.append(Member(folder, config, experiment))
    first = members[0].experiment
    eval_step = make_eval_step(first.network)
    check_data(first, eval_step)
    members = _remember(members)
    for member in members:
        run_dir.check_writable(member.folder)
        split = splits.settle(first.dataset, member.folder, kept)
        texts = {"split": split, "statistics": statistics.write(first.loading.normalise)}
        run_dir.begin(member.folder, member.config, overwrite=False, **texts)
    make_way = WAYS[kind or ("in_turn" if jax.default_backend() == "cpu" else "side_by_side")]
    way = make_way(members)
    size, failures = min(way.most(), len(members)), []
    if size < len(members):
        console.print(f"{size} of {len(members)} trials train at once; no more fit into memory.")
    for begin in range(0, len(members), size):
        some = members[begin : begin + size]
        its_way = way if len(some) == len(members) else make_way(some)
        failures += _train(some, its_way, eval_step, overrides)
    if failures:
        raise NonFiniteLossError(f"{len(failures)} of {len(members)} trials: {failures[0]}")


def _kept(folders: Iterable[Path]) -> splits.Splits | None:
    """Returns the splits that trials keep; those that begin take what others of the pack have."""
    found = [(folder, kept) for folder in folders if (kept := splits.read(folder)) is not None]
    for folder, kept in found:
        if kept != found[0][1]:
            raise UserError(
                f"{found[0][0].name} and {folder.name} keep different splits ({layout.SPLIT}), so "
                "they cannot be one program; train each by itself."
            )
    return found[0][1] if found else None


def _remember(members: Sequence[Member]) -> list[Member]:
    """Gives trials one copy of the images, decoded once, and one compiled initialisation."""
    shared = members[0].experiment
    sources = {
        "train": Remembered(shared.dataset.splits["train"], shared.loading),
        "val": Remembered(shared.dataset.splits["val"]),
    }
    same = {"dataset": shared.dataset._replace(splits=sources), "init": shared.init}
    return [member._replace(experiment=member.experiment._replace(**same)) for member in members]


def _train(
    members: Sequence[Member], way: Way, eval_step: Predictor, overrides: Mapping[Path, Any]
) -> list[str]:
    """Trains trials at once; returns what failed."""
    runs = [Run(member.experiment, eval_step, member.folder) for member in members]
    plan = members[0].experiment.plan
    start = common_start([set(run.checkpoints.all_steps()) for run in runs])
    keys = [jax.random.split(jax.random.key(member.seed))[0] for member in members]
    states = way.put([run.begin_state(start, key) for run, key in zip(runs, keys, strict=True)])
    for member in members:  # now that the checkpoints are known to be these runs'
        write_run(member.experiment, member.folder, overrides[member.folder], start)
    _print_header(members, way, start)
    batches = _batches(members, way, start)
    with Pack(runs, way, start) as pack:
        loop(pack, plan, start, states, way, batches, way.inputs())
        results = pack.results()
    for run, result in results.items():
        write_results(run.workdir, **result)
        if run.experiment.network.settings.figures:
            leave_page(run.workdir)
    return list(pack.failures.values())


def common_start(steps: Sequence[set[int]]) -> int:
    """Returns the latest step that every trial has a checkpoint of; 0 where there is none."""
    return max(set.intersection(*steps), default=0)


def _batches(members: Sequence[Member], way: Way, start: int) -> Iterator[Any]:
    """Yields the batches of the different seeds, on the devices."""
    e: Experiment = members[0].experiment
    order = {"batch_size": e.plan.batch_size, "start": start, "stop": e.plan.total}
    source, seeds = e.dataset.splits["train"], distinct([member.seed for member in members])
    loading = source.loading if isinstance(source, Remembered) else e.loading
    streams = [train_batches(source, loading, **order, seed=seed) for seed in seeds]
    for together in zip(*streams, strict=True):
        yield way.put_batches(together)


class Remembered(Before):
    """A source that decodes every image once."""

    def __init__(self, source: Source, loading: Loading | None = None) -> None:
        """Wraps a source.

        Args:
            source: The images.
            loading: How training normalises them and brings them to a size, which is then done
                once too; None to keep them as they are.
        """
        self._source, self._loading = source, loading
        if loading is not None:
            self._source = reduced(source, loading.reduced_size)
        self.load = functools.cache(self._load_once)
        self.reduced = functools.cache(self._reduced)

    @property
    def loading(self) -> Loading:
        """Returns what is left to do in training, of a source with a loading."""
        assert self._loading is not None, "these images are as they were read"
        return self._loading._replace(normalise=RANGE, reduced_jpeg=False)

    def _reduced(self, size: tuple[int, ...]) -> "Remembered":
        """Returns what remembers images decoded at a reduced scale; see `Reducible`."""
        return Remembered(reduced(self._source, size))

    def _load_once(self, index: int) -> Sample:
        sample = self._source.read(index)
        return sample if self._loading is None else prepare(sample, self._loading)


class Pack:
    """Brings what several trials do as one to their directories; see `training.Keeper`.

    Use it as a context while training. A trial whose loss is not finite is left where it is; the
    others go on.

    Attributes:
        failures: What happened, by run directory.
    """

    def __init__(self, runs: Sequence[Run], way: Way, start: int) -> None:
        """Takes the runs, how they take their steps, and how many they have taken."""
        self._runs, self._way, self._start = list(runs), way, start
        self._arrivals = Arrivals(self._write, way.fetch_scalars)
        self.failures: dict[Path, str] = {}

    def __enter__(self) -> Self:
        """Opens the logs; the first run shows the progress of all."""
        self._stack = ExitStack()
        self._stack.enter_context(closing(self._arrivals))
        for row, run in enumerate(self._runs):
            images = len(self._runs) * run.experiment.plan.batch_size
            self._stack.enter_context(run.open(self._start, images=images, shows=not row))
        self.restart_clock(self._start)  # one speed for all, whoever was opened first
        return self

    def __exit__(self, *error: Any) -> None:
        """Closes them."""
        self._stack.__exit__(*error)

    def record(self, step: int, scalars: Any, waited: float) -> None:
        """Takes the scalars of a step just dispatched; see `logs.Arrivals.add`."""
        self._arrivals.add(step, scalars, waited)

    def _write(self, step: int, scalars: Any, waited: float, at: float) -> None:
        self._for_each(lambda row, run: run.write(step, scalars[row], waited, at))

    def keep(self, step: int, state: Any, *, evaluates: bool) -> None:
        """Evaluates every trial where it is due, and starts to save it."""
        self._arrivals.flush()
        states = list(self._way.fetch(state))

        def keep(row: int, run: Run) -> None:
            own = replicate(states[row], run.experiment.shardings)
            run.keep(step, own, evaluates=evaluates)

        self._for_each(keep)

    def has_ended(self, step: int) -> bool:
        """Tells whether all runs end here; `grouping` packs none that may end before others."""
        return all(run.has_ended(step) for run in self._runs)

    def wait(self) -> None:
        """Returns when what was kept is on the disk."""
        for run in self._runs:
            run.wait()

    def restart_clock(self, step: int) -> None:
        """Leaves what came since this step out of the speed."""
        for run in self._runs:
            run.restart_clock(step)

    def results(self) -> dict[Run, dict[str, Any]]:
        """Returns what results.json says of every trial that has taken all its steps."""
        return {run: run.results() for run in self._runs if run.workdir not in self.failures}

    def _for_each(self, act: Callable[[int, Run], None]) -> None:
        for row, run in enumerate(self._runs):
            if run.workdir in self.failures:
                continue
            try:
                act(row, run)
            except NonFiniteLossError as error:
                self.failures[run.workdir] = f"{run.workdir.name}: {error}"
                with (run.workdir / "log.txt").open("a") as log:
                    log.write(f"error: {error}\n")
                console.print(self.failures[run.workdir])
        if len(self.failures) == len(self._runs):
            raise NonFiniteLossError(next(iter(self.failures.values())))


def _print_header(members: Sequence[Member], way: Way, start: int) -> None:
    plan = members[0].experiment.plan
    differ = [".".join(path) for path in varying([member.config for member in members])]
    if len(distinct([member.seed for member in members])) > 1:
        differ.append("train.seed")
    facts = {
        "trials": f"{len(members)} through {way.describe()}",
        "differ in": ", ".join(differ) or "nothing",
        **({"kernels": form} if (form := fast.describe()) else {}),
        "steps": f"{plan.total} of {plan.batch_size} images each",
    }
    e = members[0].experiment
    if line := describe_accumulation(e.config, has_batch_stats=bool(e.state_shapes.batch_stats)):
        facts["accumulation"] = line
    names = e.network.task.names
    weights = dict.fromkeys(member.experiment.class_weights for member in members)
    if said := [one.describe(names) for one in weights if one]:
        facts["class weights"] = " | ".join(said)
    if start:
        facts["resumes at"] = f"step {start}"
    print_header("unet_jax", facts)
