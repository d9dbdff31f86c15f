"""Labels of every head, with and without an axis of classes."""

import jax.numpy as jnp
import numpy as np

from unet_jax.losses.deep import split_heads


def test_labels_by_class_are_brought_to_every_head_class_by_class():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, (2, 13, 10, 3))
    weight = rng.random(label.shape[:-1]).astype(np.float32)
    logits = [jnp.zeros((2, *size, 3)) for size in ((9, 6), (8, 8), (4, 4))]
    extras = {"distance": label * 0.5, "border": weight + 3}
    by_class = list(split_heads(logits, jnp.asarray(label), jnp.asarray(weight), 8, extras))
    for head in by_class:
        np.testing.assert_array_equal(head.extras["distance"], head.label * 0.5)
        known = head.weight > 0
        np.testing.assert_allclose(head.extras["border"][known], head.weight[known] + 3)
    for k in range(3):
        one = split_heads(logits, jnp.asarray(label[..., k]), jnp.asarray(weight), 8)
        for found, expected in zip(by_class, one, strict=True):
            np.testing.assert_array_equal(found.label[..., k], expected.label)
            np.testing.assert_array_equal(found.weight, expected.weight)
    first, second, _ = by_class
    np.testing.assert_array_equal(first.label, label[:, 2:11, 2:8])
    np.testing.assert_array_equal(second.label[:, :6, :5], label[:, 1::2, 1::2])
    np.testing.assert_array_equal(second.weight[:, :6, :5], weight[:, 1::2, 1::2])
    assert not second.weight[:, 6:].any()
