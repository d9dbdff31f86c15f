"""A model as a page: one HTML file that opens from the disk and predicts in the browser."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.browser.page import ONNX, Facts, make_page, most_pixels
from unet_jax.data.sample import Spec
from unet_jax.errors import UserError
from unet_jax.export import onnx
from unet_jax.export.bundle import Bundle
from unet_jax.export.runtime import VERSION, read_runtime
from unet_jax.process.console import console
from unet_jax.process.whole import write_text

NAME, FILE = "page", "page.html"
MOST_BYTES = 100_000_000
"""Of the model in a page; weights of larger ones are kept as float16."""
_MANY = 1024  # numbers of an array of weights that is worth it
_NAMED = 4  # classes in the title, at most


def export(bundle: Bundle, folder: Path) -> None:
    """Writes the page; the runtime is in the cache by then, see `runtime.read_runtime`.

    Args:
        bundle: The model.
        folder: Where; it is there.

    Raises:
        UserError: See `facts_of` and `write_page`.
    """
    facts = facts_of(bundle)
    model = onnx.make_model(bundle).SerializeToString()
    for line in write_page(folder / FILE, model, facts, None):
        console.print(line)


def facts_of(bundle: Bundle) -> Facts:
    """Makes what the page says of a bundle; see `make_facts` for what it raises."""
    names = bundle.class_names
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    about = {
        "licence": bundle.licence or "not stated",
        "trained for": f"{bundle.facts['step']:,} steps",
        "scores of validation": bundle.scores or "none",
    }
    by_class = bool(bundle.network.task.label_shape)
    title = f"U-Net: {', '.join(names[:_NAMED])}{more}"
    return make_facts(title, names, bundle.network.spec, about, by_class=by_class)


def make_facts(
    title: str,
    class_names: Sequence[str],
    spec: Spec,
    about: Mapping[str, str],
    *,
    by_class: bool,
) -> Facts:
    """Makes what a page says of a model.

    Args:
        title: Its heading.
        class_names: K names.
        spec: Of the images.
        about: More about the model, by name.
        by_class: Whether classes may overlap.

    Returns:
        What it says.

    Raises:
        UserError: No page can show such images or masks.
    """
    cure = "leave out --format=page, or use --mode=serve."
    if by_class:
        raise UserError(f"--format=page shows one class a pixel, and the run's overlap; {cure}")
    if spec.axes != 2 or spec.channels not in (1, 3) or spec.dtype != "uint8":
        raise UserError(
            f"--format=page reads images of 2 axes, 1 or 3 channels of uint8, and the run's have "
            f"{spec}; {cure}"
        )
    most = most_pixels(len(class_names))
    return Facts(title, class_names, spec.channels, about, most)


def write_page(file: Path, model: bytes, facts: Facts, runtime: Path | None) -> list[str]:
    """Writes a page, whole or not at all.

    Args:
        file: HTML file; its folder is there.
        model: An ONNX model without other files: `image` uint8 [B, H, W, C] of any B, H and W
            becomes `label` uint8 [B, H, W]; where it gives `other_range` bool [B] as well, the page
            says so of images for which it is true.
        facts: What the page says of it.
        runtime: See `runtime.read_runtime`.

    Returns:
        Lines that say what was written.

    Raises:
        UserError: The model is too large for a page, or there is no runtime.
    """
    packed, lines = fit_model(model)
    library, glue, wasm = read_runtime(runtime).values()
    blocks = {"ort": _alone(library), "glue": _alone(glue), "wasm": wasm, "model": packed}
    about = {**facts.about, "runs by": f"onnxruntime-web {VERSION}, MIT licence, Microsoft"}
    text = make_page(facts._replace(about=about), ONNX, blocks)
    write_text(file, text)
    size = len(text.encode()) / 1e6
    return [
        *lines,
        f"{file.name}: {size:.1f} MB (the model {len(packed) / 1e6:.1f} MB of it, before it is "
        "packed); it says the seconds of each image, on one thread",
    ]


def _alone(script: bytes) -> bytes:
    """Takes from a script the address of its map, which tools of browsers would fetch."""
    return re.sub(rb"//# sourceMappingURL=\S+\s*$", b"", script)


def fit_model(model: bytes) -> tuple[bytes, list[str]]:
    """Makes a model small enough for a page: above `MOST_BYTES` its weights become float16.

    The network computes in float32 all the same.

    Args:
        model: See `write_page`.

    Returns:
        The model, and a line that says what was done where something was.

    Raises:
        UserError: It is too large even so, or has weights that float16 cannot hold.
    """
    if len(model) <= MOST_BYTES:
        return model, []
    packed = _halve(model)
    if len(packed) > MOST_BYTES:
        raise UserError(
            f"the model has {len(model) / 1e6:,.0f} MB, {len(packed) / 1e6:,.0f} MB as float16, "
            f"and a page may hold {MOST_BYTES / 1e6:,.0f} MB: train one with a smaller "
            "config.model.width or config.model.features, or leave out --format=page."
        )
    return packed, [
        f"the model has {len(model) / 1e6:,.0f} MB: the page keeps its weights as float16, "
        f"{len(packed) / 1e6:,.0f} MB, so that some pixels may get another class"
    ]


def _halve(model: bytes) -> bytes:
    """Keeps arrays of float32 as float16, which the program turns back when it is loaded."""
    import onnx
    from onnx import numpy_helper

    net: Any = onnx.load_model_from_string(model)
    casts = []
    for array in net.graph.initializer:
        if array.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(array)
        if values.size < _MANY:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise UserError(
                f"the model has {len(model) / 1e6:,.0f} MB, and weights in {array.name} are too "
                "large for float16, as which a page would keep them; leave out --format=page."
            )
        name, half = array.name, f"{array.name}_float16"
        array.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *net.graph.node]
    del net.graph.node[:]
    net.graph.node.extend(nodes)
    return net.SerializeToString()
