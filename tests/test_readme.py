"""Every command in the README and the docs runs, on small data and for a few steps."""

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support import xla
from support.paths import ROOT
from support.sweeps import write_page

from experiments.scale.launch import free_port
from unet_jax.config import SECTIONS
from unet_jax.plan.chips import parse_topology

pytestmark = pytest.mark.pages
README = ROOT / "README.md"
PAGES = {
    file.relative_to(ROOT).as_posix(): file.read_text()
    for file in (README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}


def commands(page: str) -> list[str]:
    """Returns the commands of a page's bash blocks, without comments, each on one line."""
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    lines = re.sub(r"\s*\\\n\s*", " ", "\n".join(blocks)).splitlines()
    return [found for line in lines if (found := re.split(r"(?:^|\s)#", line)[0].strip())]


# Each once, in the order of the pages: the README's come first.
COMMANDS = list(dict.fromkeys(command for page in PAGES.values() for command in commands(page)))
# What libtpu has to compile; `tests/plan/test_elsewhere.py` does it with a small net where it is.
ELSEWHERE = [command for command in COMMANDS if "--topology=" in command]
# What installs, and what needs a cluster.
NOT_RUN = {
    *("source", "pip", "python3", "export", "while", "tail"),
    *("sbatch", "scancel", "squeue", "docker", "kubectl", "gcloud"),
    *(".venv/bin/python", "experiments/clusters/tpu_vm.sh"),
}
TINY = ["--features=4,8", "--size=16", "--batch=1", "--steps=1"]
SMALL = [
    "--config.train.duration=2",
    "--config.train.eval_every=2",
    "--config.train.checkpoint_every=2",
    "--config.train.batch_size=4",
    "--config.eval.shown=1",
    "--config.model.features=(2,4)",
    "--config.model.repeats=(1,)",
    "--config.model.decoder_repeats=(1,)",
    "--config.data.image_size=16",
]
OWN = "my_search.py"  # what a reader writes
RANGES = "{'optim.learning_rate': log_uniform(1e-4, 1e-2), 'model.norm': among('batch', 'group')}"
LITTLE = "--memory=17MiB"  # up to which a search compiles one program after the other
STUDIES = {
    "experiments.scale.meshes": ["--meshes=2x1x1", "--dimensions=2", "--features=4,8"],
    "experiments.scale.owners": ["--trials=1", "--ways=3 s apart"],
    "experiments.scale.deaths": ["--trials=1", "--ways=SIGTERM", "--steps=6"],
    "experiments.bench.survey": ["--images=4", "--side=32"],
}


def make_images(folder: Path) -> None:
    """Makes photos/, mine/ and pets/ as the pages speak of them."""
    rng = np.random.default_rng(0)
    names = [f"{breed}_{n}" for breed in ("Abyssinian", "pug") for n in range(8)]
    for name in names:
        image = Image.fromarray(rng.integers(0, 256, (24, 20, 3)).astype(np.uint8))
        mask = rng.integers(0, 2, (24, 20)).astype(np.uint8)
        files = {
            f"photos/{name}.jpg": image,
            f"mine/images/{name}.jpg": image,
            f"mine/masks/{name}.png": Image.fromarray(mask),
            f"pets/images/{name}.jpg": image,
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


def start(line: list[str], cwd: Path) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=cwd, env=xla.env(), **pipes)


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate()
    assert process.returncode == 0, f"{process.args}\n{out}\n{err}"


def shorten(argument: str, folder: Path) -> str:
    """Puts a small study in the place of the one that is named, and runs below a folder."""
    flag, equals, value = argument.rpartition("=")
    if flag == "--study":
        assert (ROOT / value).is_file() or value == OWN
        return f"--study={write_page(folder / 'study.py', search=RANGES, steps=2, every=2)}"
    if flag == "--trials":
        return "--trials=1"
    return f"{flag}{equals}{folder / value}" if value.startswith("runs/") else argument


def small(arguments: list[str], folder: Path) -> tuple[list[str], Path]:
    """Makes a python command short; returns it with the folder to run it in."""
    if arguments[1].startswith("experiments."):  # of the repository, not of the package
        short = STUDIES.get(arguments[1], [shorten(a, folder) for a in arguments[2:]])
        return [*arguments[:2], *short], ROOT
    arguments = [LITTLE if a.startswith("--memory=") else a for a in arguments]
    if any(a.startswith("--config=") for a in arguments):
        text = " ".join(arguments)
        arguments = [*arguments, *SMALL]
        if "oxford_pets" in text and "--config.data.source" not in text:
            # The download is left out: the same images come from files.
            arguments += ["--config.data.source=pets", "--config.data.path=pets"]
    return arguments, folder


def test_the_commands_are_found():
    readme = commands(PAGES["README.md"])
    assert len(readme) >= 7
    assert {"make train", "make test"} <= set(readme)
    assert {"make bench", "make docs", "make variants"} <= set(COMMANDS)
    assert len(COMMANDS) > 2 * len(readme)
    programs = {shlex.split(command)[0] for command in COMMANDS}
    assert programs - NOT_RUN == {"make", "python"}


def test_python_commands_run_one_after_the_other(tmp_path):
    make_images(tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    port, ran, beside = f"localhost:{free_port()}", 0, []
    for command in COMMANDS:
        program, *arguments = shlex.split(command.replace("localhost:8476", port))
        if program != "python" or command in ELSEWHERE:
            continue
        is_beside = arguments[-1] == "&"  # with those that follow, up to one without
        arguments, folder = small(arguments[:-1] if is_beside else arguments, tmp_path)
        beside.append(start([sys.executable, *arguments], folder))
        if not is_beside:
            while beside:
                finish(beside.pop())
        ran += folder == tmp_path
    assert not beside
    assert ran >= 5
    masks = list((tmp_path / "runs" / "pets" / "predictions").glob("*.png"))
    assert len(masks) == 2 * 16
    processes = (tmp_path / "runs" / "two" / "run.json").read_text()
    assert '"processes": 2' in processes


@pytest.mark.parametrize("command", ELSEWHERE)
def test_topologies_of_the_pages_exist(command):
    names = re.findall(r"--topology=(\S+)", command)
    assert [parse_topology(name).name for name in names] == names


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_call_what_runs(command, tmp_path):
    line = [*shlex.split(command), "--dry-run", "--always-make", "--no-print-directory"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # of an outer make
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    last = done.stdout.strip().splitlines()[-1]
    if command == "make check":
        tools = [line.split()[0] for line in done.stdout.splitlines()[-4:]]
        assert tools == [f".venv/bin/{t}" for t in ("ruff", "ruff", "pyrefly", "lint-imports")]
        return
    if command == "make train":  # runs above, as the docs say it
        assert last.replace(".venv/bin/", "") in COMMANDS
        return
    called = {
        "make bench": ["experiments.bench.speed", *SMALL, "--rounds=1", "--steps=10"],
        "make test": ["pytest", "--version"],
        "make commands": ["pytest", "--version"],
        "make variants": ["experiments.bench.variants", "--only=modern", *TINY],
        "make docs": ["sphinx", "--version"],
    }[command]
    assert f"-m {called[0]}" in last
    finish(start([sys.executable, "-m", *called], ROOT))


@pytest.mark.parametrize("page", PAGES)
def test_what_is_linked_is_there(page):
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_the_reference_has_every_section_of_a_config():
    text = PAGES["docs/reference/config.md"]
    for section in (*SECTIONS, "data.split", "data.folder", "data.tfds", "data.synthetic"):
        assert f"\n## {section}\n" in text


def test_there_is_one_version():
    version = importlib.metadata.version("unet-jax")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    latest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert latest
    assert latest[1] == version


@pytest.mark.parametrize("page", sorted((ROOT / "configs").glob("*.py"), key=str))
def test_every_page_says_how_to_run_it(page):
    assert f"python -m unet_jax.main --config=configs/{page.name}" in page.read_text()
