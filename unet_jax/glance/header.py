"""The first screen of the page of a run: what it scored, what it gets wrong, and what it was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unet_jax.commands import spell
from unet_jax.data.sample import written
from unet_jax.glance.findings import class_scores, find
from unet_jax.glance.material import Evaluated, Material
from unet_jax.html.elements import Html, make
from unet_jax.process import records
from unet_jax.process.console import duration
from unet_jax.runs import layout
from unet_jax.runs.provenance import time_trained, written_command

_BARS = 10  # classes with a bar


def title(material: Material) -> str:
    """Returns the heading: the config page where the run tells it, and the directory."""
    given = _argument(material.provenance.get("command", []), "--config")
    folder = Path(material.workdir).absolute().name
    page = Path(given.partition(":")[0]).stem if given else ""
    return folder if page in ("", folder) else f"{page}: {folder}"


def _argument(command: list[str], name: str) -> str:
    """Returns the value of a flag of a command; "" where it has none."""
    for index, word in enumerate(command):
        if word == name:
            return "".join(command[index + 1 : index + 2])
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return ""


def header(material: Material) -> Iterator[Html]:
    """Writes the first screen.

    Args:
        material: The run.

    Yields:
        Its elements.
    """
    shown = material.evaluated[:1]
    yield make("div", *map(_tile, _told(material)), kind="tiles")
    columns = [make("div", *_wrong(one, material)) for one in shown]
    columns += [make("div", *_bars(one)) for one in shown if class_scores(one)]
    facts = [e for key, value in _facts(material).items() for e in (make("dt", key), value)]
    columns.append(make("div", make("dl", *facts)))
    yield make("div", *columns, kind="glance")


def _told(material: Material) -> Iterator[tuple[str, str]]:
    """Yields the numbers that stand first, and what each is."""
    headline = material.headline
    for one in material.evaluated:
        value = one.scores.get(headline.name)
        images = f", {len(one.ids)} images" if one.ids else ""
        text = "none" if value is None else f"{value:.4f}"
        about = f"{headline.title}, {one.entry.replace('_', ' ')} (step {one.step}{images})"
        yield text, about + _interval(material.workdir, one, headline.name)


def _interval(workdir: Path, one: Evaluated, name: str) -> str:
    """Says the interval of a score where the card of the evaluation has one."""
    file = workdir / layout.CARDS / f"{one.entry}_{one.step:08d}.json"
    card = records.recall(file, {"scores": {str: {str: object}}}) or {"scores": {}}
    low, high = (card["scores"].get(name, {}).get(end) for end in ("low", "high"))
    if not (records.is_finite(low) and records.is_finite(high)):
        return ""
    return f"; 95% interval {low:.4f} to {high:.4f}"


def _tile(told: tuple[str, str]) -> Html:
    return make("div", make("strong", told[0]), make("span", told[1]), kind="tile")


def _wrong(one: Evaluated, material: Material) -> Iterator[Html]:
    lines = find(one, material.headline)
    if lines:
        yield make("h3", f"What it gets wrong ({one.entry})")
        yield make("ul", *(make("li", line) for line in lines))


def _bars(one: Evaluated) -> Iterator[Html]:
    scored = class_scores(one)
    shown = scored if len(scored) <= _BARS else scored[: _BARS - 2] + scored[-2:]
    more = f", the {_BARS - 2} worst and 2 best of {len(scored)}" if shown != scored else ""
    yield make("h3", f"IoU by class ({one.entry}){more}")
    for name, value in shown:
        bar = make("div", make("div", style=f"width:{value:.2%}"), kind="bar score")
        yield make("div", make("span", name), make("span", f"{value:.3f}"), bar, kind="row")


def _facts(material: Material) -> dict[str, Html]:
    config, run = material.config, material.provenance
    data, task = config.data, config.task.kind
    counts = ", ".join(f"{name} {count:,}" for name, count in material.images.items())
    about: dict[str, Any] = {
        "data": " ".join(filter(None, (data.source, data.path, f"({counts})" if counts else ""))),
        "images": f"{written(tuple(data.image_size))} by {data.fit}",
        "task": f"{task} classes" if task == "exclusive" else task,
        "classes": ", ".join(material.evaluated[0].class_names) if material.evaluated else "",
        "steps": _steps(material),
        "time": _minutes(material),
        "parameters": f"{run['parameters']:,}" if "parameters" in run else "",
        "device": _device(run),
        "commit": _commit(run.get("git_commit") or ""),
    }
    facts = {key: make("dd", str(value)) for key, value in about.items() if value}
    if command := run.get("command"):
        facts["command"] = make("dd", make("pre", written_command(command), tabindex="0"))
    return facts


def _steps(material: Material) -> str:
    train = material.train
    if not train:
        return ""
    size = material.config.train.batch_size
    return f"{train['step']:,} of {size} images, the best one is {train['best_step']:,}"


def _minutes(material: Material) -> str:
    """Says how long the run trained, or else, by their speed, its steps alone."""
    if (trained := time_trained(material.provenance)) and trained.is_all:
        return duration(trained.seconds)
    before, seconds, size = 0, 0.0, material.config.train.batch_size
    for line in material.lines:
        if line.get("images_per_s"):
            seconds += (line["step"] - before) * size / line["images_per_s"]
            before = line["step"]
    return f"about {duration(seconds)} for the steps alone" if before else ""


def _device(run: dict[str, Any]) -> str:
    device = run.get("devices")
    if not device:
        return ""
    return f"{device['count']} x {device['kind']} ({device['platform']}), {run.get('cores')} cores"


def _commit(text: str) -> str:
    """Shortens a commit as git does, and keeps what says that the code was changed."""
    name, dash, more = text.partition("-")
    return f"{name[:12]}{dash}{more}"


def evaluation_of(material: Material, split: str, *flags: str) -> str:
    """Writes the command that evaluates a run.

    Args:
        material: The run.
        split: "val" or "test".
        *flags: More of its flags.

    Returns:
        The command.
    """
    given = "--mode=eval", f"--workdir={material.workdir}", f"--split={split}", *flags
    return spell("unet-jax", *given)
