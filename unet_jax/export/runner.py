"""Runs a model that unet_jax exported; it needs jax and NumPy, and not unet_jax.

python run_model.py model.unet                            what the model is
python run_model.py model.unet photo.npy [photo.png ...]  writes photo_label.npy, ...

    from run_model import load
    model = load("model.unet")
    result = model(image)   # [H, W, C] of the type that the model says
    result["label"], result["probability"]

The file is a ZIP archive whose comment is the SHA-256 of all bytes before it. A byte that has
changed anywhere is noticed; so are labels of the three examples inside that come out otherwise.
"""

import argparse
import datetime
import hashlib
import io
import json
import os
import sys
import zipfile

import numpy as np

FORMAT = "unet_jax export"
MANIFEST, PROGRAM, WEIGHTS, EXAMPLES = "manifest.json", "program.bin", "weights.npz", "examples.npz"
WINDOW = 180  # days that jax reads what an earlier jax wrote
DIGITS = 64  # of a SHA-256


class ModelError(Exception):
    """The file, or an image, is not what it has to be; the message is one line."""

    exit_code = 2


class Model:
    """An exported model.

    Attributes:
        manifest: What it says of itself: classes, colours, licence, card, versions.
    """

    def __init__(self, path, manifest, parts):
        """Makes the program ready; see `load`."""
        self.path, self.manifest = path, manifest
        self._program = _deserialize(path, manifest, parts[PROGRAM])
        self._weights = dict(np.load(io.BytesIO(parts[WEIGHTS])))

    def __call__(self, image):
        """Predicts an image [*n, C], or a batch [B, *n, C]; grey ones may lack the axis C.

        Returns:
            "label" uint8 [*n], class ids, or of classes that may overlap [*n, K] of 0 and 1;
            "probability" float32 [*n, K]; "other_range", whether the values are of a wholly other
            range than those that the model was trained on. All with an axis B where the image has.
        """
        batch, is_single = self._checked(np.asarray(image))
        steps = tuple(np.zeros(k, np.int8) for k in self._steps(batch.shape[1:-1]))
        result = dict(self._program.call(self._weights, batch, steps))
        found = {k: np.asarray(v) for k, v in result.items()}
        return {k: v[0] for k, v in found.items()} if is_single else found

    def _steps(self, size):
        """Returns how many steps of its grid the network reads along each axis."""
        grid = self.manifest["image"]["grid"]
        if grid is None:  # every image is resized to one size
            return []
        lengths = [round_up(n) if grid["rounds"] else n for n in size]
        return [max(1, -(-(n - grid["given"]) // grid["multiple"])) for n in lengths]

    def _checked(self, image):
        says = self.manifest["image"]
        axes, channels, dtype = says["axes"], says["channels"], says["dtype"]
        if image.ndim == axes and channels == 1:
            image = image[..., None]
        is_single = image.ndim == axes + 1
        batch = image[None] if is_single else image
        if batch.ndim != axes + 2 or batch.shape[-1] != channels or batch.dtype != dtype:
            raise ModelError(
                f"the image has the shape {image.shape} and the type {image.dtype}; the model "
                f"takes {axes} axes of pixels and {channels} channels of {dtype}."
            )
        if not batch.size or min(batch.shape[1:-1]) < says["least"]:
            raise ModelError(
                f"the image has the shape {image.shape}; the model takes {says['least']} pixels or "
                "more along every axis."
            )
        if np.issubdtype(batch.dtype, np.floating) and not np.isfinite(batch).all():
            raise ModelError("the image has values that are not finite.")
        return batch, is_single

    def check(self, examples):
        """Checks that the examples inside have the labels that they had when it was made."""
        for i in range(len(examples) // 2):
            found = self(examples[f"image_{i}"])["label"]
            if not np.array_equal(found, examples[f"label_{i}"]):
                share = np.mean(found != examples[f"label_{i}"])
                raise ModelError(
                    f"{self.path}: the labels of its example {i} come out otherwise here "
                    f"({share:.3%} of the pixels); do not use it on this device."
                )


def round_up(n):
    """Rounds a length up to one of few: a multiple of 32, above 256 one of four in an octave."""
    multiple = max(32, 2 ** (n - 1).bit_length() // 8)
    return -(-n // multiple) * multiple


def read(path):
    """Reads the parts of a file by name, and its manifest; nothing is run."""
    try:
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from None
    whole = hashlib.sha256(data[:-DIGITS]).hexdigest().encode()
    if data[-DIGITS:] != whole:
        raise ModelError(
            f"{path} is not as it was written, or no model that unet_jax exported (its SHA-256 is "
            "another): copy or export it again."
        )
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts.pop(MANIFEST, b"{}"))
    if manifest.get("format") != FORMAT or manifest.get("version") != 1:
        raise ModelError(f"{path} is no model that this runner knows: use the one beside it.")
    for name, wanted in manifest["parts"].items():
        if hashlib.sha256(parts.get(name, b"")).hexdigest() != wanted:
            raise ModelError(f"{path} is not as it was written ({name} has another SHA-256).")
    return manifest, parts


def load(path, check=True):
    """Loads a model.

    Args:
        path: The file.
        check: Whether to predict the three examples inside and compare their labels.

    Raises:
        ModelError: The file is not as it was written, or this jax cannot run it.
    """
    manifest, parts = read(path)
    model = Model(path, manifest, parts)
    if (line := old(path, manifest)) and check:
        print(line, file=sys.stderr)
    if check:
        model.check(np.load(io.BytesIO(parts[EXAMPLES])))
    return model


def old(path, manifest, today=None):
    """Says in one line that a file is older than jax's window; "" where it is not."""
    made = datetime.date.fromisoformat(manifest["date"])
    days = ((today or datetime.datetime.now(datetime.UTC).date()) - made).days
    if days <= WINDOW:
        return ""
    return (
        f"{path} was made {days} days ago ({made}, jax {manifest['jax']}), and jax promises to "
        f"read programs of the last {WINDOW} days; {renewal(path)}"
    )


def renewal(path):
    """Says how to renew a file."""
    return (
        "with unet_jax installed, renew it from the config and the weights inside: "
        f"python -m unet_jax.main --mode=export --renew={path} --output=FOLDER"
    )


def _deserialize(path, manifest, program):
    import jax
    import jax.export

    try:
        return jax.export.deserialize(bytearray(program))
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} was made on {manifest['date']} by jax {manifest['jax']}, and this jax "
            f"{jax.__version__} cannot read its program ({why}); {renewal(path)}"
        ) from None


def _read_image(path):
    if path.endswith(".npy"):
        return np.load(path)
    try:
        from PIL import Image
    except ImportError:
        raise ModelError(f"{path}: without Pillow only .npy files can be read.") from None
    return np.asarray(Image.open(path).convert("RGB"))


def main(arguments):
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("images", nargs="*")
    given = parser.parse_args(arguments)
    try:
        model = load(given.model)
        if not given.images:
            print(json.dumps(model.manifest, indent=2))
        for path in given.images:
            result = model(_read_image(path))
            if result["other_range"]:
                print(f"{path} has values of a wholly other range than the model's images.")
            output = f"{os.path.splitext(path)[0]}_label.npy"
            if os.path.exists(output):
                raise ModelError(f"{output} is there already and is not replaced.")
            np.save(output, result["label"])
            print(output)
    except (ModelError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
