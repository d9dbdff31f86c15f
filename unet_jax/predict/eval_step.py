"""What evaluation and prediction compute of the logits of a batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from unet_jax.metrics.base import Outcome
from unet_jax.metrics.make import count, has_host_metrics
from unet_jax.network import Network
from unet_jax.predict.predictor import Outputs, Predictor, make_predictor
from unet_jax.task import Task


def make_eval_step(network: Network) -> Predictor:
    """Makes what evaluates a network; nothing is compiled."""
    return make_predictor(network, evaluation(network.task))


def make_mask_step(network: Network) -> Predictor:
    """Makes what predicts masks by a network; nothing is compiled."""
    return make_predictor(network, prediction(network.task))


def evaluation(task: Task) -> Outputs:
    """Makes what evaluation computes; see `outputs`."""
    return Outputs(task.label_shape, functools.partial(outputs, task))


def prediction(task: Task) -> Outputs:
    """Makes what prediction computes; see `masks`."""
    return Outputs(None, functools.partial(masks, task))


def outputs(task: Task, logits: jax.Array, batch: dict[str, jax.Array]) -> dict[str, Any]:
    """Computes the counts and predictions of a batch with labels.

    Args:
        task: What a label means.
        logits: float32 [B, *n, K], of the labels' own pixels.
        batch: A batch of `images.image_batches`.

    Returns:
        "counts", see `metrics.make.count`, and "prediction" uint8 [B, *n], or [B, *n, K] by class;
        with metrics that count on the host also "outcome", what they count.
    """
    label, weight = batch["label"].astype(jnp.int32), batch["weight"]
    decision = task.decide(logits)
    loss = task.cross_entropy(logits, label)
    outcome = Outcome(logits, loss, decision, task.truth(label), weight)
    found = {"counts": count(outcome, task.decides), "prediction": task.mask(decision)}
    return found | ({"outcome": outcome} if has_host_metrics(task.decides) else {})


def masks(task: Task, logits: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Decides on the class, or classes, of every pixel of a batch without labels.

    Args:
        task: What a label means.
        logits: float32 [B, *n, K].
        batch: A batch of `images.image_batches`.

    Returns:
        "prediction" uint8 [B, *n], or [B, *n, K] by class, and "is_read" bool [B] of all processes'
        images.
    """
    return {"prediction": task.mask(task.decide(logits)), "is_read": batch["is_read"]}
