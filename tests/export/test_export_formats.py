"""safetensors and bioimage.io packages: against PyTorch's tensors, and by their own hashes."""

import base64
import gzip
import hashlib
import importlib.util
import json
import re
import runpy
import shutil
import subprocess
from types import SimpleNamespace

import jax
import numpy as np
import onnx as library
import onnxruntime
import pytest
import yaml
from safetensors.numpy import load_file
from support.family import make
from vectors.make_vectors import MILESIAL, milesial_shapes, numbers_for

import unet_jax
from unet_jax.augment.scale import standardise
from unet_jax.export import onnx, page, run, runtime, safetensors
from unet_jax.export.run import export_run
from unet_jax.models.pretrained.torch_layout import milesial_variables
from unet_jax.models.unet import UNet
from unet_jax.models.variants import section

NAMES = ["background", "disk", "square", "triangle", "ring", "cross"]
FORMATS = ["bioimageio", "onnx", "page", "safetensors"]


def test_standard_weights_are_pytorchs_own():
    """Those whose logits in PyTorch `tests/vectors/milesial.npz` has."""
    weights = numbers_for(milesial_shapes(**MILESIAL))
    features = MILESIAL["features"]
    variables = milesial_variables(weights, features)

    class Bundle:
        class network:
            model = UNet(2, **section(features=features))

    Bundle.variables = variables
    found = safetensors.torch_weights(Bundle)
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].flags.c_contiguous


@pytest.mark.parametrize("changes", [{"norm": "group"}, {"up": "bilinear"}, {"fold": 2}])
def test_others_are_not_standard(changes):
    assert not safetensors.is_standard(UNet(2, **section(**changes)))


@pytest.fixture(scope="module")
def exported(crop_run, tmp_path_factory):
    workdir, config = crop_run
    folder = tmp_path_factory.mktemp("formats") / "out"
    given = {"output": str(folder), "checkpoint": "latest", "licence": "CC-BY-4.0"}
    with pytest.MonkeyPatch.context() as patch:
        for module in (run, page):
            patch.setattr(module, "read_runtime", lambda _: dict.fromkeys(runtime.FILES, b"a"))
        export_run(config, workdir, formats=FORMATS, **given)
    return folder


def test_files_of_formats(exported):
    assert sorted(path.name for path in exported.iterdir()) == FORMATS
    weights = load_file(exported / "safetensors" / safetensors.FILE)
    assert weights["params.encoder_0.Conv_0.kernel"].shape == (2, 3, 3, 3)  # [O, I, 3, 3]
    assert weights["params.up_0.kernel"].shape == (4, 2, 2, 2)  # [I, O, 2, 2]
    assert (exported / "safetensors" / safetensors.SCRIPT).is_file()


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs sha256sum")
@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_byte_in_any_file_is_noticed(name, exported, tmp_path):
    folder = shutil.copytree(exported / name, tmp_path / name)
    line = ["sha256sum", "--check", "--strict", "--quiet", run.SUMS]
    assert subprocess.run(line, cwd=folder).returncode == 0
    files = [file for file in folder.iterdir() if file.name != run.SUMS]
    assert len((folder / run.SUMS).read_text().splitlines()) == len(files)
    for file in files:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True)
        assert f"{file.name}: FAILED" in done.stdout


def test_a_package_has_what_it_says(exported):
    folder = exported / "bioimageio"
    says = yaml.safe_load((folder / "rdf.yaml").read_text())
    assert says["license"] == "CC-BY-4.0"
    tensors = [*says["inputs"], *says["outputs"]]
    files = [tensor["test_tensor"] for tensor in tensors] + [says["weights"]["onnx"]]
    for file in files:
        data = (folder / file["source"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
    session = onnxruntime.InferenceSession(
        folder / says["weights"]["onnx"]["source"], providers=["CPUExecutionProvider"]
    )
    arrays = {tensor["id"]: np.load(folder / tensor["test_tensor"]["source"]) for tensor in tensors}
    label, probability = session.run(None, {"image": arrays["image"]})
    np.testing.assert_array_equal(label, arrays["label"])
    np.testing.assert_allclose(probability, arrays["probability"], atol=1e-5)
    for name in (says["documentation"], *says["covers"]):
        assert (folder / name).stat().st_size > 100


@pytest.mark.skipif(
    not importlib.util.find_spec("bioimageio"), reason="needs bioimageio.core, of no extra"
)
def test_the_validator_accepts_a_package(exported):
    from bioimageio.spec import validate_format

    assert validate_format(exported / "bioimageio" / "rdf.yaml").status == "valid-format"


def test_labels_of_twenty_images_of_odd_sizes_are_those_of_predict(exported, crop_run):
    session = onnxruntime.InferenceSession(
        exported / "onnx" / onnx.FILE, providers=["CPUExecutionProvider"]
    )
    loaded = unet_jax.load(crop_run[0], "latest")
    random = np.random.default_rng(0)
    differ, pixels, shown = 0, 0, set()
    for size in 2 * random.integers(0, 30, (20, 2)) + 1:
        image = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        label, probability, _ = session.run(None, {"image": image[None]})
        expected = loaded.predict(image)
        other = label[0] != expected
        first, second = np.sort(probability[0][other], axis=-1)[:, :-3:-1].T
        assert np.all(first - second < 1e-5)  # a tie, up to rounding
        differ, pixels, shown = differ + other.sum(), pixels + label.size, shown | set(label.flat)
    assert differ <= 1e-4 * pixels
    assert len(shown) > 2


def test_pytorch_has_the_logits(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch, of the extra `torch`")
    model, variables = make("modern")
    says = {"image": {"value_range": [0, 255]}}
    network = SimpleNamespace(model=model)
    kept = jax.device_get(variables)
    bundle = SimpleNamespace(network=network, variables=kept, describe=lambda: says)
    safetensors.export(bundle, tmp_path)
    load = runpy.run_path(str(tmp_path / safetensors.SCRIPT))["load"]
    network, read = load(str(tmp_path / safetensors.FILE))
    image = np.random.default_rng(0).integers(0, 256, (40, 24, 3)).astype(np.uint8)
    with torch.no_grad():
        found = network(read(image)).numpy()
    expected = model.apply(variables, standardise(image[None] / np.float32(255)), train=False)
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, atol=2e-4, rtol=1e-4)


def test_onnx_says_what_it_is(exported):
    model = library.load(exported / "onnx" / onnx.FILE)
    (entry,) = model.metadata_props
    assert json.loads(entry.value)["class_names"] == NAMES
    assert model.opset_import[0].version == onnx.OPSET


def test_a_page_has_the_model_and_says_what_it_is(exported):
    text = (exported / "page" / page.FILE).read_text()
    data = base64.b64decode(re.search(r'octet-stream" id="model">([^<]*)<', text)[1])
    model = library.load_model_from_string(gzip.decompress(data))
    assert model.graph == library.load(exported / "onnx" / onnx.FILE).graph
    assert "<h1>U-Net: background, disk, square, triangle and 2 more</h1>" in text
    assert "CC-BY-4.0" in text
