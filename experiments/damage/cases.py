"""What is damaged, how, and who is asked; and which answers are right."""

import csv
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiments.damage import ask
from experiments.damage.ask import Answer, Work
from experiments.damage.damages import DAMAGES, Unfit
from experiments.damage.material import Material
from unet_jax.runs import layout

# Of a run: who reads, or replaces, what lies under a name. "resume" is to train the unfinished one.
READERS = {
    layout.CONFIG: ("train", "resume", "evaluate", "predict", "report"),
    layout.RUN: ("resume", "evaluate", "predict", "report"),
    layout.SPLIT: ("resume", "evaluate", "report"),
    layout.STATISTICS: ("resume", "evaluate", "predict"),
    layout.CLASS_WEIGHTS: ("resume",),
    layout.METRICS: ("resume", "evaluate", "report"),
    layout.RESULTS: ("train", "evaluate", "report"),
    layout.CHECKPOINTS: ("resume", "evaluate", "predict", "report"),
    layout.EVALUATIONS: ("train", "resume", "evaluate", "report"),
    layout.FIGURES: ("resume", "evaluate"),
    layout.TENSORBOARD: ("resume",),
    layout.TRACKERS: ("resume",),
}
# Of a sweep and a pack, by regular expression.
IN_SWEEP = r"study\.json|seed=0\w*/(\w+\.jsonl?|evaluations(/val.*)?|checkpoints(/[24])?)"
IN_PACK = (
    r"packs/\w+(/pack\.json)?|seed=0\w*/([\w.]+json|metrics\.jsonl|checkpoints(/2(/meta.*)?)?)"
)
_UNFINISHED = "said to be unfinished"
STRAY = {"an empty folder": "999/", "a file": "7"}  # put into checkpoints


class Case(NamedTuple):
    """One damage and one question.

    Attributes:
        kind: Field of `Material` that is damaged.
        file: Below it.
        damage: Of `DAMAGES`, or `STRAY`.
        mode: Who is asked.
    """

    kind: str
    file: str
    damage: str
    mode: str

    def __str__(self) -> str:
        return f"{self.mode} of a {self.kind} with {self.file}: {self.damage}"


def all_cases(material: Material) -> Iterator[Case]:
    """Yields the cases; some damages do not fit their file, which only trying tells.

    Args:
        material: What there is.
    """
    for kind in ("finished", "unfinished"):
        for name in _parts(getattr(material, kind)):
            modes = READERS.get(name.partition("/")[0], ())
            modes = [mode for mode in modes if (mode == "resume") == (kind == "unfinished")]
            yield from (Case(kind, name, damage, mode) for damage in DAMAGES for mode in modes)
        modes = ("resume",) if kind == "unfinished" else ("train", "evaluate", "predict")
        yield from (
            Case(kind, layout.CHECKPOINTS, stray, mode) for stray in STRAY for mode in modes
        )
    for kind, pattern, modes in (
        ("study", IN_SWEEP, ("sweep", "report")),
        ("pack", IN_PACK, ("sweep",)),
    ):
        for name in filter(re.compile(pattern).fullmatch, _parts(getattr(material, kind))):
            yield from (Case(kind, name, damage, mode) for damage in DAMAGES for mode in modes)


def _parts(folder: Path) -> list[str]:
    """Names the files and folders below a folder; of arrays' pieces in one place the first."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    pieces = [name for name in names if re.search(r"/d/\w+$", name)]
    first = {name.rpartition("/")[0]: name for name in reversed(pieces)}
    left_out = {*pieces} - {*first.values()}
    # Empty files, and of an older checkpoint what nobody reads.
    seldom = re.compile(r".*commit_success.txt|checkpoints/2/(state|meta).*")
    if (folder / layout.CHECKPOINTS / "4").exists():
        left_out |= {name for name in names if seldom.fullmatch(name)}
    return [name for name in names if name not in left_out]


class Bench:
    """Tries cases on copies of the material, and compares with what comes without damage.

    Use it as a context.
    """

    def __init__(self, material: Material, folder: Path, work: Work) -> None:
        """Takes the material, an empty folder, and an entered `Work`."""
        self._material, self._folder, self._work = material, folder, work
        self._image = folder / "image.png"
        Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(self._image)
        self._right: dict[tuple[str, str], Any] = {}

    def try_case(self, case: Case, seed: int = 0) -> Answer | None:
        """Tries one.

        Args:
            case: The case.
            seed: Of what is drawn.

        Returns:
            The answer; None where the damage does not fit the file.
        """
        if (case.kind, case.mode) not in self._right:
            self._right[case.kind, case.mode] = self._undamaged(case)
        run = self._copy(case.kind)
        try:
            self._damage(run, case, random.Random(f"{case} {seed}"))
        except Unfit:
            return None
        answer, said = ask.listen(self._work, run, self._act(case, run))
        if answer is None:
            return self._judge(case, run, said)
        if answer.kind == "one line" and not self._names(case, answer.text):
            return Answer("WRONG", f"the line names neither file nor folder: {answer.text}")
        return answer

    def _undamaged(self, case: Case) -> Any:
        run = self._copy(case.kind)
        answer, said = ask.listen(self._work, run, self._act(case, run))
        if answer is not None:
            raise RuntimeError(f"undamaged, {case.mode} of a {case.kind} fails: {answer} {said}")
        return found(case.mode, run)

    def _copy(self, kind: str) -> Path:
        run = self._folder / "copy"
        shutil.rmtree(run, ignore_errors=True)
        return shutil.copytree(getattr(self._material, kind), run, symlinks=True)

    def _damage(self, run: Path, case: Case, rng: random.Random) -> None:
        if case.damage in STRAY:
            stray = run / case.file / STRAY[case.damage]
            stray.mkdir() if STRAY[case.damage].endswith("/") else stray.write_text("not ours\n")
            return
        others = {"study": "other_study", "pack": "other_study"}
        other = getattr(self._material, others.get(case.kind, "other"))
        names = sorted(path.name for path in other.glob("seed=0*"))  # its hash is another
        name = re.sub(r"^seed=0\w*", names[0], case.file) if names else case.file
        DAMAGES[case.damage](run / case.file, other / name, rng)

    def _act(self, case: Case, run: Path) -> Callable[[], None]:
        page, images = self._material.page, int(case.file.startswith(layout.CHECKPOINTS))
        acts: dict[str, Callable[[], None]] = {
            "train": lambda: ask.train(run),
            "resume": lambda: ask.train(run),
            "evaluate": lambda: ask.evaluate(run),
            "predict": lambda: ask.predict(run, self._image),
            "report": lambda: ask.report(run, images),
            "sweep": lambda: ask.sweep(run, page),
        }
        return acts[case.mode]

    def _names(self, case: Case, text: str) -> bool:
        """Tells whether a text names the damaged file, or what it belongs to."""
        *above, last = case.file.split("/")
        is_of_checkpoint = layout.CHECKPOINTS in (*above, last)
        known = {last, *(above if is_of_checkpoint or "packs" in above else ())}
        known |= {"config."} if last == layout.CONFIG else set()  # a key of it
        return any(name in text for name in known - {"state", "meta", "metrics"}) or (
            # That one file of several was changed is known, but not which.
            case.damage in ("of another run", "one bit") and "copy" in text
        )

    def _judge(self, case: Case, run: Path, said: str) -> Answer:
        """Compares what was left with what is left without damage."""
        right = self._right[case.kind, case.mode]
        try:
            now = found(case.mode, run)
        except (OSError, ValueError, KeyError) as error:
            return Answer("WRONG", f"what was left cannot be read: {error!r}")
        other = [key for key in right if now.get(key) not in (right[key], _UNFINISHED)]
        page = run / "report" / "report.md"
        told = said + (page.read_text() if page.exists() else "")
        if not other or self._names(case, told):
            return Answer("right", f"other: {other}, but it is told" if other else "")
        return Answer("WRONG", f"other results without a word: {other}; {said[-300:]!r}")


def found(mode: str, run: Path) -> dict[str, Any]:
    """Returns what a mode left, for comparison.

    Args:
        mode: Who was asked.
        run: The folder.
    """
    if mode == "predict":
        return {file.name: file.read_bytes() for file in (run / "predictions").glob("*.png")}
    if mode == "report":
        with (run / "report" / "trials.csv").open() as file:
            rows = list(csv.DictReader(file))
        scores = {row["trial"]: (row["mIoU"], row["step"]) for row in rows}
        return scores | {x["trial"]: _UNFINISHED for x in rows if x["state"] != "finished"}
    if mode == "sweep":
        names = [file.name for file in run.glob("seed=*")]
        return {name: _results(run / name) for name in names}
    entries = {"evaluate": ["test"]}.get(mode, ["val", "train"])
    results = _results(run) or {}
    return {entry: results[entry] for entry in entries}


def _results(run: Path) -> Any:
    try:
        return json.loads((run / layout.RESULTS).read_text())
    except (OSError, ValueError):
        return None
