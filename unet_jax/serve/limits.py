"""How much a server takes, so that no request, and no number of them, fills its memory."""

from typing import NamedTuple

from unet_jax.errors import UserError


class Limits(NamedTuple):
    """What a server takes at most.

    Attributes:
        bytes: Of a request's body; more is refused before it is read.
        pixels: Of an image, by its header, before it is decoded.
        images: Of a request.
        seconds: From the start of a request to its answer.
        queue: Requests that wait while another is under way; more are sent away at once. Only those
            that are in it are read, so that bodies take (queue + 1) bytes at most.
    """

    bytes: int = 32 * 2**20
    pixels: int = 2**24
    images: int = 16
    seconds: int = 120
    queue: int = 16


def parse_limits(text: str) -> Limits:
    """Reads the limits that --limits names; those that it does not are as they are.

    Args:
        text: Such as "pixels=1000000,queue=4".

    Returns:
        The limits.

    Raises:
        UserError: One is not known, or is no whole number above 0 (`queue` may be 0).
    """
    given = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.strip().partition("=")
        is_number = value.isascii() and value.isdecimal() and len(value) <= 15
        if name not in Limits._fields or not is_number or (name != "queue" and int(value) < 1):
            raise UserError(
                f"--limits={text!s:.200}: {part!r:.80} is none; allowed are "
                f"{', '.join(f'{field}=N' for field in Limits._fields)} with whole numbers above 0 "
                "(queue may be 0), divided by commas."
            )
        given[name] = int(value)
    return Limits(**given)
