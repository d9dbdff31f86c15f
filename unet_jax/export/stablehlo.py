"""One file with the whole prediction as StableHLO, for CPUs, GPUs and TPUs; `runner` runs it."""

import contextlib
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unet_jax.errors import UserError
from unet_jax.export import runner
from unet_jax.export.bundle import Bundle, draw, keep, make_bundle, network_of
from unet_jax.export.pipeline import Pipeline, plain_forms
from unet_jax.process.whole import write_whole

PLATFORMS = ("cpu", "cuda", "tpu")
FILE, RUNNER = "model.unet", "run_model.py"
CONFIG, KEPT, CARD = "config.json", "network.json", "card.json"
COMPARED = 8  # images of odd sizes, beside the examples, whose labels renewing must not change


def export(bundle: Bundle, folder: Path) -> None:
    """Writes the file and its runner.

    Args:
        bundle: The model.
        folder: Where; it is there.

    Raises:
        UserError: The labels of the examples depend on how the program is compiled.
    """
    write_whole(folder / FILE, pack(bundle))
    shutil.copy(runner.__file__, folder / RUNNER)


def make_program(pipeline: Pipeline) -> jax.export.Exported:
    """Makes the program of any number of images of any size."""
    with plain_forms(), _without_folders():
        function = jax.jit(pipeline.apply)
        return jax.export.export(function, platforms=PLATFORMS)(*pipeline.arguments())


@contextlib.contextmanager
def _without_folders() -> Iterator[None]:
    """Lets programs name the files of their code without the folders, which tell whose they are."""
    name = "jax_hlo_source_file_canonicalization_regex"
    config: Any = jax.config
    before = config.jax_hlo_source_file_canonicalization_regex
    jax.config.update(name, r".*[/\\]")
    try:
        yield
    finally:
        jax.config.update(name, before)


def predict(
    program: jax.export.Exported, pipeline: Pipeline, image: np.ndarray
) -> dict[str, np.ndarray]:
    """Predicts one image [*n, C] by the program; returns the outputs of `Pipeline.apply` for it."""
    steps = pipeline.steps(image.shape[:-1])
    found: Any = program.call(pipeline.weights, image[None], steps)
    return {name: np.asarray(x)[0] for name, x in found.items()}


def pack(bundle: Bundle) -> bytes:
    """Makes the bytes of the file: a ZIP archive that has its own SHA-256 as a comment."""
    program = make_program(bundle.pipeline)
    examples = {}
    for i, image in enumerate(bundle.examples):
        typed = image.astype(bundle.pipeline.dtype)
        found = predict(program, bundle.pipeline, typed)["label"]
        examples |= {f"image_{i}": typed, f"label_{i}": found}
    parts = {
        runner.PROGRAM: bytes(program.serialize()),
        runner.WEIGHTS: _npz(bundle.pipeline.weights),
        runner.EXAMPLES: _npz(examples),
        CONFIG: _json(bundle.config),
        KEPT: _json(keep(bundle)),
    }
    if bundle.card:
        parts[CARD] = _json(bundle.card)
    manifest = {
        "format": runner.FORMAT,
        "version": 1,
        **bundle.describe(),
        "platforms": PLATFORMS,
        "parts": {name: digest(data) for name, data in parts.items()},
    }
    return seal({runner.MANIFEST: _json(manifest), **parts})


def seal(parts: dict[str, bytes]) -> bytes:
    """Makes the archive of parts: compressed, without times, with the SHA-256 of all before it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        archive.comment = bytes(runner.DIGITS)
    data = stream.getvalue()[: -runner.DIGITS]
    return data + digest(data).encode()


def digest(data: bytes) -> str:
    """Returns the SHA-256 of a part, as the manifest has it."""
    return hashlib.sha256(data).hexdigest()


def renew(file: Path) -> Bundle:
    """Makes the bundle of an exported file again, for this jax.

    Args:
        file: The file.

    Returns:
        The bundle, whose labels of the examples inside are those of the file; and, where this jax
        can still run its program, those of other images too.

    Raises:
        UserError: The file is not as it was written, or labels come out otherwise.
    """
    try:
        manifest, parts = runner.read(str(file))
    except runner.ModelError as error:
        raise UserError(f"--renew={file}: {error}") from None
    config, kept = json.loads(parts[CONFIG]), json.loads(parts[KEPT])
    network = network_of(kept, config)
    weights = np.load(io.BytesIO(parts[runner.WEIGHTS]))
    examples = np.load(io.BytesIO(parts[runner.EXAMPLES]))
    images = tuple(examples[f"image_{i}"] for i in range(len(examples) // 2))
    licence = manifest["licence"].replace("not stated", "")
    card = json.loads(parts[CARD]) if CARD in parts else None
    variables = _nested(dict(weights))
    names, facts = tuple(kept["class_names"]), manifest["training"]
    bundle = make_bundle(network, variables, names, config, facts, card, licence, images)
    program = make_program(bundle.pipeline)
    pairs = [(image, examples[f"label_{i}"]) for i, image in enumerate(images)]
    try:
        old = runner.load(str(file), check=False)
    except runner.ModelError:
        old = None  # which is why it is renewed
    if old is not None:
        sizes = [(11 + 6 * i, 67 - 8 * i) for i in range(COMPARED)]
        depth = (13,) * (network.spec.axes - 2)
        least = bundle.pipeline.least
        for seed, size in enumerate(sizes):
            image = draw(network.spec, seed, tuple(max(least, n) for n in (*depth, *size)))
            pairs.append((image, old(image.astype(bundle.pipeline.dtype))["label"]))
    for image, label in pairs:
        found = predict(program, bundle.pipeline, image)["label"]
        if not np.array_equal(found, label):
            raise UserError(
                f"--renew={file}: the labels of an image {image.shape} come out otherwise with "
                f"this version ({np.mean(found != label):.3%} of the pixels); renew it with the "
                f"unet_jax that it was made with, or export the run again."
            )
    return bundle


def _nested(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    from flax.traverse_util import unflatten_dict

    return unflatten_dict(flat, sep="/")


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # pyrefly: ignore[bad-argument-type]
    return stream.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
