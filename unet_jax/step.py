"""The training state and the one train step: pure functions."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax
from jax.lax import with_sharding_constraint

from unet_jax.augment.make import Augment
from unet_jax.augment.scale import standardise
from unet_jax.losses.deep import crop_label, split_heads, supervise, supervise_apart
from unet_jax.losses.make import Loss
from unet_jax.models.fast import compiler_options, init_options
from unet_jax.models.pretrained.weights import Load
from unet_jax.models.unet import UNet
from unet_jax.optim.make import Optimizer
from unet_jax.process import target
from unet_jax.sharding import Shardings, by_parts, put_shapes, replicate, split_state
from unet_jax.task import Task


@flax.struct.dataclass
class State:
    """Everything that training changes.

    Attributes:
        step: int32, steps taken.
        params: Parameters, float32.
        batch_stats: Running statistics of batch normalisation; {} where there is none.
        average: Moving average of the parameters; {} where none is kept.
        opt_state: State of the optimiser.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    average: Any
    opt_state: Any

    def eval_variables(self) -> dict[str, Any]:
        """Returns the variables to evaluate: averaged parameters where they are kept."""
        return {"params": self.average or self.params, "batch_stats": self.batch_stats}


SOWN = ["batch_stats", "deep_supervision"]  # collections that a forward pass in training writes

Init = Callable[[jax.Array], State]
Step = Callable[[State, dict[str, Any], jax.Array], tuple[State, dict[str, jax.Array]]]


def init_variables(model: UNet, image_shape: tuple[int, ...], key: jax.Array) -> dict[str, Any]:
    """Initialises the variables of a model; under `jax.eval_shape` it gives shapes alone.

    Args:
        model: The model.
        image_shape: [*n, C] of a training image.
        key: Of the initial parameters.

    Returns:
        {"params", "batch_stats"}.
    """
    variables = model.init(key, jnp.zeros((1, *image_shape)), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


@functools.lru_cache(64)  # studies ask again and again for the same model
def variable_shapes(model: UNet, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Returns the shapes of what `init_variables` makes."""
    return jax.eval_shape(lambda key: init_variables(model, image_shape, key), jax.random.key(0))


def begin_state(variables: dict[str, Any], optimizer: Optimizer) -> State:
    """Makes the state before the first step.

    Args:
        variables: Of `init_variables`, or loaded.
        optimizer: The optimiser.

    Returns:
        The state.
    """
    params = variables["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        average=optimizer.begin_average(params),
        opt_state=optimizer.init(params),
    )


def abstract_state(
    model: UNet, optimizer: Optimizer, image_shape: tuple[int, ...], shardings: Shardings
) -> State:
    """Describes the state on the mesh without making it.

    Args:
        model: The model.
        optimizer: The optimiser.
        image_shape: [*n, C] of a training image.
        shardings: The mesh.

    Returns:
        The state's tree of `jax.ShapeDtypeStruct` with shardings.
    """
    begin = functools.partial(begin_state, optimizer=optimizer)
    shapes = variable_shapes(model, image_shape)  # pyrefly: ignore[bad-argument-type]
    return put_shapes(jax.eval_shape(begin, shapes), shardings)


def make_init(
    model: UNet,
    optimizer: Optimizer,
    image_shape: tuple[int, ...],
    shardings: Shardings,
    load: Load | None = None,
) -> Init:
    """Makes the function that initialises the state on the devices.

    Args:
        model: The model.
        optimizer: The optimiser.
        image_shape: [*n, C] of a training image.
        shardings: The mesh.
        load: Puts weights of a file in the place of initial ones; None for none.

    Returns:
        init(key) -> State; without `load`, `jax.eval_shape` of it gives shapes alone.
    """

    def init(key: jax.Array) -> State:
        return begin_state(init_variables(model, image_shape, key), optimizer)

    where = split_state(abstract_state(model, optimizer, image_shape, shardings), shardings)
    from_scratch = jax.jit(init, out_shardings=where, compiler_options=init_options())
    if load is None:
        return from_scratch

    def from_file(key: jax.Array) -> State:
        state = from_scratch(key)
        variables = load({"params": state.params, "batch_stats": state.batch_stats})
        begin = functools.partial(begin_state, optimizer=optimizer)
        return jax.jit(begin, out_shardings=where)(replicate(variables, shardings))

    return from_file


def make_pure_step(
    model: UNet,
    loss: Loss,
    optimizer: Optimizer,
    augment: Augment,
    *,
    whole: Any = None,
    split: Any = None,
    parts: Shardings | None = None,
) -> Step:
    """Makes the train step, a pure function that is not compiled yet.

    Args:
        model: The model.
        loss: The loss; see `losses.make.make_loss`.
        optimizer: The optimiser.
        augment: The augmentation; see `augment.make.make_augment`.
        whole: The sharding to which parameters are brought before any convolution; None for none.
        split: The tree of the parameters' own shardings, to which gradients are brought.
        parts: The mesh, whose devices each take their images through the model by themselves, see
            `sharding.by_parts`; None to leave that to the compiler.

    Returns:
        train_step(state, batch, key) -> (state, scalars): augments with a key of this step, takes
        one step of the optimiser on the loss over the global batch, and returns float32 scalars
        "train/loss", "train/pixel_accuracy", "train/gradient_norm" and "learning_rate". All are of
        this batch alone, also where gradients are accumulated; the norm is that of the gradient of
        its loss, before clipping.
    """
    take_gradients = _gradients_by_head if optimizer.accumulate > 1 else _gradients
    apply: Any = functools.partial(_apply, model)
    if parts is not None:
        apply = by_parts(apply, parts)

    def train_step(
        state: State, batch: dict[str, Any], key: jax.Array
    ) -> tuple[State, dict[str, jax.Array]]:
        # A key folded from the step, so that nothing random is carried or saved.
        step_key = jax.random.fold_in(key, state.step)
        with jax.named_scope("augment"):
            given = batch.get("extras", {})
            image, label, weight, *moved = augment(
                batch["image"], batch["label"], batch["weight"], step_key, *given.values()
            )
        batch_stats = _bring(state.batch_stats, whole)
        rngs = {"dropout": jax.random.fold_in(step_key, 1)}

        def forward(params: Any) -> tuple[list[jax.Array], Any]:
            return apply(_bring(params, whole), (batch_stats, rngs), image)

        extras = dict(zip(given, moved, strict=True))
        targets = {"label": label, "weight": weight, "multiple": model.multiple()}
        own = loss.moves(optimizer.share(state.step)) if loss.moves else loss
        found = take_gradients(forward, own, targets | {"extras": extras}, state.params)
        gradients = [_bring(gradient, split) for gradient in found.gradients]
        gradient = functools.reduce(optax.tree.add, gradients)
        given = (gradients, found.weights) if found.weights else (gradient,)
        with jax.named_scope("optimizer"):
            updates, opt_state = optimizer.update(*given, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            norm = optax.tree.norm(gradient)
            average = optimizer.average(state.average, params, opt_state, state.step)
        scalars = {
            "train/loss": found.loss,
            "train/pixel_accuracy": _accuracy(loss.task, found.logits, label, weight),
            "train/gradient_norm": norm,
            "learning_rate": jnp.asarray(optimizer.schedule(state.step), jnp.float32),
        }
        after = State(
            step=state.step + 1,
            params=params,
            batch_stats=found.batch_stats,
            average=average,
            opt_state=opt_state,
        )
        return after, scalars

    return train_step


def _apply(
    model: UNet, params: Any, same: tuple[Any, dict[str, jax.Array]], image: jax.Array
) -> tuple[list[jax.Array], Any]:
    """Returns the logits of every head, the result's first, and the updated statistics."""
    batch_stats, rngs = same
    if model.frozen:
        stop = jax.lax.stop_gradient
        params = {k: stop(x) if model.is_frozen(k) else x for k, x in params.items()}
    variables = {"params": params, "batch_stats": batch_stats}
    outputs: Any = model.apply(variables, standardise(image), train=True, rngs=rngs, mutable=SOWN)
    logits, updated = outputs
    heads = [logits, *(head for (head,) in updated.get("deep_supervision", {}).values())]
    return heads, updated.get("batch_stats", {})


@jax.named_scope("loss")
def _accuracy(task: Task, logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns the share of elements, by weight, whose decision is right; see `Task`."""
    label, weight = crop_label(label, weight, logits.shape[1:-1])
    weight = task.weigh(label, weight)
    correct = jnp.sum(weight * (task.decide(logits) == task.truth(label)))
    return correct / jnp.maximum(jnp.sum(weight), 1.0)


Forward = Callable[[Any], tuple[list[jax.Array], Any]]


class Found(NamedTuple):
    """What a forward and a backward pass found.

    Attributes:
        loss: Scalar.
        logits: float32 [B, *n, K], of the first head.
        batch_stats: The running statistics after this batch.
        gradients: Of the parts of the loss, head by head, that the optimiser takes apart; of the
            whole loss, if it does not.
        weights: Of the parts, see `losses.deep.supervise_apart`; () of the whole loss.
    """

    loss: jax.Array
    logits: jax.Array
    batch_stats: Any
    gradients: list[Any]
    weights: Sequence[jax.Array] = ()


def _gradients(forward: Forward, loss: Loss, targets: dict[str, Any], params: Any) -> Found:
    """Differentiates the loss of all heads at once."""

    def compute_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        heads, batch_stats = forward(params)
        with jax.named_scope("loss"):
            value = supervise(loss, split_heads(heads, **targets))
        return value, (heads[0], batch_stats)

    (value, (logits, batch_stats)), gradient = jax.value_and_grad(compute_loss, has_aux=True)(
        params
    )
    return Found(value, logits, batch_stats, [gradient])


def _gradients_by_head(forward: Forward, loss: Loss, targets: dict[str, Any], params: Any) -> Found:
    """Differentiates each part of each head's loss, for an optimiser that accumulates."""

    def compute_loss(params: Any, part: int) -> tuple[jax.Array, Any]:
        heads, batch_stats = forward(params)
        with jax.named_scope("loss"):
            losses, weights = supervise_apart(loss, list(split_heads(heads, **targets)))
        return losses[part], (losses, weights, heads[0], batch_stats)

    differentiate = jax.grad(compute_loss, has_aux=True)
    first, (losses, weights, logits, batch_stats) = differentiate(params, 0)
    # One forward pass is left of them in the compiled program, since they are equal.
    others = [differentiate(params, part)[0] for part in range(1, len(losses))]
    value = functools.reduce(jnp.add, losses)
    return Found(value, logits, batch_stats, [first, *others], weights)


def _bring(tree: Any, shardings: Any) -> Any:
    """Brings arrays to their shardings; to none where that is None."""
    return tree if shardings is None else with_sharding_constraint(tree, shardings)


def goes_by_parts(model: UNet, shardings: Shardings) -> bool:
    """Tells whether every device takes its images through the model by itself.

    That is between processes on CPU, where the delay of every message counts; within one there is
    next to none, and on accelerators it was not measured. With "fsdp" no device should hold all of
    the gradient, with "space" none holds whole images, and what a model draws at random it draws
    for a whole batch, whatever the mesh.

    Args:
        model: The model.
        shardings: The mesh.

    Returns:
        Whether the train step goes by `sharding.by_parts`.
    """
    has_delays = target.process_count() > 1 and target.platform() == "cpu"
    draws = any(model.dropout) or model.stochastic_depth > 0
    return has_delays and shardings.size("fsdp", "space") == 1 and not draws


def make_train_step(
    model: UNet,
    loss: Loss,
    optimizer: Optimizer,
    augment: Augment,
    shardings: Shardings,
    state: State,
) -> Step:
    """Makes the compiled train step of one run; see `make_pure_step` for what it computes.

    Args:
        model: The model.
        loss: The loss; see `losses.make.make_loss`.
        optimizer: The optimiser.
        augment: The augmentation; see `augment.make.make_augment`.
        shardings: The mesh.
        state: The state, or its shapes.

    Returns:
        train_step(state, batch, key) -> (state, scalars); the state that goes in is donated.
    """
    where = split_state(state, shardings)
    step = make_pure_step(
        model,
        loss,
        optimizer,
        augment,
        whole=shardings.replicated,
        split=where.params,
        parts=shardings if goes_by_parts(model, shardings) else None,
    )
    return jax.jit(
        step,
        compiler_options=compiler_options(model),
        in_shardings=(where, shardings.images, shardings.replicated),
        out_shardings=(where, shardings.replicated),
        donate_argnums=0,
    )
