"""The training state and the one train step: pure functions."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax
from jax.lax import with_sharding_constraint

from unet_jax.augment import Augment, standardise
from unet_jax.losses import Loss, crop_label, supervise, supervise_apart
from unet_jax.models.unet import UNet
from unet_jax.optim import Accumulation, Optimizer, averaged_params
from unet_jax.sharding import Shardings, replicate, split_state
from unet_jax.weights import Load


@flax.struct.dataclass
class State:
    """Everything that training changes.

    Attributes:
        step: int32, steps taken.
        params: Parameters, float32.
        batch_stats: Running statistics of batch normalisation; {} where there is none.
        opt_state: State of the optimiser, with the averaged parameters where they are kept.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    def eval_variables(self) -> dict[str, Any]:
        """Returns the variables to evaluate: averaged parameters where they are kept."""
        params = averaged_params(self.params, self.opt_state)
        return {"params": params, "batch_stats": self.batch_stats}


SOWN = ["batch_stats", "deep_supervision"]  # collections that a forward pass in training writes

Init = Callable[[jax.Array], State]
Step = Callable[[State, dict[str, jax.Array], jax.Array], tuple[State, dict[str, jax.Array]]]


def make_init(
    model: UNet,
    optimizer: Optimizer,
    image_size: tuple[int, int],
    shardings: Shardings,
) -> Init:
    """Makes the function that initialises the state on the devices.

    Args:
        model: The model.
        optimizer: The optimiser.
        image_size: (height, width) of training pictures.
        shardings: The mesh.

    Returns:
        init(key) -> State; under `jax.eval_shape` it gives shapes alone.
    """

    def init(key: jax.Array) -> State:
        variables = model.init(key, jnp.zeros((1, *image_size, 3)), train=False)
        params = variables["params"]
        batch_stats = variables.get("batch_stats", {})
        return State(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.jit(init, out_shardings=split_state(shapes, shardings))


def make_pretrained_init(
    init: Init, load: Load, optimizer: Optimizer, shardings: Shardings
) -> Init:
    """Makes an `init` that starts from loaded weights, the optimiser and its averages included.

    Args:
        init: Of `make_init`.
        load: Of `weights.make_pretrained`.
        optimizer: The optimiser.
        shardings: The mesh.

    Returns:
        init(key) -> State.

    Raises:
        UserError: The file cannot be read or does not fit the model.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    load({"params": shapes.params, "batch_stats": shapes.batch_stats})

    def begin(variables: dict[str, Any]) -> State:
        params = variables["params"]
        opt_state = optimizer.init(params)
        batch_stats = variables.get("batch_stats", {})
        return State(jnp.zeros((), jnp.int32), params, batch_stats, opt_state)

    def pretrained_init(key: jax.Array) -> State:
        state = init(key)
        variables = load({"params": state.params, "batch_stats": state.batch_stats})
        where = split_state(shapes, shardings)
        return jax.jit(begin, out_shardings=where)(replicate(variables, shardings))

    return pretrained_init


def abstract_state(init: Init, shardings: Shardings) -> State:
    """Describes the state without making it.

    Args:
        init: Of `make_init`.
        shardings: The mesh.

    Returns:
        The state's tree of `jax.ShapeDtypeStruct` with shardings.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        shapes,
        split_state(shapes, shardings),
    )


def make_pure_step(
    model: UNet,
    loss: Loss,
    optimizer: Optimizer,
    schedule: optax.Schedule,
    augment: Augment,
    *,
    whole: Callable[[Any], Any] = lambda tree: tree,
    split: Callable[[Any], Any] = lambda tree: tree,
) -> Step:
    """Makes the train step, a pure function that is not compiled yet.

    Args:
        model: The model.
        loss: Of `losses.make_loss`.
        optimizer: The optimiser.
        schedule: Its learning rate, for logging.
        augment: Of `augment.make_augment`.
        whole: Brings parameters whole to every device, before any convolution sees them.
        split: Brings gradients to where their parameters lie.

    Returns:
        train_step(state, batch, key) -> (state, scalars): augments with a key of this step, takes
        one step of the optimiser on the loss over the global batch, and returns float32 scalars
        "train/loss", "train/pixel_accuracy", "train/gradient_norm" and "learning_rate". All are of
        this batch alone, also where gradients are accumulated; the norm is that of the gradient of
        its loss, before clipping.
    """
    take_gradients = _gradients_by_head if isinstance(optimizer, Accumulation) else _gradients

    def train_step(
        state: State, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        # A key folded from the step, so that nothing random is carried or saved.
        step_key = jax.random.fold_in(key, state.step)
        image, label, weight = augment(batch["image"], batch["label"], batch["weight"], step_key)
        batch_stats = whole(state.batch_stats)
        rngs = {"dropout": jax.random.fold_in(step_key, 1)}

        def forward(params: Any) -> tuple[list[jax.Array], Any]:
            variables = {"params": whole(params), "batch_stats": batch_stats}
            outputs: Any = model.apply(
                variables, standardise(image), train=True, rngs=rngs, mutable=SOWN
            )
            logits, updated = outputs
            heads = [logits, *(head for (head,) in updated.get("deep_supervision", {}).values())]
            return heads, updated.get("batch_stats", {})

        targets = {"label": label, "weight": weight, "multiple": model.multiple()}
        found = take_gradients(forward, loss, targets, state.params, split)
        label, weight = crop_label(label, weight, found.logits.shape[1:-1])
        update: Any = optimizer.update
        updates, opt_state = update(*found.given, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        correct = jnp.sum(weight * (jnp.argmax(found.logits, axis=-1) == label))
        scalars = {
            "train/loss": found.loss,
            "train/pixel_accuracy": correct / jnp.maximum(jnp.sum(weight), 1.0),
            "train/gradient_norm": optax.tree.norm(found.gradient),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        return State(state.step + 1, params, found.batch_stats, opt_state), scalars

    return train_step


Forward = Callable[[Any], tuple[list[jax.Array], Any]]
Split = Callable[[Any], Any]


class Found(NamedTuple):
    """What a forward and a backward pass found.

    Attributes:
        loss: Scalar.
        logits: float32 [B, *n, K], of the first head.
        batch_stats: The running statistics after this batch.
        gradient: Of the loss.
        given: What the optimiser is given of gradients.
    """

    loss: jax.Array
    logits: jax.Array
    batch_stats: Any
    gradient: Any
    given: tuple[Any, ...]


def _gradients(
    forward: Forward, loss: Loss, targets: dict[str, Any], params: Any, split: Split
) -> Found:
    """Differentiates the loss of all heads at once."""

    def compute_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        heads, batch_stats = forward(params)
        return supervise(loss, heads, **targets), (heads[0], batch_stats)

    (value, (logits, batch_stats)), gradient = jax.value_and_grad(compute_loss, has_aux=True)(
        params
    )
    gradient = split(gradient)
    return Found(value, logits, batch_stats, gradient, (gradient,))


def _gradients_by_head(
    forward: Forward, loss: Loss, targets: dict[str, Any], params: Any, split: Split
) -> Found:
    """Differentiates what each head adds to the loss, for an `optim.Accumulation`."""

    def compute_loss(params: Any, head: int) -> tuple[jax.Array, Any]:
        heads, batch_stats = forward(params)
        losses, weights = supervise_apart(loss, heads, **targets)
        return losses[head], (losses, weights, heads[0], batch_stats)

    differentiate = jax.grad(compute_loss, has_aux=True)
    first, (losses, weights, logits, batch_stats) = differentiate(params, 0)
    # One forward pass is left of them in the compiled program, since they are equal.
    others = [differentiate(params, head)[0] for head in range(1, len(losses))]
    gradients = [split(gradient) for gradient in (first, *others)]
    gradient = functools.reduce(optax.tree.add, gradients)
    value = functools.reduce(jnp.add, losses)
    return Found(value, logits, batch_stats, gradient, (gradients, weights))


def make_train_step(
    model: UNet,
    loss: Loss,
    optimizer: Optimizer,
    schedule: optax.Schedule,
    augment: Augment,
    shardings: Shardings,
    state: State,
) -> Step:
    """Makes the compiled train step of one run; see `make_pure_step` for what it computes.

    Args:
        model: The model.
        loss: Of `losses.make_loss`.
        optimizer: The optimiser.
        schedule: Its learning rate, for logging.
        augment: Of `augment.make_augment`.
        shardings: The mesh.
        state: The state, or its shapes.

    Returns:
        train_step(state, batch, key) -> (state, scalars); the state that goes in is donated.
    """
    where = split_state(state, shardings)

    def whole(tree: Any) -> Any:
        return with_sharding_constraint(tree, shardings.replicated)

    def split(gradients: Any) -> Any:
        return with_sharding_constraint(gradients, where.params)

    step = make_pure_step(model, loss, optimizer, schedule, augment, whole=whole, split=split)
    return jax.jit(
        step,
        compiler_options=compiler_options(model),
        in_shardings=(where, shardings.pictures, shardings.replicated),
        out_shardings=(where, shardings.replicated),
        donate_argnums=0,
    )


def compiler_options(model: UNet) -> dict[str, str] | None:
    """Returns XLA's options for a model's train step."""
    # On CPU, XLA would merge what is computed again with the first time, and save nothing.
    merges = model.remat and jax.default_backend() == "cpu"
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if merges else None
