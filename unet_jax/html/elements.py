"""Elements of a page; whatever text they are given is escaped."""

from html import escape

from unet_jax.process.streams import printable

_EMPTY = ("meta", "img", "input")  # elements that hold nothing and are not closed


class Html(str):
    """What is HTML already; any other text is escaped where it comes into an element."""


def make(name: str, /, *children: str, **attributes: str) -> Html:
    """Makes an element.

    Args:
        name: Such as "p".
        *children: Elements, and texts, which stay texts whatever they hold.
        **attributes: By name; "kind" stands for class, "of" for for, and a "_" for "-".

    Returns:
        The element.
    """
    names = {"kind": "class", "of": "for"}
    given = "".join(
        f' {names.get(key, key.replace("_", "-"))}="{escape(printable(value))}"'
        for key, value in attributes.items()
    )
    if name in _EMPTY:
        return Html(f"<{name}{given}>")
    inner = "".join(one if isinstance(one, Html) else _escape(one) for one in children)
    return Html(f"<{name}{given}>{inner}</{name}>")


def _escape(text: str) -> str:
    return escape("\n".join(map(printable, text.split("\n"))))
