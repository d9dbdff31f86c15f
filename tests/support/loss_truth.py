"""What each term of the loss is, in float64, by loops over pixels and without jax.

Each takes logits [P, K] of the pixels P of a batch, `on` [P, K], which is 1 where a channel is, a
weight [P], and whether a pixel has one class. Those that look at neighbours take the shape [B, *n].
"""

import itertools
import math

import numpy as np


def probabilities(logits, exclusive):
    z = np.float64(logits)
    if not exclusive:
        return 1 / (1 + np.exp(-z))
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def elements(logits, on, weight, exclusive, factors=None, more=None):
    """Yields (probability of what is true, weight, class or channel, whether it is on)."""
    p, channels = probabilities(logits, exclusive), on.shape[-1]
    factors = factors or (1.0,) * channels
    for i in range(len(weight)):
        extra = 0.0 if more is None else more[i]
        if exclusive:
            k = int(on[i].argmax())
            yield p[i, k], weight[i] * (factors[k] + extra), k, True
        else:
            for k in range(channels):
                true = p[i, k] if on[i, k] else 1 - p[i, k]
                yield true, weight[i] * (factors[k] + extra), k, bool(on[i, k])


def divide(total, divisor):
    return total / divisor if divisor > 0 else 0.0


def cross_entropy(
    logits, on, weight, exclusive, top_k=0.0, class_weights=None, border_weight=0.0, border=None
):
    more = None if border is None else border_weight * np.float64(border)
    found = [
        (-math.log(true), w)
        for true, w, _, _ in elements(logits, on, weight, exclusive, class_weights, more)
        if w > 0
    ]
    if top_k and found:
        ranked = sorted((loss for loss, _ in found), reverse=True)
        least = ranked[max(1, math.floor(top_k * len(ranked))) - 1]
        found = [(loss, w) for loss, w in found if loss >= least]
    return divide(sum(loss * w for loss, w in found), sum(w for _, w in found))


def binary_cross_entropy(logits, on, weight, exclusive):
    p, total = probabilities(logits, exclusive), 0.0
    if p.shape[-1] == 1 and exclusive:
        return 0.0
    for i, k in np.ndindex(on.shape):
        if weight[i] > 0:
            total -= weight[i] * math.log(p[i, k] if on[i, k] else 1 - p[i, k])
    return divide(total, on.shape[-1] * weight.sum())


def boundary(logits, on, weight, exclusive, distance):
    p, total = probabilities(logits, exclusive), 0.0
    for i, k in np.ndindex(p.shape):
        total += weight[i] * p[i, k] * float(distance[i, k])
    return divide(total, p.shape[-1] * weight.sum())


def focal(logits, on, weight, exclusive, gamma=2.0, alpha=()):
    total = divisor = 0.0
    for true, w, k, is_on in elements(logits, on, weight, exclusive):
        factor = (alpha[k] if is_on else 1 - alpha[k]) if alpha else 1.0
        total -= w * factor * (1 - true) ** gamma * math.log(true)
        divisor += w
    return divide(total, divisor)


def sizes(logits, on, weight, exclusive):
    """Yields k, and sum w p y, sum w p, sum w y, of the channels k that are in the batch."""
    p = probabilities(logits, exclusive)
    for k in range(on.shape[-1]):
        overlap = predicted = truth = 0.0
        for i in range(len(weight)):
            overlap += weight[i] * p[i, k] * on[i, k]
            predicted += weight[i] * p[i, k]
            truth += weight[i] * on[i, k]
        if truth > 0:
            yield k, (overlap, predicted, truth)


def mean(losses, class_weights=None):
    """Returns the mean of (channel, loss), by the weights of the channels."""
    total = divisor = 0.0
    for k, loss in losses:
        factor = class_weights[k] if class_weights else 1.0
        total, divisor = total + factor * loss, divisor + factor
    return divide(total, divisor)


def dice(logits, on, weight, exclusive, class_weights=None):
    def loss(overlap, predicted, truth):
        return 1 - 2 * overlap / (predicted + truth)

    found = sizes(logits, on, weight, exclusive)
    return mean(((k, loss(*own)) for k, own in found), class_weights)


def generalised_dice(logits, on, weight, exclusive):
    above = below = 0.0
    for _, (overlap, predicted, truth) in sizes(logits, on, weight, exclusive):
        above += 2 * overlap / truth**2
        below += (predicted + truth) / truth**2
    return 1 - above / below if below else 0.0


def tversky(
    logits,
    on,
    weight,
    exclusive,
    false_positives=0.3,
    false_negatives=0.7,
    gamma=1.0,
    class_weights=None,
):
    def loss(overlap, predicted, truth):
        wrong = false_positives * (predicted - overlap) + false_negatives * (truth - overlap)
        return max(0.0, 1 - overlap / (overlap + wrong)) ** (1 / gamma)

    found = sizes(logits, on, weight, exclusive)
    return mean(((k, loss(*own)) for k, own in found), class_weights)


def extension(errors, on, weight):
    """Returns the Lovasz extension of the Jaccard loss, set by set from its definition."""

    def jaccard(wrong):
        intersection = sum(weight[i] for i in range(len(on)) if on[i] and i not in wrong)
        union = sum(weight[i] for i in range(len(on)) if on[i] or i in wrong)
        return 1 - intersection / union

    order = sorted(range(len(on)), key=lambda i: -errors[i])
    total, wrong, before = 0.0, set(), 0.0
    for i in order:
        wrong.add(i)
        after = jaccard(wrong)
        total += errors[i] * (after - before)
        before = after
    return total


def lovasz(logits, on, weight, exclusive, class_weights=None):
    errors = np.abs(on - probabilities(logits, exclusive))
    there = [k for k in range(on.shape[-1]) if (weight * on[:, k]).sum() > 0]
    found = ((k, extension(errors[:, k], on[:, k], weight)) for k in there)
    return mean(found, class_weights)


def lovasz_hinge(logits, on, weight, exclusive, class_weights=None):
    z = np.float64(logits)
    there = [k for k in range(on.shape[-1]) if (weight * on[:, k]).sum() > 0]
    values = []
    for k in there:
        odds = z[:, k]
        if exclusive:
            others = np.delete(z, k, axis=-1)
            odds = odds - np.log(np.exp(others).sum(-1)) if others.shape[-1] else odds + math.inf
        errors = np.maximum(0, 1 - odds * (2 * on[:, k] - 1))
        values.append((k, extension(errors, on[:, k], weight)))
    return mean(values, class_weights)


def skeleton(image, counts, iterations):
    """Thins one image [*n] of one channel; neighbours are those that count and are inside."""

    def around(place, steps):
        for step in steps:
            near = tuple(a + b for a, b in zip(place, step, strict=True))
            inside = all(0 <= a < n for a, n in zip(near, image.shape, strict=True))
            if inside and counts[near]:
                yield near

    axes = image.ndim
    cross = [step for step in itertools.product((-1, 0, 1), repeat=axes) if np.abs(step).sum() < 2]
    box = list(itertools.product((-1, 0, 1), repeat=axes))

    def change(x, steps, choose, outside):
        found = np.empty(x.shape)
        for place in np.ndindex(x.shape):
            found[place] = choose((x[near] for near in around(place, steps)), default=outside)
        return found

    def above_opening(x):
        return np.maximum(0, x - change(change(x, cross, min, 1.0), box, max, 0.0))

    line = above_opening(image)
    for _ in range(iterations):
        image = change(image, cross, min, 1.0)
        more = above_opening(image)
        line = line + np.maximum(0, more - line * more)
    return line


def cldice(logits, on, weight, exclusive, shape=(), iterations=10, classes=()):
    p = probabilities(logits, exclusive).reshape(*shape, -1)
    y, w = np.float64(on).reshape(p.shape), np.float64(weight).reshape(shape)
    values = []
    for k in classes or range(1 if exclusive else 0, p.shape[-1]):
        if not (w * y[..., k]).sum() > 0:
            continue
        lines = [
            np.stack([skeleton(x[b, ..., k], w[b] > 0, iterations) for b in range(len(x))])
            for x in (p, y)
        ]
        precision = (1 + (w * lines[0] * y[..., k]).sum()) / (1 + (w * lines[0]).sum())
        recall = (1 + (w * lines[1] * p[..., k]).sum()) / (1 + (w * lines[1]).sum())
        values.append((k, 1 - 2 * precision * recall / (precision + recall)))
    return mean(values)


def derivative(function, logits, place, step=1e-6):
    """Returns the derivative by one logit, by a difference on both sides."""
    ends = []
    for sign in (1, -1):
        moved = np.float64(logits)
        moved[place] += sign * step
        ends.append(function(moved))
    return (ends[0] - ends[1]) / (2 * step)
