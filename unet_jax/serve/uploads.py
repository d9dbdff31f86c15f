"""What a request brings: one image as its body, or a form of files; and their pixels."""

import io
import math
import re
from collections.abc import AsyncGenerator
from typing import NamedTuple

import numpy as np
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from unet_jax.data.formats import FORMATS
from unet_jax.data.sample import Spec, check_spec, written
from unet_jax.errors import UserError
from unet_jax.serve.limits import Limits

_MAGIC = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",
    b"MM\0+": ".tif",
}
"""Formats by the first bytes of a file; all others Pillow knows. Names of files decide nothing."""
_FORM = "multipart/form-data"
_LONGEST = 100  # letters of a name


class Upload(NamedTuple):
    """An image as it came.

    Attributes:
        name: Of its file, without folders, and of no more than letters, digits, ".", "_" and "-".
        data: Its bytes.
    """

    name: str
    data: bytes


async def read_uploads(request: Request, limits: Limits) -> list[Upload]:
    """Reads the images of a request.

    Args:
        request: The request.
        limits: How much of it is read.

    Returns:
        One or more.

    Raises:
        HTTPException: It is too large, has too many images or none, or is no such form.
    """
    body = await _read_body(request, limits.bytes)
    kind = request.headers.get("content-type", "")
    is_form = kind.lower().startswith(_FORM)
    uploads = await _read_form(request, body, limits) if is_form else [Upload("image", body)]
    if not uploads or not all(upload.data for upload in uploads):
        empty = next((upload.name for upload in uploads if not upload.data), "the request")
        raise HTTPException(
            400, f"{empty} is empty; send an image as the body, or a form of files."
        )
    return uploads


async def _read_body(request: Request, most: int) -> bytes:
    line = f"the body has more than {most:,} bytes, the most here; send fewer or smaller images."
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdecimal() and len(said) < 20 and int(said) > most:
        raise HTTPException(413, line)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise HTTPException(413, line)
    return bytes(body)


async def _read_form(request: Request, body: bytes, limits: Limits) -> list[Upload]:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=limits.images, max_fields=16)
    parser.spool_max_size = limits.bytes  # nothing goes to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if "Too many" in error.message else 400
        raise HTTPException(status, f"the form cannot be read: {error.message}") from None
    except Exception as error:  # what the parser makes of damage
        raise HTTPException(400, f"the form cannot be read ({type(error).__name__}).") from None
    files = [value for _, value in form.multi_items() if not isinstance(value, str)]
    uploads = [Upload(safe_name(file.filename or ""), await file.read()) for file in files]
    await form.close()
    return uploads


def safe_name(name: str) -> str:
    """Makes a name of a file that leads nowhere and has no control characters.

    Args:
        name: As a client gave it, a path perhaps.

    Returns:
        Its last part, of letters, digits, ".", "_" and "-"; "image" where nothing is left.
    """
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[^\w.-]", "_", last)[-_LONGEST:].lstrip(".") or "image"


def decode(upload: Upload, spec: Spec, most_pixels: int) -> np.ndarray:
    """Decodes an image, by the readers of the package.

    Args:
        upload: The image.
        spec: What the model reads.
        most_pixels: Of its header, before pixels are decoded.

    Returns:
        [H, W, C].

    Raises:
        UserError: It cannot be read, is of another kind than the model's, or has more pixels.
    """
    suffix = next((s for magic, s in _MAGIC.items() if upload.data.startswith(magic)), ".png")
    form = FORMATS[suffix]
    header = form.header(io.BytesIO(upload.data), upload.name, spec.axes)
    if math.prod(header.shape) > most_pixels:
        raise UserError(
            f"{upload.name} has {written(header.shape)} pixels; {most_pixels:,} are the most here. "
            "Make it smaller or cut it."
        )
    check_spec(upload.name, header.spec(), spec, "what the model was trained on has")
    return form.read(io.BytesIO(upload.data), upload.name, spec.axes)
