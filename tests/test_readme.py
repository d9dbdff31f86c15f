"""Every command in the README runs, on small data and for a few steps."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sweeps import write_page

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
TINY = ["--features=4,8", "--size=16", "--batch=1", "--steps=1"]
SMALL = [
    "--config.train.duration=2",
    "--config.train.batch_size=4",
    "--config.model.features=(4,8)",
    "--config.data.image_size=32",
]
STUDIES = {
    "experiments.scale.meshes": ["--meshes=2x1x1", "--dimensions=2", "--features=4,8"],
    "experiments.scale.deaths": ["--trials=1", "--ways=SIGTERM", "--steps=6"],
}


def make_pictures(folder: Path) -> None:
    """Makes photos/, mine/ and pets/ as the README speaks of them."""
    rng = np.random.default_rng(0)
    names = [f"{breed}_{n}" for breed in ("Abyssinian", "pug") for n in range(8)]
    for name in names:
        picture = Image.fromarray(rng.integers(0, 256, (24, 20, 3)).astype(np.uint8))
        mask = rng.integers(0, 2, (24, 20)).astype(np.uint8)
        files = {
            f"photos/{name}.jpg": picture,
            f"mine/images/{name}.jpg": picture,
            f"mine/masks/{name}.png": Image.fromarray(mask),
            f"pets/images/{name}.jpg": picture,
            f"pets/annotations/trimaps/{name}.png": Image.fromarray(mask + 1),
        }
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            content.save(folder / file)
    for split, part in {
        "trainval": names[:6] + names[8:14],
        "test": names[6:8] + names[14:],
    }.items():
        text = "".join(f"{name} 1 1 1\n" for name in part)
        (folder / "pets" / "annotations" / f"{split}.txt").write_text(text)


def run(line: list[str], cwd: Path) -> None:
    env = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1"}
    done = subprocess.run(line, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(line)}\n{done.stdout}\n{done.stderr}"


def shorten(argument: str, folder: Path) -> str:
    """Puts a small study in the place of the one that is named, and runs below a folder."""
    flag, equals, value = argument.rpartition("=")
    if flag == "--study":
        assert (ROOT / value).is_file()
        return f"--study={write_page(folder / 'study.py', steps=2, every=2)}"
    return f"{flag}{equals}{folder / value}" if value.startswith("runs/") else argument


def test_the_commands_are_found():
    assert len(COMMANDS) >= 7
    assert {"make train", "make test", "make bench"} <= set(COMMANDS)


def test_python_commands_run_one_after_the_other(tmp_path):
    make_pictures(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    ran = 0
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        if program != "python":
            continue
        if arguments[1].startswith("experiments."):  # of the repository, not of the package
            short = STUDIES.get(arguments[1], [shorten(a, tmp_path) for a in arguments[2:]])
            run([sys.executable, *arguments[:2], *short], ROOT)
            continue
        if any(a.startswith("--config=") for a in arguments):
            arguments += SMALL
            if "oxford_pets" in command and "--config.data.source" not in command:
                # The download is left out: the same pictures come from a folder.
                arguments += ["--config.data.source=folder", "--config.data.path=pets"]
        run([sys.executable, *arguments], tmp_path)
        ran += 1
    assert ran >= 5
    masks = list((tmp_path / "runs" / "pets" / "predictions").glob("*.png"))
    assert len(masks) == 2 * 16


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_call_what_runs(command, tmp_path):
    line = [*shlex.split(command), "--dry-run", "--always-make", "--no-print-directory"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # of an outer make
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    last = done.stdout.strip().splitlines()[-1]
    called = {
        "make train": ["unet_jax.main", *SMALL, f"--workdir={tmp_path}"],
        "make bench": ["unet_jax.benchmark", *SMALL, "--rounds=1", "--steps=30"],
        "make test": ["pytest", "--version"],
        "make variants": ["experiments.bench.variants", "--only=modern", *TINY],
    }[command]
    assert f"-m {called[0]}" in last
    run([sys.executable, "-m", *called], ROOT)


def test_what_is_linked_is_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", sorted((ROOT / "configs").glob("*.py"), key=str))
def test_every_page_says_how_to_run_it(page):
    assert f"python -m unet_jax.main --config=configs/{page.name}" in page.read_text()
