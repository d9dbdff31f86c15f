"""One side of `against_torch`: makes a step, then runs it as often as each line of input says.

python -m experiments.bench.workers SIDE TASK WIDTH SIZE BATCH DTYPE

SIDE is "jax", "jax:xla" without kernels of our own, or "torch" with a memory format and a mode,
such as "torch:channels_last:compiled".
Writes "ready SECONDS", the time to the end of the first step, then the seconds of every step of a
turn as a line of JSON. A process that waits for a line leaves the cores to the other side. A turn
begins with a step that is not timed: caches are cold then, and a virtual machine may have given the
memory of a process that slept back to its host.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

CLASSES = 3


def levels(width: int) -> tuple[int, ...]:
    """Returns the features of every level."""
    return tuple(width * 2**level for level in range(5))


class Train(NamedTuple):
    """The project's own compiled step, and what goes into it.

    Attributes:
        step: See `step.make_train_step`.
        state: The initial state, which the first step takes.
        batch: Images, labels and weights.
        key: Of the steps.
    """

    step: Any
    state: Any
    batch: Any
    key: Any


def make_train(
    width: int, size: int, batch: int, dtype: str, augment: dict[str, Any] | None = None
) -> Train:
    """Makes the project's own train step, as `torch_step` has it.

    Args:
        width: F of level 0.
        size: H and W.
        batch: B.
        dtype: Of convolutions.
        augment: Steps of the augmentation; see `augment.make.make_augment`.

    Returns:
        The step, compiled when it is called first.
    """
    import jax
    import jax.numpy as jnp

    from unet_jax.augment.make import make_augment
    from unet_jax.data.sample import RGB
    from unet_jax.losses.make import make_loss
    from unet_jax.models.unet import UNet
    from unet_jax.optim.make import make_optimizer
    from unet_jax.sharding import make_shardings
    from unet_jax.step import make_init, make_train_step
    from unet_jax.task import Exclusive

    model = UNet(CLASSES, levels(width), dtype=dtype)
    shardings = make_shardings(data=1)
    optimizer = make_optimizer(
        "adamw", 1e-3, schedule="constant", clip_norm=0.0, ema_decay=0.0, total_steps=1000,
        epoch_steps=1.0,
    )  # fmt: skip
    image = jax.random.randint(jax.random.key(0), (batch, size, size, 3), 0, 256, jnp.uint8)
    label = jax.random.randint(jax.random.key(1), (batch, size, size), 0, CLASSES, jnp.uint8)
    state = make_init(model, optimizer, (size, size, 3), shardings)(jax.random.key(2))
    steps = make_augment(augment or {}, RGB.value_range)
    loss = make_loss({"cross_entropy": {}}, Exclusive(("a", "b", "c")))
    step = make_train_step(model, loss, optimizer, steps, shardings, state)
    data = {"image": image, "label": label, "weight": jnp.ones_like(label)}
    return Train(step, state, data, jax.random.key(3))


def make_forward(train: Train, width: int, dtype: str) -> Any:
    """Makes the compiled forward pass of evaluation, (variables, images) -> logits.

    Args:
        train: Of `make_train`, for its variables and images.
        width: See `make_train`.
        dtype: See `make_train`.

    Returns:
        The `jax.stages.Compiled`.
    """
    import jax

    from unet_jax.augment.scale import standardise, to_unit
    from unet_jax.data.sample import RGB
    from unet_jax.models.unet import UNet

    model = UNet(CLASSES, levels(width), dtype=dtype)

    def forward(variables: Any, image: jax.Array) -> Any:
        return model.apply(variables, standardise(to_unit(image, RGB.value_range)), train=False)

    return jax.jit(forward).lower(train.state.eval_variables(), train.batch["image"]).compile()


def jax_step(task: str, width: int, size: int, batch: int, dtype: str) -> Callable[[], object]:
    """Makes the project's own compiled step; see `torch_step`."""
    from unet_jax.process import runtime

    runtime.use_huge_pages()
    runtime.prepare()
    import jax

    step, state, data, key = train = make_train(width, size, batch, dtype)
    if task == "inference":
        forward, variables = make_forward(train, width, dtype), state.eval_variables()
        return lambda: jax.block_until_ready(forward(variables, data["image"]))

    def run() -> object:
        nonlocal state
        state, scalars = step(state, data, key)
        return jax.device_get(scalars)

    return run


def torch_step(
    task: str, width: int, size: int, batch: int, dtype: str, form: str, mode: str
) -> Callable[[], object]:
    """Makes a training step or a forward pass.

    Args:
        task: "training" (cross-entropy, AdamW) or "inference".
        width: F of level 0.
        size: H and W.
        batch: B.
        dtype: "float32", or "bfloat16" for autocast.
        form: "contiguous" or "channels_last".
        mode: "eager" or "compiled".

    Returns:
        A function that runs one step and waits for its end.
    """
    import torch

    from experiments.bench.torch_unet import UNet

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if form == "channels_last" else torch.contiguous_format
    model = UNet(width, CLASSES).to(device, memory_format=layout)
    forward = torch.compile(model) if mode == "compiled" else model
    image = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    label = torch.randint(0, CLASSES, (batch, size, size), device=device)
    image = image.contiguous(memory_format=layout)
    cast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def logits() -> torch.Tensor:
        with cast:
            return forward((image.float() / 255 - 0.5) / 0.25)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if task == "inference":
        model.eval()

        def infer() -> None:
            with torch.inference_mode():
                logits()
            wait()

        return infer
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(logits().float(), label)
        loss.backward()
        optimizer.step()
        return loss.item()

    return train


def main(side: str, task: str, width: str, size: str, batch: str, dtype: str) -> None:
    """Serves turns until the input ends."""
    began = time.perf_counter()
    name, *form = side.split(":")
    given = task, int(width), int(size), int(batch), dtype
    if name == "jax":
        os.environ |= {"UNET_JAX_KERNELS": "0"} if form else {}
        step = jax_step(*given)
    else:
        step = torch_step(*given, *form)
    step()
    print("ready", time.perf_counter() - began, flush=True)
    for line in sys.stdin:
        step()
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
