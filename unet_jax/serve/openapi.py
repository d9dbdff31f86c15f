"""What a server answers to, as OpenAPI."""

from collections.abc import Sequence
from typing import Any

from unet_jax.serve.answers import IDS, JSON, NOTE, PNG, SHAPE, ZIP
from unet_jax.serve.limits import Limits

_ERRORS = {
    400: "An image, or the form, cannot be read, or is of another kind than the model's.",
    408: "The request was not read in time.",
    413: "The body, or the number of images, is above the limit.",
    503: "The queue is full; Retry-After says in how many seconds to come again.",
    504: "The answer was not there in time.",
}


def describe(
    title: str, version: str, class_names: Sequence[str], limits: Limits
) -> dict[str, Any]:
    """Describes a server.

    Args:
        title: Of the model.
        version: Of this package.
        class_names: K names.
        limits: What it takes.

    Returns:
        An OpenAPI document.
    """
    error = _object({"error": {"type": "string", "description": "One line."}})
    answers = {str(code): _answer(text, {JSON: error}) for code, text in _ERRORS.items()}
    predict = {
        "summary": "Predicts the class of every pixel of one or many images.",
        "description": (
            f"Up to {limits.images} images of {limits.pixels:,} pixels, {limits.bytes:,} bytes in "
            f"all, in {limits.seconds} s. Files are known by their content. Accept: {JSON} gives "
            f"masks and counts, Accept: {IDS} bare ids of one image. Classes: "
            f"{', '.join(f'{k} {name}' for k, name in enumerate(class_names))}."
        ),
        "requestBody": {"required": True, "content": _bodies()},
        "responses": {"200": _masks(class_names)} | answers,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": {
            "/": _get("The page.", "text/html"),
            "/predict": {"post": predict},
            "/healthz": _get("Says that the server runs.", JSON),
            "/metrics": _get("Counts, in the text format of Prometheus.", "text/plain"),
            "/openapi.json": _get("This document.", JSON),
        },
    }


def _bodies() -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    form = _object({"image": {"type": "array", "items": file}})
    return {
        IDS: {"schema": file},
        "image/*": {"schema": file},
        "multipart/form-data": {"schema": form},
    }


def _masks(class_names: Sequence[str]) -> dict[str, Any]:
    file, number = {"type": "string", "format": "binary"}, {"type": "integer"}
    image = {
        "name": {"type": "string"},
        "height": number,
        "width": number,
        "pixels": _object(dict.fromkeys(class_names, number)),
        "masks": {
            "type": "array",
            "items": {"type": "string", "contentEncoding": "base64", "contentMediaType": PNG},
        },
    }
    names = {"type": "array", "items": {"type": "string"}}
    images = {"type": "array", "items": _object(image)}
    table = _object({"classes": names, "images": images, "notes": names})
    answer = _answer(
        "An indexed PNG of class ids; of many images, or of classes that overlap, a zip of such.",
        {PNG: file, ZIP: file, IDS: file, JSON: table},
    )
    headers = {
        SHAPE: f"HEIGHT,WIDTH of {IDS}",
        NOTE: "What is to be said of the images, if anything.",
    }
    told = {k: {"description": v, "schema": {"type": "string"}} for k, v in headers.items()}
    return answer | {"headers": told}


def _get(summary: str, kind: str) -> dict[str, Any]:
    answer = _answer(summary, {kind: {}})
    return {"get": {"summary": summary, "responses": {"200": answer}}}


def _answer(text: str, schemas: dict[str, Any]) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    return {"description": text, "content": content}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}
