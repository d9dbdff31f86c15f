"""ONNX in onnxruntime against the jitted prediction, for the parts that networks are made of."""

from types import SimpleNamespace

import jax
import numpy as np
import onnxruntime
import pytest
from support.family import make, shallow, tiny_resnets
from support.tasks import exclusive

from unet_jax.data.normalise import Normalise
from unet_jax.data.sample import RGB, Spec
from unet_jax.errors import UserError
from unet_jax.export import onnx, stablehlo
from unet_jax.export.graph import rules
from unet_jax.export.pipeline import OUTPUTS, make_pipeline, plain_forms
from unet_jax.models.variants import VARIANTS
from unet_jax.task import MultiLabel, Regions

COARSE = {"features": (2, 4)}
# Each primitive is in one of these at least; all variants are traced below.
CASES = {
    "modern": {},
    "paper": {},
    "attention": {},
    "unet3+": {},
    "nnunet": {"features": (8, 8, 8)},
    "folded": {},
    "squeeze_excite": {},
    "resnet18": {},
    "depthwise": {"up": "pixel_shuffle"},
    "residual": {"up": "unpool"},
    "bottleneck": {"up": "nearest", "activation": "gelu"},
    "dilated": {"up_filters": ((4, 1, 2),), "activation": "silu"},
}


def network(model, task=None, spec=RGB, fit="crop", normalise=None):
    size = (32,) * model.dimensions if model.padding == "same" else (92, 92)
    loading = SimpleNamespace(fit=fit, image_size=size, normalise=normalise or Normalise())
    return SimpleNamespace(model=model, task=task or exclusive(3), spec=spec, loading=loading)


def compare(pipeline, images):
    """Compares all outputs; labels may differ where two probabilities tie, up to rounding."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = onnx.of_pipeline(pipeline).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    run = jax.jit(pipeline.apply)
    for image in images:
        with plain_forms():
            expected = run(pipeline.weights, image, pipeline.steps(image.shape[1:-1]))
        found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"image": image}), strict=True))
        for name in OUTPUTS:
            assert found[name].dtype == expected[name].dtype
            assert found[name].shape == expected[name].shape
        probability = np.asarray(expected["probability"])
        np.testing.assert_allclose(found["probability"], probability, atol=2e-5)
        np.testing.assert_array_equal(found["other_range"], expected["other_range"])
        differ = found["label"] != expected["label"]
        assert differ.mean() <= 1e-4
        yield expected


def noise(*shape, dtype=np.uint8, low=0, high=256):
    return np.random.default_rng(0).uniform(low, high, shape).astype(dtype)


@pytest.mark.parametrize("variant", CASES)
def test_parts_of_networks(variant, monkeypatch):
    tiny_resnets(monkeypatch)
    model, variables = make(variant, **(shallow(variant) | CASES[variant]))
    pipeline = make_pipeline(network(model), variables)
    (found,) = compare(pipeline, [noise(2, 37, 21, 3)])
    assert len(np.unique(found["label"])) > 1


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in CASES])
def test_all_variants_have_their_rules(variant, monkeypatch):
    tiny_resnets(monkeypatch)
    model, variables = make(variant, **shallow(variant))
    assert len(onnx.of_pipeline(make_pipeline(network(model), variables)).graph.node) > 100


def test_sizes_of_one_model_resized_and_not():
    model, variables = make("modern", **COARSE)
    images = [noise(1, 1, 1, 3), noise(3, 1, 40, 3), noise(1, 300, 67, 3)]
    for fit in ("crop", "resize"):
        assert len(list(compare(make_pipeline(network(model, fit=fit), variables), images))) == 3


@pytest.mark.parametrize("kind", ["min_max", "z_score", "percentiles"])
def test_other_types_tasks_and_statistics(kind):
    model, variables = make("modern", **COARSE)
    names = ("a", "b", "c")
    task = MultiLabel(names) if kind == "z_score" else Regions(names, ((0,), (1,), (2,)), (1, 2, 0))
    spec = Spec(2, 3, "uint16", (0.0, 65535.0))
    made = network(model, task, spec, normalise=Normalise(kind, "image"))
    image = noise(2, 21, 13, 3, dtype=np.uint16, high=4000)
    assert len(list(compare(make_pipeline(made, variables), [image]))) == 1


def test_volumes():
    model, variables = make("modern", dimensions=3, **COARSE)
    made = network(model, spec=Spec(3, 3, "uint8", (0.0, 255.0)))
    pipeline, image = make_pipeline(made, variables), noise(1, 5, 9, 7, 3)
    (found,) = compare(pipeline, [image])
    assert found["label"].shape == (1, 5, 9, 7)
    other = stablehlo.predict(stablehlo.make_program(pipeline), pipeline, image[0])
    np.testing.assert_array_equal(other["label"], found["label"][0])


def test_values_of_another_range_are_told():
    model, variables = make("modern", **COARSE)
    made = network(model, spec=Spec(2, 3, "float32", (0.0, 1.0)))
    images = np.stack([noise(9, 7, 3, dtype=np.float32, high=high) for high in (1, 255)])
    (found,) = compare(make_pipeline(made, variables), [images])
    np.testing.assert_array_equal(found["other_range"], [False, True])


def test_a_primitive_without_a_rule_is_named(monkeypatch):
    monkeypatch.delitem(rules.RULES, "conv_general_dilated")
    model, variables = make("modern", **COARSE)
    with pytest.raises(UserError, match="jax's 'conv_general_dilated'"):
        onnx.of_pipeline(make_pipeline(network(model), variables))
