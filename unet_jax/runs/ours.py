"""What a run wrote into a directory, told from what others keep there."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from unet_jax import config as configs
from unet_jax.errors import UserError
from unet_jax.html.document import is_by
from unet_jax.process import whole
from unet_jax.process.owner import turn
from unet_jax.runs import layout

FOLDERS = (
    *(layout.CHECKPOINTS, layout.FIGURES, layout.EVALUATIONS),
    *(layout.TENSORBOARD, layout.TRACKERS, layout.CARDS),
)
FILES = (
    *(layout.CONFIG, layout.RUN, layout.SPLIT, layout.STATISTICS),
    *(layout.CLASS_WEIGHTS, layout.DURATION, layout.METRICS, layout.RESULTS, layout.LOOKS),
    layout.REPORT,
)
_HISTORY = f"{layout.FIGURES}/history"
_SECTIONS = {"data", "augment", "model", "loss", "optim", "train", "eval"}  # of every version
_RUN_KEYS = {"command", "overrides", "git_commit", "versions", "devices"}
_ENTRY = r"(val|test|train|train_split)(_latest)?"
_WRITTEN = {  # by folder, what a run names its files in it
    _HISTORY: r"\d{8,}\.npz",
    layout.FIGURES: rf"(predictions|confusion|errors|worst|curves|sizes)"
    rf"_(\d{{8,}}|{_ENTRY}(_\d{{8,}})?)\.png"
    r"|predictions_over_time\.png|learning_curves\.png",
    layout.EVALUATIONS: rf"{_ENTRY}(_\d{{8,}})?\.npz",
    layout.CARDS: rf"{_ENTRY}_\d{{8,}}\.(json|md|html)",
    layout.TENSORBOARD: r"events\.out\.tfevents\..+",
}
_HALF_SAVED = r"\d+\.orbax-checkpoint-tmp.*"
_DELETED = f"{layout.CHECKPOINTS}/deleted"  # steps that were to go
_CHECKSUMS = "sha256.json"  # in the folder of every step that a run saved
_EVALUATION = re.compile(r"\.evaluation_[a-z0-9_]{8}")  # where an evaluation draws
_TURN = re.compile(r"\.results\.json\.lock")  # of `owner.turn`


def check_names(workdir: Path, *, overwrite: bool = False) -> None:
    """Checks that the names that a run writes are free in a directory, or that a run wrote them.

    Other files may lie there. A directory is a run's where its config.json is one that a run wrote.

    Args:
        workdir: The directory.
        overwrite: Whether a new run replaces what is there; a run whose config.json is lost is then
            known by its run.json.

    Raises:
        UserError: A name is taken by what is not a run's, or by a folder where a run writes a file.
    """
    found = [workdir / name for name in (*FILES, *FOLDERS) if os.path.lexists(workdir / name)]
    config = workdir / layout.CONFIG
    is_run = _holds(config, _SECTIONS, set(configs.SECTIONS))
    is_run |= overwrite and _holds(workdir / layout.RUN, _RUN_KEYS)
    if found and not is_run:
        if os.path.lexists(config):
            configs.load(config)  # which says more of a file that is broken
            problem = f"{config} is not a config that a run wrote"
        else:
            problem = f"{found[0]} is there, but no {layout.CONFIG} of a run that wrote it"
        raise UserError(
            f"{problem}. A run would write there, and replaces nothing that is not a run's: choose "
            "another --workdir, or move it away."
        )
    for path in found:
        if path.is_dir() != (path.name in FOLDERS):
            kinds = ("a file", "a folder")
            raise UserError(
                f"{path} is {kinds[path.is_dir()]}, where a run writes {kinds[not path.is_dir()]}; "
                "move it away, or choose another --workdir."
            )


def _holds(file: Path, keys: set[str], allowed: set[str] | None = None) -> bool:
    """Tells whether a file is a JSON object with certain keys; where some are allowed, no other."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(found, dict) or not keys <= set(found):
        return False
    return allowed is None or (
        set(found) <= allowed and all(isinstance(section, dict) for section in found.values())
    )


def delete(workdir: Path) -> None:
    """Deletes what a run wrote, but for its config.json, by which a death on the way is survived.

    Other files stay, in the run's folders too; folders go where they are empty then.

    Args:
        workdir: The run's directory; see `check_names`.
    """
    results = workdir / layout.RESULTS
    if results.exists():
        with turn(results):  # an evaluation may be writing it
            results.unlink(missing_ok=True)
    for step in (*_steps(workdir / layout.CHECKPOINTS), *(workdir / _DELETED).glob("*")):
        shutil.rmtree(step)
    for folder, names in _WRITTEN.items():
        for file in (workdir / folder).glob("*"):
            if re.fullmatch(names, file.name) and not file.is_dir():
                file.unlink()
    remove_leftovers(workdir)
    if is_by(workdir / layout.REPORT, layout.REPORT_BY):
        (workdir / layout.REPORT).unlink()
    kept = (layout.STATISTICS, layout.CLASS_WEIGHTS, layout.DURATION, layout.SPLIT)
    for name in (layout.METRICS, layout.LOOKS, *kept, layout.RUN):
        (workdir / name).unlink(missing_ok=True)
    for name in (_HISTORY, _DELETED, *FOLDERS):
        folder = workdir / name
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


def _steps(checkpoints: Path) -> Iterator[Path]:
    """Yields the folders of steps that a run saved, or was saving when it died."""
    for folder in list(checkpoints.glob("*")):
        is_saved = folder.name.isdecimal() and (folder / _CHECKSUMS).is_file()
        if folder.is_dir() and (is_saved or re.fullmatch(_HALF_SAVED, folder.name)):
            yield folder


def remove_leftovers(workdir: Path) -> None:
    """Removes what processes that were killed left half written, where no live one holds it.

    Args:
        workdir: A run's directory.
    """
    for name in (".", *_WRITTEN):
        whole.remove_leftovers(workdir / name)
    for names in (_EVALUATION, _TURN):
        whole.remove_leftovers(workdir, names)
