"""Several trials as one: each leaves in its directory what it would leave alone."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import jax
from ml_collections import ConfigDict

from experiments.pack.grouping import program_of, varying
from experiments.pack.step import InTurn, Member, SideBySide, Way, distinct
from unet_jax import workdir as run_dir
from unet_jax.data import splits
from unet_jax.data.base import Source
from unet_jax.data.images import resize_image, resize_label
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import Loading
from unet_jax.errors import NonFiniteLossError, UserError
from unet_jax.experiment import Experiment, assemble
from unet_jax.logs import console, print_header
from unet_jax.run import Run
from unet_jax.sharding import replicate
from unet_jax.train import ADVICE, check_data, loop, write_run

WAYS: dict[str, Callable[[Sequence[Member]], Way]] = {
    "in_turn": InTurn,
    "side_by_side": SideBySide,
}


def train_packed(
    configs: Mapping[Path, ConfigDict], overrides: Mapping[Path, Any], kind: str | None = None
) -> None:
    """Trains trials through one program, all at once or as many as fit into memory.

    Args:
        configs: The trials' configs by run directory; they must be alike but for numbers.
        overrides: What their configs change of the study's page, for the record.
        kind: A key of `WAYS`; None for the one that suits the devices.

    Raises:
        UserError: Configs, data or directories do not fit; nothing was trained.
        NonFiniteLossError: The loss of some trials became NaN or infinite; the others finished.
        StoppedError: A signal asked to stop; the states were saved.
    """
    first, *others = configs
    for folder in others:
        if program_of(configs[folder]) != program_of(configs[first]):
            raise UserError(
                f"{first.name} and {folder.name} differ in more than numbers, so they cannot be "
                "one program; see experiments/pack/grouping.py, and train each by itself."
            )
    for folder, config in configs.items():
        for line in run_dir.check_config(folder, config, ADVICE):
            console.print(f"{folder.name}: {line}", markup=False)
    kept = _kept(configs)
    members = [Member(path, config, assemble(config, kept)) for path, config in configs.items()]
    dataset, members = members[0].experiment.dataset, _share(members)
    for member in members:
        run_dir.check_writable(member.folder)
        split = splits.settle(dataset, member.folder, kept)
        run_dir.begin(member.folder, member.config, overwrite=False, split=split)
    make_way = WAYS[kind or ("in_turn" if jax.default_backend() == "cpu" else "side_by_side")]
    way = make_way(members)
    size, failures = min(way.most(), len(members)), []
    if size < len(members):
        console.print(f"{size} of {len(members)} trials train at once; no more fit into memory.")
    for begin in range(0, len(members), size):
        some = members[begin : begin + size]
        failures += _train(some, way if len(some) == len(members) else make_way(some), overrides)
    if failures:
        raise NonFiniteLossError(f"{len(failures)} of {len(members)} trials: {failures[0]}")


def _kept(folders: Iterable[Path]) -> splits.Splits | None:
    """Returns the splits that trials keep; those that begin take what others of the pack have."""
    found = {folder: kept for folder in folders if (kept := splits.read(folder)) is not None}
    first = next(iter(found), None)
    for folder, kept in found.items():
        if kept != found[first]:
            raise UserError(
                f"{first.name} and {folder.name} keep different splits ({run_dir.SPLIT}), so they "
                "cannot be one program; train each by itself."
            )
    return None if first is None else found[first]


def _share(members: Sequence[Member]) -> list[Member]:
    """Gives trials one copy of the pictures and one compiled evaluation."""
    shared = members[0].experiment
    check_data(shared)
    sources = {
        "train": Remembered(shared.dataset.splits["train"], shared.loading),
        "val": Remembered(shared.dataset.splits["val"]),
    }
    same = {
        "dataset": shared.dataset._replace(splits=sources),
        "init": shared.init,
        "eval_step": shared.eval_step,
    }
    return [member._replace(experiment=member.experiment._replace(**same)) for member in members]


def _train(members: Sequence[Member], way: Way, overrides: Mapping[Path, Any]) -> list[str]:
    """Trains trials at once; returns what failed."""
    runs = [Run(member.experiment, member.folder) for member in members]
    plan = members[0].experiment.plan
    start = common_start([set(run.checkpoints.all_steps()) for run in runs])
    for member in members:
        write_run(member.experiment, member.folder, overrides[member.folder], start)
    keys = [jax.random.split(jax.random.key(member.seed))[0] for member in members]
    states = way.put([run.begin_state(start, key) for run, key in zip(runs, keys, strict=True)])
    _print_header(members, way, start)
    batches = _batches(members, way, start)
    with Pack(runs, way, start) as pack:
        loop(pack, plan, start, states, way, batches, way.inputs())
        results = pack.results()
    for run, result in results.items():
        run_dir.write_results(run.workdir, **result)
    return list(pack.failures.values())


def common_start(steps: Sequence[set[int]]) -> int:
    """Returns the latest step that every trial has a checkpoint of; 0 where there is none."""
    return max(set.intersection(*steps), default=0)


def _batches(members: Sequence[Member], way: Way, start: int) -> Iterator[Any]:
    """Yields the batches of the different seeds, on the devices."""
    e: Experiment = members[0].experiment
    order = {"batch_size": e.plan.batch_size, "start": start, "stop": e.plan.total}
    source, seeds = e.dataset.splits["train"], distinct([member.seed for member in members])
    streams = [train_batches(source, e.loading, **order, seed=seed) for seed in seeds]
    for together in zip(*streams, strict=True):
        yield way.put_batches(together)


class Remembered:
    """A source that decodes every picture once."""

    def __init__(self, source: Source, loading: Loading | None = None) -> None:
        """Wraps a source.

        Args:
            source: The pictures.
            loading: How training brings them to a size, which is then done once too; None to
                keep them as they are.
        """
        self._source, self._loading = source, loading
        self._load = functools.cache(self._load_once)

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per picture."""
        return self._source.ids

    def __len__(self) -> int:
        return len(self._source)

    def size(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of the label as it was, without decoding."""
        return self._source.size(index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns one picture; see `base.Source`."""
        return self._load(int(index))

    def _load_once(self, index: int) -> dict[str, Any]:
        loaded, loading = self._source[index], self._loading
        if loading is None or loading.fit != "resize":
            return loaded
        image = resize_image(loaded["image"], loading.image_size)
        return {
            **loaded,
            "image": image,
            "label": resize_label(loaded["label"], loading.image_size),
        }


class Pack:
    """Brings what several trials do as one to their directories; see `train.Keeper`.

    Use it as a context while training. A trial whose loss is not finite is left where it is; the
    others go on.

    Attributes:
        failures: What happened, by run directory.
    """

    def __init__(self, runs: Sequence[Run], way: Way, start: int) -> None:
        """Takes the runs, how they take their steps, and how many they have taken."""
        self._runs, self._way, self._start = list(runs), way, start
        self._pending: tuple[int, Any, float] | None = None
        self.failures: dict[Path, str] = {}

    def __enter__(self) -> Self:
        """Opens the logs; the first run shows the progress of all."""
        self._stack = ExitStack()
        for row, run in enumerate(self._runs):
            pictures = len(self._runs) * run.experiment.plan.batch_size
            self._stack.enter_context(run.open(self._start, pictures=pictures, shows=not row))
        return self

    def __exit__(self, *error: Any) -> None:
        """Closes them."""
        self._stack.__exit__(*error)

    def record(self, step: int, scalars: Any, waited: float) -> None:
        """Takes the scalars of a step just dispatched, and hands on those of the one before."""
        self._deliver()
        self._pending = step, scalars, waited

    def _deliver(self) -> None:
        if self._pending is None:
            return
        step, on_devices, waited = self._pending
        self._pending = None
        scalars = self._way.fetch_scalars(on_devices)
        self._for_each(lambda row, run: run.record(step, scalars[row], waited))

    def keep(self, step: int, state: Any, *, evaluates: bool) -> None:
        """Evaluates every trial where it is due, and starts to save it."""
        self._deliver()
        states = list(self._way.fetch(state))

        def keep(row: int, run: Run) -> None:
            own = replicate(states[row], run.experiment.shardings)
            run.keep(step, own, evaluates=evaluates)

        self._for_each(keep)

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
                console.print(self.failures[run.workdir], markup=False)
        if len(self.failures) == len(self._runs):
            raise NonFiniteLossError(next(iter(self.failures.values())))


def _print_header(members: Sequence[Member], way: Way, start: int) -> None:
    plan = members[0].experiment.plan
    numbers = varying([member.config for member in members])
    differ = [f"{section}.{key}" for section, keys in numbers.items() for key in keys]
    if len(distinct([member.seed for member in members])) > 1:
        differ.append("train.seed")
    facts = {
        "trials": f"{len(members)} through {way.describe()}",
        "differ in": ", ".join(differ) or "nothing",
        "steps": f"{plan.total} of {plan.batch_size} images each",
    }
    if start:
        facts["resumes at"] = f"step {start}"
    print_header("unet_jax", facts)
