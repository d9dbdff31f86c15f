"""Several trials as one program: their states side by side, split over the devices by trial."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from experiments.packing import program_of, varying
from unet_jax import workdir as run_dir
from unet_jax.augment import make_augment
from unet_jax.capacity import device_memory, write_bytes
from unet_jax.data.base import Source
from unet_jax.data.doctor import check
from unet_jax.data.images import resize_image, resize_label
from unet_jax.data.pipeline import train_batches
from unet_jax.data.sources import Loading
from unet_jax.errors import NonFiniteLossError, UserError
from unet_jax.experiment import Experiment, assemble
from unet_jax.logs import console, print_header
from unet_jax.losses import make_loss
from unet_jax.models.unet import UNet
from unet_jax.optim import make_optimizer
from unet_jax.run import Run
from unet_jax.sharding import replicate
from unet_jax.step import State, compiler_options, make_pure_step
from unet_jax.train import loop, write_run

MEMORY_SHARE = 0.9  # of a device's memory that a program may plan to use


class Member(NamedTuple):
    """A trial of a pack."""

    folder: Path
    config: ConfigDict
    experiment: Experiment


class Inputs(NamedTuple):
    """What differs between the trials of a pack, [T, ...] each, on the devices.

    Attributes:
        keys: Of the steps.
        order: Whose batch each trial takes: trials of one seed share theirs.
        numbers: By section and key; see `packing.NUMBERS`.
    """

    keys: jax.Array
    order: jax.Array
    numbers: dict[str, dict[str, Any]]


def train_packed(configs: Mapping[Path, ConfigDict], overrides: Mapping[Path, Any]) -> None:
    """Trains trials as one program, or as several, one after the other, where memory is short.

    Args:
        configs: The trials' configs by run directory; they must be alike but for numbers.
        overrides: What their configs change of the study's page, for the record.

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
                "one program; see experiments/packing.py, and train each by itself."
            )
    members = [Member(folder, config, assemble(config)) for folder, config in configs.items()]
    shared = members[0].experiment
    for split in ("train", "val"):
        check(shared.dataset.splits[split], split)
    sources = {
        "train": Remembered(shared.dataset.splits["train"], shared.loading),
        "val": Remembered(shared.dataset.splits["val"]),
    }
    # One compiled evaluation and one copy of the pictures for all.
    same = {
        "dataset": shared.dataset._replace(splits=sources),
        "init": shared.init,
        "eval_step": shared.eval_step,
    }
    members = [member._replace(experiment=member.experiment._replace(**same)) for member in members]
    for member in members:
        run_dir.check(member.folder, member.config, overwrite=False)
        run_dir.begin(member.folder, member.config, overwrite=False)
        write_run(member.experiment, member.folder, overrides[member.folder])
    size, failures = fitting(members), []
    for begin in range(0, len(members), size):
        failures += _train(members[begin : begin + size])
    if failures:
        raise NonFiniteLossError(f"{len(failures)} of {len(members)} trials: {failures[0]}")


def fitting(members: Sequence[Member]) -> int:
    """Compiles the step of all trials, and tells how many fit into the devices' memory.

    Args:
        members: The trials.

    Returns:
        Trials that can train at once, 1 or more.
    """
    step = PackedStep(members)
    found = step.compile(members).memory_analysis()
    if found is None:
        return len(members)
    limit = MEMORY_SHARE * device_memory()
    arguments, temporary = found.argument_size_in_bytes, found.temp_size_in_bytes
    each = (arguments + (temporary if step.is_vectorised else 0)) / step.per_device
    fixed = 0 if step.is_vectorised else temporary
    most = max(1, int((limit - fixed) // each)) * step.devices
    if most < len(members):
        text = f"{write_bytes(int(each))} a trial, {write_bytes(int(limit))} a device"
        console.print(f"{most} of {len(members)} trials train at once: {text}.")
    return most


class PackedStep:
    """The train step of several trials, over as many devices as divide them evenly."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Plans the step; nothing is compiled."""
        count = len(members)
        self.per_device = -(-count // jax.device_count())
        self.devices = -(-count // self.per_device)
        self.rows = self.per_device * self.devices  # the last trial again in what is left over
        mesh = jax.make_mesh(
            (self.devices,),
            ("trial",),
            axis_types=(AxisType.Auto,),
            devices=jax.devices()[: self.devices],
        )
        by_trial, whole = PartitionSpec("trial"), PartitionSpec()
        self.by_trial, self.whole = NamedSharding(mesh, by_trial), NamedSharding(mesh, whole)
        # Matrix units take trials side by side. CPUs have no fast form of convolutions whose
        # filters differ by trial, and one trial after the other keeps its activations in the cache.
        self.is_vectorised = jax.default_backend() != "cpu"
        self.numbers = varying([member.config for member in members])
        one = functools.partial(_step_of_one, members[0])

        def step(states: State, batches: Any, inputs: Inputs) -> Any:
            def each(own: tuple[State, Inputs]) -> Any:
                state, (key, order, numbers) = own
                batch = jax.tree.map(lambda x: x[order], batches)
                return one(numbers, state, batch, key)

            rows = (states, inputs)
            return jax.vmap(each)(rows) if self.is_vectorised else jax.lax.map(each, rows)

        sharded = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(by_trial, whole, by_trial),
            out_specs=by_trial,
            check_vma=False,
        )
        options = compiler_options(members[0].experiment.model)
        self._step = jax.jit(sharded, donate_argnums=0, compiler_options=options)

    def __call__(self, states: State, batches: Any, inputs: Any) -> Any:
        """Takes a step of every trial; see `step.make_pure_step`."""
        return self._step(states, batches, inputs)

    def stack(self, trees: Sequence[Any]) -> Any:
        """Puts the trials' trees side by side on the devices."""
        rows = [*trees, *[trees[-1]] * (self.rows - len(trees))]
        stacked = jax.tree.map(lambda *x: np.stack(x), *jax.device_get(rows))
        return jax.device_put(stacked, self.by_trial)

    def inputs(self, members: Sequence[Member]) -> Inputs:
        """Returns what differs between the trials."""
        seeds = [member.experiment.plan.seed for member in members]
        order = [distinct(seeds).index(seed) for seed in seeds]
        step_keys = [jax.random.key_data(jax.random.split(jax.random.key(s))[1]) for s in seeds]
        numbers = [
            jax.tree.map(
                np.float32,
                {s: {k: v[row] for k, v in keys.items()} for s, keys in self.numbers.items()},
            )
            for row in range(len(members))
        ]
        keys, order, numbers = self.stack(
            list(zip(step_keys, np.array(order, np.int32), numbers, strict=True))
        )
        return Inputs(jax.random.wrap_key_data(keys), order, numbers)

    def compile(self, members: Sequence[Member]) -> Any:
        """Compiles the step without states or pictures; returns the `jax.stages.Compiled`."""
        e = members[0].experiment
        states = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((self.rows, *x.shape), x.dtype, sharding=self.by_trial),
            e.state_shapes,
        )
        seeds = distinct([member.experiment.plan.seed for member in members])
        shape = (len(seeds), e.plan.batch_size, *e.loading.image_size)
        shapes = {"image": (*shape, 3), "label": shape, "weight": shape}
        batch = {
            key: jax.ShapeDtypeStruct(shape, np.uint8, sharding=self.whole)
            for key, shape in shapes.items()
        }
        return self._step.lower(states, batch, self.inputs(members)).compile()


def _step_of_one(
    member: Member, numbers: dict[str, dict[str, Any]], state: State, batch: Any, key: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    """Takes one trial's step; its config is the member's but for some numbers, which are traced."""
    e = member.experiment
    sections = {
        name: {**member.config[name].to_dict(), **numbers.get(name, {})}
        for name in ("model", "loss", "augment", "optim")
    }
    classes = {"num_classes": len(e.dataset.class_names)}
    steps = {"total_steps": e.plan.total, "epoch_steps": e.plan.epoch_steps}
    optimizer, schedule = make_optimizer(**sections["optim"], **steps)
    step = make_pure_step(
        UNet(**sections["model"], **classes),
        make_loss(**sections["loss"], **classes),
        optimizer,
        schedule,
        make_augment(**sections["augment"]),
    )
    return step(state, batch, key)


def _train(members: Sequence[Member]) -> list[str]:
    """Trains trials at once; returns what failed."""
    runs = [Run(member.experiment, member.folder) for member in members]
    plan = members[0].experiment.plan
    start = common_start([set(run.checkpoints.all_steps()) for run in runs])
    step = PackedStep(members)
    seeds = [member.experiment.plan.seed for member in members]
    init_keys = [jax.random.split(jax.random.key(seed))[0] for seed in seeds]
    states = step.stack(
        [run.begin_state(start, key) for run, key in zip(runs, init_keys, strict=True)]
    )
    _print_header(members, step, start)
    batches = _batches(members[0].experiment, distinct(seeds), start, step.whole)
    with Pack(runs, start) as pack:
        loop(pack, plan, start, states, step, batches, step.inputs(members))
        results = pack.results()
    for run, result in results.items():
        run_dir.write_results(run.workdir, **result)
    return list(pack.failures.values())


def common_start(steps: Sequence[set[int]]) -> int:
    """Returns the latest step that every trial has a checkpoint of; 0 where there is none."""
    return max(set.intersection(*steps), default=0)


def distinct(seeds: Sequence[int]) -> list[int]:
    """Returns the different seeds, in the order they come."""
    return list(dict.fromkeys(seeds))


def _batches(
    e: Experiment, seeds: Sequence[int], start: int, where: NamedSharding
) -> Iterator[dict[str, jax.Array]]:
    """Yields the batches [S, B, ...] of S seeds, on the devices."""
    order = {"batch_size": e.plan.batch_size, "start": start, "stop": e.plan.total}
    source, loading = e.dataset.splits["train"], e.loading
    streams = [train_batches(source, loading, **order, seed=seed) for seed in seeds]
    for together in zip(*streams, strict=True):
        stacked = {key: np.stack([batch[key] for batch in together]) for key in together[0]}
        yield jax.device_put(stacked, where)


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

    def __init__(self, runs: Sequence[Run], start: int) -> None:
        """Takes the runs, and the steps they have taken."""
        self._runs, self._start = list(runs), start
        self._pending: tuple[int, dict[str, jax.Array], float] | None = None
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

    def record(self, step: int, scalars: dict[str, Any], waited: float) -> None:
        """Takes the scalars [T] of a step just dispatched, and hands on those of the one before."""
        self._deliver()
        self._pending = step, scalars, waited

    def _deliver(self) -> None:
        if self._pending is None:
            return
        step, on_devices, waited = self._pending
        self._pending = None
        scalars = jax.device_get(on_devices)
        self._for_each(
            lambda row, run: run.record(step, {k: x[row] for k, x in scalars.items()}, waited)
        )

    def keep(self, step: int, state: State, *, evaluates: bool) -> None:
        """Evaluates every trial where it is due, and starts to save it."""
        self._deliver()
        host = jax.device_get(state)

        def keep(row: int, run: Run) -> None:
            own = replicate(jax.tree.map(lambda x: x[row], host), run.experiment.shardings)
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


def _print_header(members: Sequence[Member], step: PackedStep, start: int) -> None:
    plan = members[0].experiment.plan
    differ = [f"{s}.{key}" for s, keys in step.numbers.items() for key in keys]
    seeds = distinct([member.experiment.plan.seed for member in members])
    facts = {
        "trials": f"{len(members)} as one program, {step.per_device} on each of {step.devices} "
        "devices",
        "differ in": ", ".join([*differ, *(["train.seed"] if len(seeds) > 1 else [])]) or "nothing",
        "steps": f"{plan.total} of {plan.batch_size} images each",
    }
    if start:
        facts["resumes at"] = f"step {start}"
    print_header("unet_jax", facts)
