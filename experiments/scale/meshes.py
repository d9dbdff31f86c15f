"""Compares meshes with one device: losses, gradients, counts, collectives and bytes per device.

python -m experiments.scale.meshes --variants=modern,residual

Every mesh takes one step of the train step, on images and on volumes, and evaluates the same ones;
eight devices are forced out of the CPU. The step is plain gradient descent at rate 1, so
that the parameters move by the gradient, whose difference is in norm, relative to the norm of the
whole. What float32 rounding alone does shows the first row: one device with the same images in
the opposite order. Nothing may be gathered but parameters that are split, and nothing larger than
the largest of them. Rows "by parts" have the step that several processes take, see
`sharding.by_parts`: each normalisation gathers what it has summed forward and backward.

Max pooling and relu choose between numbers, and where two of them are equal up to rounding the
choice can fall the other way: one such choice in a million moves the gradient by a thousandth, on
one device as on many. So they are replaced by average pooling and gelu unless --nosmooth is given.
"""

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from absl import app, flags, logging

from unet_jax.process import runtime

VARIANTS = flags.DEFINE_list("variants", ["modern"], "Names of variants, or all.")
FEATURES = flags.DEFINE_list("features", ["16", "32", "64"], "Channels per level.")
SMOOTH = flags.DEFINE_bool("smooth", True, "Average pooling and gelu in place of max and relu.")
DIMENSIONS = flags.DEFINE_list("dimensions", ["2", "3"], "2 for images, 3 for volumes.")
ONLY = flags.DEFINE_list("meshes", [], "DATAxFSDPxSPACE, such as 2x2x2; empty for all.")

MESHES = (
    (2, 1, 1), (4, 1, 1), (8, 1, 1), (1, 2, 1), (1, 4, 1), (1, 8, 1),
    (1, 1, 2), (1, 1, 4), (1, 1, 8), (2, 2, 2),
)  # fmt: skip
BY_PARTS = ((2, 1, 1), (8, 1, 1))
SIZES = {2: (64, 48), 3: (32, 16, 16)}
CLASSES, BATCH = 3, 8
COLLECTIVES = ("all-reduce", "reduce-scatter", "collective-permute", "all-to-all", "all-gather")


class Found(NamedTuple):
    """What a mesh gave.

    Attributes:
        loss: Of the step.
        gradient: All entries, one after the other.
        confusion: int [N, K, K] of the evaluation.
        collectives: How many of each are in the compiled step.
        gathered: Numbers in the largest array that is gathered; 0 for none.
        state_bytes: Parameters and optimiser's state per device.
        temporary_bytes: Activations and other temporaries per device.
        largest_split: Numbers in the largest parameter that is split; 0 for none.
    """

    loss: float
    gradient: np.ndarray
    confusion: np.ndarray
    collectives: dict[str, int]
    gathered: int
    state_bytes: int
    temporary_bytes: int
    largest_split: int


def measure(
    variant: str,
    dimensions: int,
    mesh: tuple[int, int, int],
    *,
    turned: bool = False,
    by_parts: bool = False,
) -> Found:
    """Takes a step and evaluates on a mesh.

    Args:
        variant: A key of `variants.VARIANTS`.
        dimensions: 2 or 3.
        mesh: Devices of "data", "fsdp" and "space".
        turned: Whether the images of the batch come in the opposite order.
        by_parts: Whether the step is that of several processes.

    Returns:
        What was found.
    """
    import jax

    from unet_jax import step as steps
    from unet_jax.augment.make import make_augment
    from unet_jax.data.sources import Loading
    from unet_jax.data.synthetic import open_synthetic
    from unet_jax.evaluate import evaluate
    from unet_jax.losses.make import make_loss
    from unet_jax.models.unet import UNet
    from unet_jax.models.variants import section
    from unet_jax.optim.make import make_optimizer
    from unet_jax.predict.eval_step import evaluation
    from unet_jax.predict.predictor import Predictor
    from unet_jax.sharding import check_height, make_shardings, put_batch, replicate
    from unet_jax.step import make_init
    from unet_jax.task import Exclusive

    shardings, size = make_shardings(*mesh), SIZES[dimensions]
    sides = {2: 40, 3: 20}
    source = {"train": 8, "val": 10, "test": 8, "shapes": 2, "seed": 0, "axes": dimensions}
    images = open_synthetic(**source, size=sides[dimensions]).splits["val"]
    spec = images.spec
    features = tuple(map(int, FEATURES.value))
    fields = section(variant, features=features, dimensions=dimensions)
    fields |= {"dropout": (), "stochastic_depth": 0.0}
    if SMOOTH.value:
        pool = "average" if fields["pool"] == "max" else fields["pool"]
        fields |= {"activation": "gelu", "pool": pool}
    task = Exclusive(("a", "b", "c"))
    model = UNet(CLASSES, **fields)
    check_height(size[0], model.multiple(), model.padding, shardings)
    optimizer = make_optimizer(
        "sgd", 1.0, schedule="constant", warmup="0", momentum=0.0, weight_decay=0.0,
        clip_norm=0.0, total_steps=10, epoch_steps=1.0,
    )  # fmt: skip
    state = make_init(model, optimizer, (*size, spec.channels), shardings)(jax.random.key(0))
    before = jax.device_get(replicate(state.params, shardings))
    parts = (model, make_loss({"cross_entropy": {}, "dice": {}}, task), optimizer)
    parts += make_augment({}, spec.value_range), shardings, state
    with mock.patch.object(steps, "goes_by_parts", return_value=by_parts):
        step: Any = steps.make_train_step(*parts)
    rng = np.random.default_rng(0)
    values = int(spec.value_range[1]) + 1
    image = rng.integers(0, values, (BATCH, *size, spec.channels)).astype(spec.dtype)
    weight = (rng.random(image.shape[:-1]) < 0.8).astype(np.uint8)
    label = (image[..., 0] * float(CLASSES) / values).astype(np.uint8)
    arrays = {"image": image, "label": label, "weight": weight}
    batch = put_batch({k: v[::-1] if turned else v for k, v in arrays.items()}, shardings)
    key = replicate(jax.random.key(1), shardings)
    compiled = step.lower(state, batch, key).compile()
    split = [x.size for x in jax.tree.leaves(state.params) if not x.sharding.is_fully_replicated]
    state_bytes = sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))
    loading = Loading(size, "resize", 2)
    predictor = Predictor(model, spec, loading, shardings, evaluation(task))
    found = evaluate(predictor, state.eval_variables(), images, batch_size=BATCH)
    confusion = found.counts["overlap/confusion"]
    state, scalars = compiled(state, batch, key)
    after = jax.device_get(replicate(state.params, shardings))
    moved = jax.tree.map(lambda a, b: np.ravel(np.float64(a) - b), before, after)
    text = compiled.as_text()
    return Found(
        loss=float(scalars["train/loss"]),
        gradient=np.concatenate(jax.tree.leaves(moved)),
        confusion=confusion,
        collectives={name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES},
        gathered=max(_gathered(text), default=0),
        state_bytes=state_bytes,
        temporary_bytes=compiled.memory_analysis().temp_size_in_bytes,
        largest_split=max(split, default=0),
    )


def _gathered(text: str) -> Iterator[int]:
    """Yields how many numbers each all-gather of a compiled program makes."""
    for shape in re.findall(r"= \(?\w+\[([\d,]*)\]\S* all-gather(?:-start)?\(", text):
        yield int(np.prod([int(n) for n in shape.split(",") if n] or [1]))


def row(name: str, found: Found, one: Found) -> list[str]:
    """Writes what a mesh gave as the cells of a row.

    Args:
        name: Of the mesh.
        found: What it gave.
        one: What one device gave.

    Returns:
        The cells.
    """
    difference = np.linalg.norm(found.gradient - one.gradient) / np.linalg.norm(one.gradient)
    differs = int(np.sum(found.confusion != one.confusion))
    return [
        name,
        f"{abs(found.loss - one.loss) / one.loss:.1e}",
        f"{difference:.1e}",
        f"{differs}",
        *(f"{found.collectives[kind]}" for kind in COLLECTIVES),
        f"{found.gathered:,} of {found.largest_split:,}",
        f"{found.state_bytes / 2**20:.2f}",
        f"{found.temporary_bytes / 2**20:.1f}",
    ]


HEADINGS = (
    "data x fsdp x space", "loss", "gradient", "counts that differ", *COLLECTIVES,
    "largest gathered", "state, MiB per device", "activations, MiB per device",
)  # fmt: skip


def main(argv: list[str]) -> None:
    """Prints a table per variant and number of dimensions, as Markdown."""
    del argv
    logging.set_verbosity(logging.WARNING)
    flag = "--xla_force_host_platform_device_count=8"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    runtime.prepare()
    from unet_jax.models.variants import VARIANTS as KNOWN

    meshes = [mesh for mesh in MESHES if not ONLY.value or "x".join(map(str, mesh)) in ONLY.value]
    for variant in KNOWN if VARIANTS.value == ["all"] else VARIANTS.value:
        for dimensions in map(int, DIMENSIONS.value):
            print(f"\n{variant}, {BATCH} x {SIZES[dimensions]}\n")
            print(f"| {' | '.join(HEADINGS)} |")
            print("|---" * len(HEADINGS) + "|")
            one = measure(variant, dimensions, (1, 1, 1))
            other = measure(variant, dimensions, (1, 1, 1), turned=True)
            print(f"| {' | '.join(row('1 x 1 x 1, turned', other, one))} |", flush=True)
            for mesh in meshes:
                found = measure(variant, dimensions, mesh)
                print(f"| {' | '.join(row(' x '.join(map(str, mesh)), found, one))} |", flush=True)
            for mesh in BY_PARTS:
                found = measure(variant, dimensions, mesh, by_parts=True)
                name = f"{' x '.join(map(str, mesh))}, by parts"
                print(f"| {' | '.join(row(name, found, one))} |", flush=True)


if __name__ == "__main__":
    app.run(main)
