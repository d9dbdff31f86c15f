"""Makes the table of variants in docs/guide/models.md: parameters, FLOPs, memory, speed, start-up.

python -m experiments.bench.variants --features=16,32,64,128,256 --size=128 --batch=8

Every variant of `unet_jax.models.variants` takes the same channels per level, but those with an
encoder or a paper of their own. FLOPs and memory are those of XLA's analysis. The
start is tracing and compiling the training step: with an empty compilation cache, and again with
the one that the first left, as in a second run.
"""

import os
import statistics
import tempfile
import time
from typing import Any

from absl import app, flags, logging

from unet_jax.process import runtime

FEATURES = flags.DEFINE_list("features", ["16", "32", "64", "128", "256"], "Channels per level.")
SIZE = flags.DEFINE_integer("size", 128, "H and W.", lower_bound=16)
BATCH = flags.DEFINE_integer("batch", 8, "Images per step.", lower_bound=1)
CLASSES = flags.DEFINE_integer("classes", 3, "K.", lower_bound=2)
STEPS = flags.DEFINE_integer("steps", 5, "Timed steps; the median counts.", lower_bound=1)
ONLY = flags.DEFINE_list("only", [], "Names of variants; empty for all.")

HEADINGS = (
    "variant", "parameters", "GFLOPs per image, forward", "memory of a training step, MiB",
    "training, images/s", "inference, images/s", "start, s", "start again, s",
)  # fmt: skip


def fields_of(variant: str) -> dict[str, Any]:
    """Returns the arguments of a variant's model, at the channels asked for."""
    from unet_jax.models.variants import VARIANTS, section

    has_own = "encoder" in VARIANTS[variant]
    features = {} if has_own else {"features": tuple(map(int, FEATURES.value))}
    return section(variant, **features)


def measure(variant: str) -> list[str]:
    """Compiles and runs a variant.

    Args:
        variant: A key of `variants.VARIANTS`.

    Returns:
        The cells of its row.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from unet_jax.models.anatomy import forward_flops
    from unet_jax.models.unet import UNet

    model = UNet(CLASSES.value, **fields_of(variant))
    side = SIZE.value
    if model.padding == "valid":
        side = model.axis_path().nearest_sizes(side, 1)[0]
    image = jax.random.normal(jax.random.key(0), (BATCH.value, side, side, 3))
    variables = jax.jit(lambda x: model.init(jax.random.key(1), x, train=False))(image[:1])
    params = variables["params"]
    rest = {"batch_stats": variables.get("batch_stats", {})}

    def loss(params: Any, image: jax.Array) -> tuple[jax.Array, Any]:
        logits, updated = model.apply(
            {"params": params, **rest},
            image,
            train=True,
            rngs={"dropout": jax.random.key(2)},
            mutable=["batch_stats", "deep_supervision"],
        )
        label = jnp.zeros(logits.shape[:-1], jnp.int32)
        heads = [logits, *jax.tree.leaves(updated.get("deep_supervision", {}))]
        # Every head is computed and carries gradient, as in training.
        value = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        return value + sum(jnp.mean(jnp.square(head)) for head in heads[1:]), updated

    starts = []
    for _ in ("cold", "warm"):
        jax.clear_caches()
        began = time.perf_counter()
        gradient = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(params, image).compile()
        starts.append(time.perf_counter() - began)
    forward = (
        jax.jit(lambda v, x: model.apply(v, x, train=False))
        .lower({"params": params, **rest}, image)
        .compile()
    )
    memory: Any = gradient.memory_analysis()
    flops = forward_flops(model, {"params": params, **rest}, (1, side, side, 3))
    name = variant if side == SIZE.value else f"{variant} ({side}x{side})"
    return [
        name,
        f"{sum(x.size for x in jax.tree.leaves(params)):,}",
        f"{flops / 1e9:.2f}",
        f"{memory.temp_size_in_bytes / 2**20:,.0f}",
        f"{_rate(lambda: gradient(params, image)):.1f}",
        f"{_rate(lambda: forward({'params': params, **rest}, image)):.1f}",
        *(f"{seconds:.1f}" for seconds in starts),
    ]


def _rate(step: Any) -> float:
    import jax

    jax.block_until_ready(step())
    times = []
    for _ in range(STEPS.value):
        began = time.perf_counter()
        jax.block_until_ready(step())
        times.append(time.perf_counter() - began)
    return BATCH.value / statistics.median(times)


def main(argv: list[str]) -> None:
    """Prints the table as Markdown."""
    del argv
    logging.set_verbosity(logging.WARNING)  # without a line for every platform that is absent
    with tempfile.TemporaryDirectory() as empty:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = empty
        runtime.prepare()
        from unet_jax.models.variants import VARIANTS

        print(f"| {' | '.join(HEADINGS)} |")
        print("|---" * len(HEADINGS) + "|")
        for variant in ONLY.value or VARIANTS:
            print(f"| {' | '.join(measure(variant))} |", flush=True)


if __name__ == "__main__":
    runtime.use_huge_pages()
    app.run(main)
