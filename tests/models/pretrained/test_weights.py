import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from support.paths import VECTORS
from support.weights import (
    SAVE,
    WithEncoder,
    milesial_weights,
    resnet_weights,
    shapes_of,
    unet,
    write,
)
from vectors.make_vectors import MILESIAL, image

from unet_jax.errors import UserError
from unet_jax.models.pretrained.torch_layout import milesial_variables, resnet_variables
from unet_jax.models.pretrained.weights import load_into, read_weights
from unet_jax.models.unet import UNet


def assert_same(found, expected):
    found, expected = flatten_dict(found), flatten_dict(expected)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg="/".join(path))


@pytest.mark.parametrize("suffix", SAVE)
def test_files_give_back_what_was_saved(tmp_path, suffix):
    values = np.array([[1.5, -2.25], [0.0, 3.0]])
    types = ["float64", "float32", "float16"] + ["bfloat16"] * (suffix == ".safetensors")
    weights = {dtype: values.astype(jnp.dtype(dtype)) for dtype in types}
    weights["count"] = np.array(3)
    found = read_weights(write(tmp_path, weights, suffix))
    assert found.keys() == weights.keys()
    for dtype in types:
        assert found[dtype].dtype == np.float32
        np.testing.assert_array_equal(found[dtype], values)
    assert found["count"] == 3


def no_file(folder):
    return folder / "none.npz"


def a_folder(folder):
    (folder / "folder.npz").mkdir()
    return folder / "folder.npz"


def torch_file(folder):
    return folder / "weights.pth"


def broken_safetensors(folder):
    file = write(folder, {"a": np.zeros(100)})
    file.write_bytes(file.read_bytes()[:-50])
    return file


def broken_npz(folder):
    file = write(folder, {"a": np.zeros(100)}, ".npz")
    file.write_bytes(file.read_bytes()[:-50])
    return file


def flipped_npz(folder):
    file = write(folder, {"a": np.zeros(100)}, ".npz")
    data = bytearray(file.read_bytes())
    data[-300] ^= 1
    file.write_bytes(data)
    return file


def array_as_npz(folder):
    np.save(folder / "a.npy", np.zeros(3))
    return (folder / "a.npy").rename(folder / "a.npz")


def pickled_npz(folder):
    np.savez(folder / "a.npz", a=np.array({"b": 1}, dtype=object))
    return folder / "a.npz"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_file, "does not exist"),
        (a_folder, "is no file"),
        (torch_file, r"must end in \.safetensors or \.npz; .*save_file"),
        (broken_safetensors, "cannot be read as weights"),
        (broken_npz, "cannot be read as weights"),
        (flipped_npz, "cannot be read as weights"),
        (array_as_npz, "cannot be read as weights: it is no zip archive"),
        (pickled_npz, "cannot be read as weights: a.npy holds Python objects"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, make, message):
    file = make(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_weights(file)
    assert str(file) in str(caught.value)


# See vectors/make_vectors.py: PyTorch made these.
@pytest.mark.parametrize("suffix", SAVE)
def test_milesial_file_gives_its_logits(tmp_path, suffix):
    counted = {"inc.double_conv.1.num_batches_tracked": np.array(5)}
    file = write(tmp_path, milesial_weights() | counted, suffix)
    variables = load_into(unet(), file)
    model = UNet(2, MILESIAL["features"])
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, image((48, 64)))
    with np.load(VECTORS / "milesial.npz") as stored:
        np.testing.assert_allclose(logits, stored["logits"], atol=1e-4)
    assert_same(variables, milesial_variables(milesial_weights(), MILESIAL["features"]))


@pytest.mark.parametrize("features", [(4,), (4, 6), (4, 6, 5)])
def test_milesial_of_any_depth_fills_the_tree(tmp_path, features):
    file = write(tmp_path, milesial_weights(features=features))
    variables = load_into(unet(features), file)
    assert not any((np.asarray(leaf) == 7).any() for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("classes", [2, 3])
def test_keep_head_keeps_only_the_head(tmp_path, classes):
    before = unet(classes=classes)
    after = load_into(before, write(tmp_path, milesial_weights()), keep_head=True)
    assert_same(after["params"].pop("head"), before["params"]["head"])
    expected = milesial_variables(milesial_weights(), MILESIAL["features"])
    del expected["params"]["head"]
    assert_same(after, expected)


def test_types_stay_those_of_the_model(tmp_path):
    before = jax.tree.map(lambda x: x.astype(jnp.bfloat16), unet())
    after = load_into(before, write(tmp_path, milesial_weights()))
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype("bfloat16")}


def test_resnet_file_fills_the_encoder_only(tmp_path):
    before = shapes_of(WithEncoder())
    classifier = {"fc.weight": np.zeros((1000, 512)), "fc.bias": np.zeros(1000)}
    counted = {"layer1.0.bn1.num_batches_tracked": np.array(5)}
    file = write(tmp_path, resnet_weights() | classifier | counted)
    after = load_into(before, file)
    assert_same(after["params"]["head"], before["params"]["head"])
    expected = resnet_variables(resnet_weights(), "resnet18")
    assert_same(after["params"]["encoder"], expected["params"])
    assert_same(after["batch_stats"]["encoder"], expected["batch_stats"])
    assert after.keys() == before.keys()


def cut_filter():
    weights = resnet_weights()
    name = "layer1.0.conv1.weight"
    return weights | {name: np.ascontiguousarray(weights[name][..., :2])}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resnet_file_fits_images_of_any_channels(tmp_path, channels):
    file = write(tmp_path, resnet_weights())
    after = load_into(shapes_of(WithEncoder(), channels), file)
    expected = resnet_variables(resnet_weights(), "resnet18", channels)
    assert expected["params"]["conv1"]["kernel"].shape == (7, 7, channels, 64)
    assert_same(after["params"]["encoder"], expected["params"])


MISFITS = {
    "wider": (
        lambda: milesial_weights(features=(4, 6)),
        lambda: unet((4, 8)),
        r"down1\.maxpool_conv\.1\.double_conv\.0\.weight has shape \(6, 4, 3, 3\), the model wants "
        r"\(8, 4, 3, 3\).*and \d+ more.*config\.model\.features=\(4, 6\)",
    ),
    "transposed": (
        lambda: milesial_weights(features=(4, 6)),
        lambda: unet((4, 6)) | {"params": deeper_up(unet((4, 6))["params"])},
        r"up1\.up\.weight has shape \(6, 4, 2, 2\), the model wants \(9, 4, 2, 2\)\.",
    ),
    "deeper": (
        lambda: milesial_weights(features=(4, 6, 8)),
        lambda: unet((4, 6)),
        r"no place in the model.*config\.model\.features=\(4, 6, 8\)",
    ),
    "shallower": (
        lambda: milesial_weights(features=(4, 6)),
        lambda: unet((4, 6, 8)),
        r"config\.model\.features=\(4, 6\)",
    ),
    "other norm": (
        lambda: milesial_weights(features=(4,)),
        lambda: unet((4,), norm="group"),
        r"inc\.double_conv\.1\.weight has no place.*config\.model\.norm=\"batch\"",
    ),
    "nothing for": (
        lambda: milesial_weights(features=(4,)),
        lambda: unet((4,)) | {"params": unet((4,))["params"] | {"more": {"bias": jnp.zeros(1)}}},
        r"the file has nothing for params/more/bias",
    ),
    "classes": (
        lambda: milesial_weights(features=(4, 6)),
        lambda: unet((4, 6), classes=3),
        r"outc\.conv\.weight has shape \(2, 4, 1, 1\), the model wants \(3, 4, 1, 1\); "
        r"outc\.conv\.bias has shape \(2,\), the model wants \(3,\)\..*classes.*keep_head=True",
    ),
    "no encoder": (
        resnet_weights,
        unet,
        r"no ResNet as its encoder.*config\.model\.encoder='resnet18'",
    ),
    "other resnet": (
        lambda: resnet_weights("resnet34"),
        lambda: shapes_of(WithEncoder()),
        r"layer1\.2\.conv1\.weight has no place.*set config\.model\.encoder='resnet34'",
    ),
    "other filter": (
        cut_filter,
        lambda: shapes_of(WithEncoder()),
        r"layer1\.0\.conv1\.weight has shape \(64, 64, 3, 2\), the model wants \(64, 64, 3, 3\)",
    ),
    "lacks a tensor": (
        lambda: {k: v for k, v in milesial_weights().items() if k != "outc.conv.bias"},
        unet,
        r"the weights lack outc\.conv\.bias; give",
    ),
    "neither": (
        lambda: {"b": np.zeros(1), "a": np.zeros(1)},
        unet,
        r"neither of a ResNet .* nor of a U-Net .* they are a, b\.",
    ),
}


def deeper_up(params):
    flat = flatten_dict(params)
    return unflatten_dict(flat | {("up_0", "kernel"): jnp.zeros((2, 2, 9, 4))})


@pytest.mark.parametrize("case", MISFITS)
def test_misfits_say_what_to_change(tmp_path, case):
    make_weights, make_variables, message = MISFITS[case]
    file = write(tmp_path, make_weights())
    with pytest.raises(UserError, match=message) as caught:
        load_into(make_variables(), file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 7])
def test_a_unets_first_convolution_fits_images_of_any_channels(tmp_path, channels):
    weights, lines = milesial_weights(features=(4, 6)), []
    file = write(tmp_path, weights)
    found = load_into(unet((4, 6), channels=channels), file, say=lines.append)
    kernel = np.asarray(found["params"]["encoder_0"]["Conv_0"]["kernel"])
    rgb = np.moveaxis(weights["inc.double_conv.0.weight"], (0, 1), (-1, -2))
    expected = np.zeros((3, 3, channels, 4))
    for c in range(channels):
        expected[:, :, c] = rgb.sum(2) if channels == 1 else rgb[:, :, c % 3] * 3 / channels
    np.testing.assert_allclose(kernel, expected, atol=1e-6)
    # What a grey image gives as the same grey in every channel, at any pixel.
    grey = np.random.default_rng(0).normal(size=(3, 3))
    own = np.einsum("ij,ijcf->f", grey, kernel)
    if channels in (1, 3, 6):
        np.testing.assert_allclose(own, np.einsum("ij,ijcf->f", grey, rgb), atol=1e-5)
    says = {1: ["summed"], 3: []}.get(channels, [f"in turn, times 3/{channels}"])
    assert [word in line for word, line in zip(says, lines, strict=True)] == [True] * len(says)


@pytest.mark.parametrize("name", ["down99999999999.x", "down99999999.x", "down7.x", "layer9.9.x"])
def test_a_name_of_many_levels_costs_no_time(tmp_path, name):
    file = write(tmp_path, milesial_weights(features=(4,)) | {name: np.zeros(1, np.float32)})
    began = time.perf_counter()
    with pytest.raises(UserError, match=rf"^{file}: the weights .*have {name}, which nothing uses"):
        load_into({"params": {}, "batch_stats": {}}, file)
    assert time.perf_counter() - began < 1
