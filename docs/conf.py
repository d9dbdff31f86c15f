"""The site: Sphinx with Markdown by MyST, and the theme of JAX, Flax and Optax; see `make docs`."""

import importlib.metadata
import re
from typing import Any

from sphinx.application import Sphinx

project = "unet_jax"
author = "The unet_jax authors"
copyright = author
release = importlib.metadata.version("unet-jax")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
default_role = "py:obj"  # docstrings put code, and names that become links, into backticks
python_maximum_signature_line_length = 80
smartquotes = False  # which would spoil values such as ""
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # as they are written, not as they print
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = "unet_jax"
html_theme_options = {"show_navbar_depth": 1, "show_toc_level": 2, "navbar_persistent": []}


def escape_text(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keeps what reStructuredText would take for its own, outside code.

    The stars of shapes such as [B, *n, C], for emphasis; a letter such as that of "batch_size: B.",
    for an item of a list.
    """
    parts = re.split(r"(`[^`]*`)", "\n".join(lines))
    parts[::2] = [part.replace("*", r"\*") for part in parts[::2]]
    text = re.sub(r"(?m)^(\s*\w+: )(?=\w\.(\s|$))", r"\1\\", "".join(parts))
    lines[:] = text.split("\n")


def skip_member(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out the fields of named tuples, which their class describes under Attributes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def cut_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Leaves out the two arguments that linen adds, defaults without a name, and marks of packs."""
    if not signature:
        return None
    if what == "class" and hasattr(obj, "scope") and ", parent:" in signature:
        signature = signature.split(", parent:")[0] + ")"
    signature = re.sub(r"<(function|factory)[^>]*>+", "...", signature)
    mark = r"~?(?:typing\.)?Annotated\[(.+?), ~?[\w.]*Traceable\(.*?\)\]"
    return re.sub(mark, r"\1", signature), returns


def setup(app: Sphinx) -> None:
    """Connects the hooks above; text is escaped before napoleon reads a docstring."""
    app.connect("autodoc-process-docstring", escape_text, priority=400)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-signature", cut_signature)
