"""Elements of a page; whatever text they are given is escaped."""

from xml.etree.ElementTree import Element, tostring

from unet_jax.process.streams import printable

Child = Element | str


def make(name: str, /, *children: Child, **attributes: str) -> Element:
    """Makes an element.

    Args:
        name: Such as "p".
        *children: Elements, and texts, which stay texts whatever they hold.
        **attributes: By name; "kind" stands for class, and a "_" for "-".

    Returns:
        The element.
    """
    names = {"kind": "class"}
    found = {names.get(k, k.replace("_", "-")): _text(v) for k, v in attributes.items()}
    element = Element(name, found)
    last: Element | None = None
    for child in children:
        if isinstance(child, str):
            text = "\n".join(map(_text, child.split("\n")))
            if last is None:
                element.text = (element.text or "") + text
            else:
                last.tail = (last.tail or "") + text
        else:
            element.append(child)
            last = child
    return element


def _text(text: str) -> str:
    return printable(text)


def write(root: Element) -> str:
    """Writes a whole page.

    Args:
        root: Its "html".

    Returns:
        HTML; style sheets are written as they are.
    """
    return f"<!DOCTYPE html>\n{tostring(root, encoding='unicode', method='html')}\n"
