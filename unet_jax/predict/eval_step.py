"""What evaluation and prediction compute of the logits of a batch."""

import functools
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.metrics.base import Outcome
from unet_jax.metrics.choices import Chosen
from unet_jax.metrics.make import Metrics, count, make_metrics, read_on_host
from unet_jax.metrics.regions import OverImages
from unet_jax.network import Network
from unet_jax.predict.predictor import Outputs, Predictor, make_predictor
from unet_jax.task import Task


def make_eval_step(network: Network) -> Predictor:
    """Makes what evaluates a network; nothing is compiled."""
    return make_predictor(network, evaluation(network.task, network.settings.metrics))


def make_mask_step(network: Network, with_probability: bool = False) -> Predictor:
    """Makes what predicts masks by a network, and probabilities; nothing is compiled."""
    return make_predictor(network, prediction(network.task, with_probability))


def evaluation(task: Task, chosen: Chosen = MappingProxyType({})) -> Outputs:
    """Makes what evaluation computes; see `outputs`.

    Args:
        task: What a label means.
        chosen: The metrics beside those that every evaluation has; see `make_metrics`.

    Returns:
        What is computed.
    """
    metrics = make_metrics(task.names, (), task.decides, chosen)
    # Of a part of an image these have no counts that add up to those of the whole.
    whole = {key: m for key, m in metrics.items() if m.on_device and isinstance(m, OverImages)}
    return Outputs(
        task.label_shape,
        functools.partial(outputs, task, metrics),
        metrics,
        sums=("counts",),
        of_part=functools.partial(outputs, task, metrics, later=whole),
        finish=functools.partial(finish, task, metrics, whole),
    )


def prediction(task: Task, with_probability: bool = False) -> Outputs:
    """Makes what prediction computes; see `masks`."""
    compute = functools.partial(masks, task, with_probability=with_probability)
    return Outputs(None, compute, sums=("is_read",))


def outputs(
    task: Task,
    metrics: Metrics,
    logits: jax.Array,
    batch: dict[str, jax.Array],
    later: Metrics = MappingProxyType({}),
) -> dict[str, Any]:
    """Computes the counts and predictions of a batch with labels.

    Args:
        task: What a label means.
        metrics: What counts.
        logits: float32 [B, *n, K], of the labels' own pixels.
        batch: A batch of `images.image_batches`.
        later: Those of the metrics that count when all parts of an image are there.

    Returns:
        "counts", see `metrics.make.count`, and "prediction" uint8 [B, *n], or [B, *n, K] by class;
        with metrics that count on the host, or later, also "outcome", what they read.
    """
    label, weight = batch["label"].astype(jnp.int32), batch["weight"]
    decision = task.decide(logits)
    loss = task.cross_entropy(logits, label)
    outcome = Outcome(logits, loss, decision, task.truth(label), weight, task)
    now = {key: metric for key, metric in metrics.items() if key not in later}
    found = {"counts": count(now, outcome), "prediction": task.mask(decision)}
    read = read_on_host(metrics, outcome, later)
    return found | ({"outcome": read} if read else {})


def finish(task: Task, metrics: Metrics, later: Metrics, result: dict[str, Any]) -> dict[str, Any]:
    """Counts what needs a whole image, of one that was put together from its parts.

    Args:
        task: What a label means.
        metrics: What counts.
        later: Those of the metrics that have not counted yet.
        result: What `outputs` returned of the parts, put together.

    Returns:
        What `outputs` would have returned of the whole.
    """
    if later:
        outcome = result["outcome"]
        shape = (
            (*outcome.label.shape, task.channels) if task.decides == "ids" else outcome.label.shape
        )
        outcome = outcome._replace(logits=np.broadcast_to(np.float32(0), shape))  # for its axes
        result["counts"] |= jax.device_get(count(later, outcome))
    if all(metric.on_device for metric in metrics.values()):
        result.pop("outcome", None)
    return result


def masks(
    task: Task,
    logits: jax.Array,
    batch: dict[str, jax.Array],
    *,
    with_probability: bool = False,
) -> dict[str, jax.Array]:
    """Decides on the class, or classes, of every pixel of a batch without labels.

    Args:
        task: What a label means.
        logits: float32 [B, *n, K].
        batch: A batch of `images.image_batches`.
        with_probability: Whether probabilities are returned, too: 4 K bytes for a pixel.

    Returns:
        "prediction" uint8 [B, *n], or [B, *n, K] by class, and "is_read" bool [B] of all processes'
        images; where asked for also "probability" float32 [B, *n, K].
    """
    found = {"prediction": task.mask(task.decide(logits)), "is_read": batch["is_read"]}
    return found | ({"probability": task.probability(logits)} if with_probability else {})
