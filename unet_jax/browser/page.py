"""Writes the page: one HTML file with all in it, whose engine is in its own scripts or a server."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from unet_jax.figures import palette
from unet_jax.html.document import Section, write_document
from unet_jax.html.elements import Html, make
from unet_jax.html.style import STYLE

GENERATOR = "unet_jax page"
ONNX, SERVER = "onnx.js", "server.js"
"""What predicts: the blocks "ort", "glue", "wasm" and "model" of the page, or its server."""
MOST_PIXELS = 2**24
"""Pixels of the largest image that a page takes."""
_MOST_BYTES = 2**30  # of the probabilities of an image, and of what they are computed from
_COPIES = 3
_COLUMNS = ("class", "id", "pixels", "share")
_WHERE = (
    "The model is in this page and runs in this browser: no image leaves this computer.",
    "The server of this page predicts the class of every pixel.",
)
_KINDS = ("PNG, JPEG, WebP or BMP", "PNG, JPEG, WebP, BMP or TIFF")
_SCRIPTS = ("pixels.js", "png.js", "page.js")


class Facts(NamedTuple):
    """What a page says of its model.

    Attributes:
        title: Its heading.
        class_names: K names, by class id.
        channels: Of the images: 3 for colours, 1 for grey values; 8 bits each.
        about: More about the model, by name, such as its licence.
        most_pixels: Of an image; see `most_pixels`.
    """

    title: str
    class_names: Sequence[str]
    channels: int = 3
    about: Mapping[str, str] = {}
    most_pixels: int = MOST_PIXELS


def most_pixels(classes: int) -> int:
    """Returns the pixels of the largest image for which a browser likely has the memory.

    Args:
        classes: K; the probabilities of all of them take up to a third of 1 GiB.
    """
    return min(MOST_PIXELS, _MOST_BYTES // (_COPIES * 4 * classes))


def make_page(facts: Facts, engine: str, blocks: Mapping[str, bytes]) -> str:
    """Makes a page.

    No request leaves it, or only to its own server, since its security policy forbids all others.

    Args:
        facts: What it says of its model.
        engine: `ONNX` or `SERVER`; or the text of a script that defines makeEngine(facts).
        blocks: Data of the engine, by the id of its element.

    Returns:
        HTML; the same of the same arguments.
    """
    given = engine if "\n" in engine else _text(engine)
    script = "\n".join(['"use strict";', given, *map(_text, _SCRIPTS)])
    css = _text("page.css")
    told = json.dumps(_told(facts)).replace("<", "\\u003c")
    scripts = [make("script", Html(told), type="application/json", id="facts")]
    for name, data in blocks.items():
        packed = base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
        scripts.append(make("script", Html(packed), type="application/octet-stream", id=name))
    scripts.append(make("script", Html(script)))
    rule = make("meta", http_equiv="Content-Security-Policy", content=_policy(script, css, engine))
    return write_document(
        facts.title,
        GENERATOR,
        [make("p", _WHERE[engine == SERVER]), *_tool(_KINDS[engine == SERVER])],
        [
            Section("reads", "What it reads", list(_reads(facts, engine))),
            Section("about", "The model", [_about(facts)]),
        ],
        "Masks are indexed PNG files: their pixels are class ids, and viewers show the colours.",
        head=[rule, make("style", Html(css))],
        scripts=scripts,
    )


def _policy(script: str, css: str, engine: str) -> str:
    """Writes the security policy: what is in the page runs, and nothing is fetched."""
    rules = {
        "default-src": "'none'",
        "script-src": f"{_hash(script)} blob: 'wasm-unsafe-eval'",
        "style-src": f"{_hash(STYLE)} {_hash(css)}",
        "worker-src": "blob:",
        "img-src": "blob:",
        "connect-src": "'self'" if engine == SERVER else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _tool(kinds: str) -> Iterator[Html]:
    """Writes where an image is dropped and where its classes are shown."""
    yield make(
        "label",
        make("b", "Drop an image here, or choose one"),
        make("span", kinds, kind="muted"),
        make("input", type="file", id="file", accept="image/*", aria_describedby="status"),
        kind="drop",
        id="drop",
    )
    yield make("p", id="status", role="status", aria_live="polite")
    bar = make("progress", aria_label="under way")
    yield make("div", bar, make("span", id="clock", kind="muted"), id="working", hidden="")
    canvases = make("canvas", id="image"), make("canvas", id="mask")
    stage = make("div", *canvases, id="stage", kind="stage", role="img")
    slider = {"type": "range", "min": "0", "max": "100", "value": "50", "id": "opacity"}
    controls = make(
        "div",
        make("label", make("span", "Opacity of the mask"), make("input", **slider), of="opacity"),
        make("button", "Save the mask", type="button", id="save-mask"),
        make("button", "Save the overlay", type="button", id="save-overlay"),
        kind="controls",
    )
    head = make("tr", *(make("th", text, scope="col") for text in _COLUMNS))
    table = make("table", make("thead", head), make("tbody"), id="classes", aria_label="Classes")
    yield make("div", stage, controls, table, id="result", hidden="")


def _reads(facts: Facts, engine: str) -> Iterator[Html]:
    colours = "colours" if facts.channels == 3 else "grey values"
    yield make(
        "p",
        f"Images of 8 bits a channel with {colours}, of up to {facts.most_pixels:,} pixels. The "
        "mask has the image's own size.",
    )
    if engine != SERVER:
        yield make(
            "p",
            "Each is turned as its EXIF block says, and its colour profile is not applied, as in "
            "training. Transparent images, 16 bits, CMYK and files of several frames are refused. "
            "Browsers may decode JPEG files to values that differ by one or two.",
        )


def _about(facts: Facts) -> Html:
    classes = ", ".join(f"{k} {name}" for k, name in enumerate(facts.class_names))
    told = {"classes": classes, **facts.about}
    return make(
        "dl", *(e for key, text in told.items() for e in (make("dt", key), make("dd", text)))
    )


def _told(facts: Facts) -> dict[str, object]:
    """Returns what the scripts of the page know of the model."""
    colours = palette(len(facts.class_names)).tolist()
    classes = [
        {"name": name, "colour": colour}
        for name, colour in zip(facts.class_names, colours, strict=True)
    ]
    return {"classes": classes, "channels": facts.channels, "mostPixels": facts.most_pixels}


def _text(name: str) -> str:
    return (resources.files("unet_jax.browser") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
