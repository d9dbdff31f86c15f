"""Holds the train step against that of another checkout, at states along a run of that one.

git worktree add ../before 77b9dc1
python -m experiments.bench.gradients --other=../before

The other checkout trains every variant on small images and keeps states, batches, losses and
gradients; this one takes a step from each of the states. Shown are the largest differences,
relative and of gradients in norm: of this checkout and of the other with the images of a batch in
reverse order, which changes the order of sums alone, from the other; and of all three from this
checkout's step in float64, with how many states are off by more than 1e-5. At a kink of relu or
max pooling rounding decides on which side a pixel is, and one that is on another side moves the
gradient by as much as 1e-2. Gelu and average pooling have no kinks, but attention gates,
squeeze-excitation and ResNets keep their own relu: a row has kinks where the other checkout is off
from itself. The last line counts the states of those rows that are off from float64; the exit code
is 1 where this checkout has more of them than chance explains, or a difference without kinks.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
FORMS = {
    "smooth": {"activation": "gelu", "pool": "average"},
    "kinks": {"activation": "relu", "pool": "max"},
}
LOSS, GRADIENT = 1e-6, 1e-5  # relative differences that are allowed, the latter without kinks
BATCH, CLASSES = 4, 6  # images in a step; classes, of configs/shapes.py

Arrays = dict[str, Any]


class Case(NamedTuple):
    """What is compared.

    Attributes:
        variant: A key of `VARIANTS`.
        form: A key of `FORMS`.
        states: How many.
        every: Steps from one to the next.
    """

    variant: str
    form: str
    states: int
    every: int


Act = Callable[[Case, Path], None]


def make(case: Case, dtype: str = "float32") -> tuple[Any, int]:
    """Assembles the imported checkout's experiment, in whose steps nothing is drawn; its side."""
    from configs import shapes
    from unet_jax.experiment import assemble

    config = shapes.get_config(case.variant)
    for section in (config.augment, *config.augment.values()):
        for key, value in section.items() if hasattr(section, "items") else ():
            if isinstance(value, bool):
                section[key] = False
    config.model.update({**FORMS[case.form], "dropout": (), "dtype": dtype})
    config.data.synthetic.update(train=64, val=8)
    config.train.batch_size, config.mesh.data = BATCH, 1
    config.optim.update(name="sgd", learning_rate=0.05, schedule="constant", warmup="0")
    config.optim.update(weight_decay=0.0, clip_norm=0.0, ema_decay=0.0)
    return assemble(config), config.data.image_size[0]


def batches(side: int, count: int) -> Iterator[Arrays]:
    """Yields batches of noisy rectangles, one of each class on the others."""
    for step in range(count):
        random = np.random.default_rng(step)
        label = np.zeros((BATCH, side, side), np.uint8)
        for image in range(BATCH):
            for kind in random.permutation(CLASSES - 1) + 1:
                top, left, height, width = random.integers(side // 2, size=4)
                label[image, top : top + height, left : left + width] = kind
        colours = 40 * label[..., None] + random.integers(56, size=(*label.shape, 3))
        weight = np.ones(label.shape, np.uint8)
        yield {"image": colours.astype(np.uint8), "label": label, "weight": weight}


def take(experiment: Any, state: Any, batch: Mapping[str, np.ndarray]) -> tuple[Any, Arrays]:
    """Takes a step from a state, which is kept; returns the next, and {"loss", "gradient"}."""
    import jax
    import jax.numpy as jnp

    # With no momentum yet, what the optimiser keeps after the step is the gradient.
    fresh = jax.tree.map(jnp.zeros_like, state.opt_state)
    state = jax.tree.map(jnp.copy, state).replace(opt_state=fresh)
    after, scalars = experiment.train_step(state, dict(batch), jax.random.key(1))
    kept = [x for x in jax.tree.leaves(after.opt_state) if jnp.issubdtype(x.dtype, jnp.floating)]
    gradient = np.concatenate([np.asarray(x, np.float64).ravel() for x in kept])
    return after, {"loss": np.float64(scalars["train/loss"]), "gradient": gradient}


def walk(case: Case, folder: Path) -> None:
    """Trains, and writes what it was at each of the states."""
    import jax

    experiment, side = make(case)
    state = experiment.init(jax.random.key(0))
    for step, batch in enumerate(batches(side, case.states * case.every)):
        after, found = take(experiment, state, batch)
        if step % case.every == 0:
            _, turned = take(experiment, state, {key: x[::-1] for key, x in batch.items()})
            given = {f"batch/{key}": x for key, x in batch.items()} | _leaves(state)
            own = {f"turned/{key}": x for key, x in turned.items()} | found
            np.savez(folder / f"{step // case.every}.npz", **given, **own)
        state = after


def follow(case: Case, folder: Path) -> None:
    """Takes a step from each of the states that `walk` wrote."""
    _follow(case, folder, "float32")


def follow_exactly(case: Case, folder: Path) -> None:
    """Does what `follow` does in float64, of a package that is not imported yet."""
    import jax
    import jax.numpy as jnp

    jnp.float32 = jnp.float64  # what the package asks for where it asks for float32
    from unet_jax.models import rules

    rules.CHOICES["dtype"] = ("float64",)
    jax.config.update("jax_enable_x64", True)
    _follow(case, folder, "float64")


def _follow(case: Case, folder: Path, dtype: str) -> None:
    import jax

    experiment, _ = make(case, dtype)
    shapes = jax.eval_shape(experiment.init, jax.random.key(0))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    for index in range(case.states):
        kept = _read(folder / f"{index}.npz")
        names = [name for name in kept if name.startswith("state/")]
        if sorted(names) != sorted(_leaves(zeros)):
            raise SystemExit(f"{case.variant}: the two checkouts name the parameters otherwise.")
        values = [kept[name].astype(dtype) for name in _leaves(zeros)]
        own = (zeros.params, zeros.batch_stats)
        params, stats = jax.tree.unflatten(jax.tree.structure(own), values)
        batch = {key.removeprefix("batch/"): kept[key] for key in kept if key.startswith("batch/")}
        _, found = take(experiment, zeros.replace(params=params, batch_stats=stats), batch)
        np.savez(folder / f"{index}_{dtype}.npz", **found)


def _leaves(state: Any) -> Arrays:
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path((state.params, state.batch_stats))
    return {f"state/{jax.tree_util.keystr(path)}": np.asarray(leaf) for path, leaf in leaves}


def _read(file: Path) -> Arrays:
    with np.load(file) as arrays:
        return dict(arrays)


def _apart(one: Arrays, other: Arrays) -> tuple[float, float]:
    """Returns by how much the loss and the gradient differ, relative to the other's."""
    gradient = np.linalg.norm(one["gradient"] - other["gradient"])
    size = np.linalg.norm(other["gradient"])
    return abs(float(one["loss"] / other["loss"]) - 1), float(gradient / size)


class Row(NamedTuple):
    """What was found of a case.

    Attributes:
        has_kinks: Whether rounding alone moves the gradient by more than `GRADIENT`.
        is_kept: Whether the loss, and without kinks the gradient, keep their bounds.
        off: States whose gradient is off from float64: of this checkout, of the other, of the other
            in reverse order.
    """

    has_kinks: bool
    is_kept: bool
    off: np.ndarray


def compare(case: Case, other: Path) -> Row:
    """Compares one case and prints its row."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for act, checkout in ((walk, other), (follow, ROOT), (follow_exactly, ROOT)):
            _call(act, checkout, case, folder)
        for index in range(case.states):
            kept = _read(folder / f"{index}.npz")
            turned = {key: kept[f"turned/{key}"] for key in ("loss", "gradient")}
            ours, exact = (_read(folder / f"{index}_float{bits}.npz") for bits in (32, 64))
            pairs = [(ours, kept), (turned, kept), (ours, exact), (kept, exact), (turned, exact)]
            found.append([_apart(*pair) for pair in pairs])
    losses, gradients = np.moveaxis(np.array(found), 2, 0)
    loss, (gradient, turned, *exact) = losses[:, 0].max(), gradients.max(0)
    off = np.sum(gradients[:, 2:] > GRADIENT, 0)
    has_kinks = case.form == "kinks" or bool(turned > GRADIENT)
    is_kept = bool(loss <= LOSS and (has_kinks or gradient <= GRADIENT))
    values = [f"{x:.1e}" for x in (loss, gradient, turned)]
    values += [f"{x:.1e} ({count})" for x, count in zip(exact, off, strict=True)]
    print("|", " | ".join((case.variant, case.form, *values)), "|", flush=True)
    return Row(has_kinks, is_kept, off)


def judge(rows: Sequence[Row], states: int) -> int:
    """Prints what all rows come to; returns the exit code."""
    bad, kinks = sum(not row.is_kept for row in rows), [row.off for row in rows if row.has_kinks]
    ours, other, turned = np.sum(kinks, 0) if kinks else (0, 0, 0)
    most = max(other, turned)
    is_more = ours > most + 2 * np.sqrt(ours + most)  # two standard deviations of the difference
    print(
        f"{bad} of {len(rows)} rows beyond {LOSS:.0e} of the loss or, without kinks, "
        f"{GRADIENT:.0e} of the gradient; off from float64 at {len(kinks) * states} states with "
        f"kinks: this {ours}, other {other}, turned {turned}"
    )
    return int(bad > 0 or is_more)


def _call(act: Act, checkout: Path, case: Case, folder: Path) -> None:
    """Has this file do something with a checkout's package."""
    # -P, since names of files beside this one are also those of Python's own modules.
    line = [sys.executable, "-P", __file__, act.__name__, *map(str, case), str(folder)]
    path = os.pathsep.join((str(checkout), os.environ.get("PYTHONPATH", "")))
    own = {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    if act is follow_exactly:
        own["UNET_JAX_KERNELS"] = "0"  # they are of float32
    subprocess.run(line, cwd=checkout, env=os.environ | own, check=True)


def main() -> int:
    """Does what the command line says; returns the exit code."""
    from unet_jax.models.variants import VARIANTS
    from unet_jax.process import runtime

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--other", type=Path, required=True, help="Folder of the other checkout.")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=tuple(VARIANTS))
    parser.add_argument("--states", type=int, default=20, help="How many of each run.")
    parser.add_argument("--every", type=int, default=2, help="Steps from one to the next.")
    options = parser.parse_args()
    runtime.prepare()
    columns = ("loss", "gradient", "turned", "float64: this", "other", "turned")
    print("|", " | ".join(("variant", "form", *columns)), "|")
    print("|---" * (2 + len(columns)), "|", sep="")
    sizes = options.states, options.every
    cases = [Case(variant, form, *sizes) for variant in options.variants for form in FORMS]
    return judge([compare(case, options.other.resolve()) for case in cases], options.states)


ACTS = {act.__name__: act for act in (walk, follow, follow_exactly)}


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ACTS:
        name, variant, form, states, every, folder = sys.argv[1:]
        ACTS[name](Case(variant, form, int(states), int(every)), Path(folder))
    else:
        sys.exit(main())
