"""A package of the BioImage Model Zoo (bioimage.io), with ONNX weights; for images of two axes."""

import datetime
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from unet_jax import figures
from unet_jax.data.sample import Spec
from unet_jax.errors import UserError
from unet_jax.export import onnx, stablehlo
from unet_jax.export.bundle import EXAMPLE_SIZES, EXAMPLES, Bundle, draw
from unet_jax.export.pipeline import Pipeline, make_pipeline
from unet_jax.process.whole import write_text, write_whole

TRIES = 16  # seeds of drawn images
FORMAT_VERSION = "0.5.4"
OUTPUTS = ("label", "probability")
PAPER = (
    "Ronneberger, Fischer and Brox: U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation, MICCAI 2015"
)
RDF, DOCUMENTATION, COVER = "rdf.yaml", "README.md", "cover.png"


def export(bundle: Bundle, folder: Path) -> None:
    """Writes the package: description, weights, test tensors, cover and documentation.

    Args:
        bundle: The model, with a licence.
        folder: Where; it is there.

    Raises:
        UserError: The model has an operation that ONNX has no rule for, or gives every pixel of
            all examples, and of images that are drawn, its first class.
    """
    pipeline = make_pipeline(bundle.network, bundle.variables, dtype="float32")
    model = onnx.of_pipeline(pipeline, OUTPUTS)
    write_whole(folder / onnx.FILE, model.SerializeToString())
    image, found = _test(bundle, pipeline)
    np.save(folder / "test_image.npy", image[None])
    for name in OUTPUTS:
        np.save(folder / f"test_{name}.npy", found[name][None])
    shown = figures.flat_image(image), figures.flat_label(found["label"], 2)
    figures.save_png(folder / COVER, figures.overlay(*shown))
    write_text(folder / DOCUMENTATION, _documentation(bundle))
    text = yaml.safe_dump(_describe(bundle, folder), sort_keys=False, allow_unicode=True)
    write_text(folder / RDF, text)


def _test(bundle: Bundle, pipeline: Pipeline) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns an image and what is predicted; the format takes no label that is 0 everywhere."""
    program = stablehlo.make_program(pipeline)
    for image in (*bundle.examples, *_drawn(bundle.network.spec)):
        typed = image.astype(pipeline.dtype)
        found = stablehlo.predict(program, pipeline, typed)
        if found["label"].any():
            return typed, found
    raise UserError(
        f"--format=bioimageio needs a test image with a pixel of another class than "
        f"{bundle.class_names[0]}, and the examples have none: give one, --input=FILE."
    )


def _drawn(spec: Spec) -> Iterator[np.ndarray]:
    """Draws more images of one size, for which one program is compiled, and their negatives."""
    low, high = spec.value_range
    for seed in range(EXAMPLES, TRIES):
        image = draw(spec, seed, EXAMPLE_SIZES[0])
        yield image
        yield (low + high - image).astype(image.dtype)


def _describe(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Returns the content of rdf.yaml."""
    channels = bundle.network.spec.channels
    names = ["red", "green", "blue"] if channels == 3 else [f"c{i}" for i in range(channels)]
    least = bundle.pipeline.least
    space = [
        {"type": "space", "id": axis, "size": {"min": least, "step": 1}} for axis in ("y", "x")
    ]
    same = [
        {"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}}
        for axis in ("y", "x")
    ]
    batch = {"type": "batch"}
    task = bundle.network.task
    by_class = [{"type": "channel", "channel_names": [_identifier(n) for n in task.names]}]
    label_axes = [batch, *same, *(by_class if task.label_shape else [])]
    return {
        "format_version": FORMAT_VERSION,
        "type": "model",
        "name": _name(bundle),
        "description": f"A U-Net that labels each pixel as {', '.join(bundle.class_names)}."[:1024],
        "license": bundle.licence,
        "authors": [{"name": "not stated"}],
        "documentation": DOCUMENTATION,
        "covers": [COVER],
        "cite": [{"text": PAPER, "doi": "10.1007/978-3-319-24574-4_28"}],
        "tags": ["segmentation", "unet", "semantic-segmentation"],
        "timestamp": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "inputs": [
            {
                "id": "image",
                "axes": [batch, *space, {"type": "channel", "channel_names": names}],
                "data": {"type": bundle.pipeline.dtype},
                "test_tensor": _file(folder / "test_image.npy"),
            }
        ],
        "outputs": [
            {
                "id": "label",
                "axes": label_axes,
                "data": {"type": "uint8"},
                "test_tensor": _file(folder / "test_label.npy"),
            },
            {
                "id": "probability",
                "axes": [batch, *same, *by_class],
                "data": {"type": "float32", "range": [0.0, 1.0]},
                "test_tensor": _file(folder / "test_probability.npy"),
            },
        ],
        "weights": {"onnx": {**_file(folder / onnx.FILE), "opset_version": onnx.OPSET}},
    }


def _file(file: Path) -> dict[str, str]:
    return {"source": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _name(bundle: Bundle) -> str:
    """Returns the name, of letters that the format allows."""
    classes = " ".join(_identifier(name) for name in bundle.class_names)
    return f"U-Net for {classes}"[:120]


def _identifier(text: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in text)


def _documentation(bundle: Bundle) -> str:
    says = bundle.describe()
    rows = "\n".join(
        f"| {k} | {name} | {colour} |"
        for k, (name, colour) in enumerate(zip(says["class_names"], says["colours"], strict=True))
    )
    return f"""# {_name(bundle)}

Takes images of any number and size, [b, y, x, c] of {says["image"]["dtype"]}, as they are decoded:
{says["image"]["normalised"]}. Returns the label of each pixel and the probability of each class.

| id | class | colour |
|---|---|---|
{rows}

Exported from step {bundle.facts.get("step")} of a run of unet_jax. Test tensors are of a drawn
image unless the exporter gave one.

## Validation

Scores of the validation split of the training at that step: {bundle.scores or "none"}.
Validate the model on images of your own before you rely on it.
"""
