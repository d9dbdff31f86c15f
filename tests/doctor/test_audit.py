import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, softmax
from support.plain import plain_logits

from unet_jax.data.base import IGNORE, Dataset
from unet_jax.data.sample import RGB, Sample
from unet_jax.defaults import page
from unet_jax.doctor.audit import Auditor, audit_labels, compare, find_suspects, soft_minimum
from unet_jax.network import make_network
from unet_jax.predict.predictor import Predictor
from unet_jax.restore import Trained
from unet_jax.step import init_variables
from unet_jax.task import make_task

NAMES = ("ground", "disk", "ring")
SIZES = [(16, 16), (10, 22), (30, 18), (8, 8)]  # which the network takes as they are


class Drawn:
    """Images of odd sizes, whose labels say what their colours say."""

    spec = RGB

    def __init__(self, labels):
        self.labels = labels
        self.ids = [f"folder/{i}" for i in range(len(labels))]

    def __len__(self):
        return len(self.labels)

    def shape(self, index):
        return self.labels[index].shape[:2]

    def read(self, index, window=None):
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (*self.shape(index), 3), np.uint8)
        return Sample(image, self.labels[index], self.ids[index], (1.0, 1.0))


def draw_labels(*axes):
    rng = np.random.default_rng(5)
    labels = [  # in squares, so that some are wrong as a whole
        rng.integers(0, 2 if axes else 3, (8, 8, *axes), np.uint8).repeat(5, 0).repeat(5, 1)[:h, :w]
        for h, w in SIZES
    ]
    for label in labels:
        label[:3, 2:5] = IGNORE
    return labels


@functools.cache
def trained(kind):
    names = {"fit": "crop", "image_size": (16, 16)}
    config = page(data=names, model={"features": (4, 8), "norm": "instance"}, task={"kind": kind})
    network = make_network(config, NAMES, RGB)
    variables = init_variables(network.model, (16, 16, 3), jax.random.key(0))
    # A network that has learnt nothing decides on one class; this one on all.
    variables = jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, variables)
    return Trained(network, variables, NAMES, 0)


def probabilities(kind, source, index):
    image = source.read(index).image
    logits = plain_logits(trained(kind), image / 255, image.shape[:2])
    return softmax(logits, -1) if kind == "exclusive" else expit(logits)


def by_loop(kind, probability, label):
    """(agreement, confidence, given, found) of every pixel, in plain Python."""
    found = np.zeros((4, *label.shape[:2]))
    for place in np.ndindex(label.shape[:2]):
        p, y = probability[place], label[place]
        if kind == "exclusive":
            best = int(np.argmax(p))
            found[:, *place] = p[y % 3], p[best], y, best
            continue
        own = [p[k] if y[k] == 1 else 1 - p[k] for k in range(3)]
        k = int(np.argmin(own))
        given, other = (k, k + 3) if y[k] == 1 else (k + 3, k)
        found[:, *place] = own[k], max(own[k], 1 - own[k]), given, given if own[k] >= 0.5 else other
    return found


@pytest.mark.parametrize("kind", ["exclusive", "multilabel"])
def test_scores_and_suspects_are_those_of_plain_network_calls(kind):
    source = Drawn(draw_labels() if kind == "exclusive" else draw_labels(3))
    left = {}
    result = audit_labels(
        [Auditor(trained(kind), Dataset({"val": source}, NAMES), ["val"])], left.__setitem__
    )
    looked = [by_loop(kind, probabilities(kind, source, i), source.labels[i]) for i in range(4)]
    counts = [(x != IGNORE).reshape(*x.shape[:2], -1).all(-1) for x in source.labels]
    own = np.concatenate([x[0][c] for x, c in zip(looked, counts, strict=True)])
    given = np.concatenate([x[2][c] for x, c in zip(looked, counts, strict=True)])
    names = NAMES if kind == "exclusive" else (*NAMES, "no ground", "no disk", "no ring")
    means = np.array([own[given == k].mean() if k in given else np.nan for k in range(len(names))])
    found = [result.thresholds[name] for name in names]
    np.testing.assert_allclose([np.nan if x is None else x for x in found], means, atol=1e-5)
    by_id = {image.id: image for image in result.images}
    for name, (agreement, confidence, said, decided), c in zip(
        source.ids, looked, counts, strict=True
    ):
        weights = softmax((1 - agreement[c]) / 0.1)
        np.testing.assert_allclose(by_id[name].score, (agreement[c] * weights).sum(), atol=1e-5)
        differs = c & (decided != said) & (confidence >= means[decided.astype(int)])
        inner = np.zeros_like(differs)
        for i, j in np.ndindex(inner.shape):
            block = differs[i : i + 3, j : j + 3]
            if block.shape == (3, 3) and block.all():
                inner[i : i + 3, j : j + 3] = True
        assert (name in left) == (inner | ~c).any()
        if name in left:
            np.testing.assert_array_equal(~left[name] & c, inner)
            assert not left[name][~c].any()  # what does not count never does
        assert by_id[name].suspect == inner.sum() / c.sum()
        assert sum(r.pixels for r in by_id[name].regions) == inner.sum()
    assert any(image.suspect for image in result.images)
    order = [(-sum(r.evidence for r in image.regions), image.score) for image in result.images]
    assert order == sorted(order)


def test_a_planted_error_comes_first(monkeypatch):
    right = [np.zeros((40, 50), np.uint8) for _ in range(6)]
    for i, label in enumerate(right):
        label[5 : 15 + i, 10:25] = 1
        label[30:36, 30:44] = 2
    wrong = [label.copy() for label in right]
    wrong[4][30:36, 30:44] = 1  # a ring that is called a disk
    wrong[2][15:17, 10:25] = 0  # a border drawn two pixels further in

    def batches(self, variables, source, size):
        for index, label in enumerate(right):
            shown = np.eye(3)[label] * 4.0
            batch = {"label": wrong[index][None], "weight": np.ones((1, 40, 50), np.uint8)}
            result = compare(
                make_task("exclusive", class_names=NAMES), jnp.float32(shown[None]), batch
            )
            yield {"index": [index], "sizes": [(40, 50)]}, result

    monkeypatch.setattr(Predictor, "batches", batches)
    source = Drawn(wrong)
    result = audit_labels([Auditor(trained("exclusive"), Dataset({"val": source}, NAMES), ["val"])])
    first, *others = result.images
    assert first.id == "folder/4"
    (region,) = result.regions()
    assert (region.box, region.pixels) == (((30, 36), (30, 44)), 6 * 14)
    assert (region.given, region.found) == ("disk", "ring")
    assert first.suspect == 84 / 2000
    assert all(image.suspect == 0 for image in others)


def test_the_soft_minimum_is_that_of_the_paper():
    values = np.array([0.9, 0.2, 0.55, 1.0])
    weights = np.exp((1 - values) / 0.1)
    expected = sum(v * w for v, w in zip(values, weights, strict=True)) / weights.sum()
    assert soft_minimum(values) == pytest.approx(expected, abs=1e-12)
    assert soft_minimum(np.array([])) == 1
    assert soft_minimum(np.full((3, 4), 0.3)) == pytest.approx(0.3)


def test_nothing_is_suspect_where_no_label_says_what_is_found():
    arrays = {
        "confidence": np.ones((5, 5)),
        "given": np.zeros((5, 5), int),
        "found": np.ones((5, 5), int),
    }
    everywhere = np.ones((5, 5), bool)
    assert not find_suspects(arrays, everywhere, np.array([0.5, np.nan])).any()
    assert find_suspects(arrays, everywhere, np.array([0.5, 0.9])).all()
