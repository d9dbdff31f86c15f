"""The console: plain lines, progress bars, durations."""

from collections.abc import Iterable
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from unet_jax.process.streams import printable

T = TypeVar("T")


class _PlainConsole(Console):
    """A console on which a text is what it says: names are no markup, and stay in their line."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Makes a line or a cell of a text; rich asks for each."""
        return super().render_str(printable(text), **options)


console = _PlainConsole(soft_wrap=True, highlight=False, markup=False, emoji=False)


def duration(seconds: float) -> str:
    """Writes seconds as "1:02:03" or "2:03"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def follow(items: Iterable[T], text: str, total: int) -> list[T]:
    """Takes all of some items, with a progress bar that goes at the end where there is a terminal.

    Args:
        items: The items, as they come.
        text: Before the bar.
        total: How many there are.

    Returns:
        The items.
    """
    columns = (
        TextColumn(printable(text), markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        return list(progress.track(items, total))


def print_header(title: str, facts: dict[str, Any]) -> None:
    """Prints what a run is about to do, a line per fact."""
    console.print(title)
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"  {name:<{width}}  {value}")
