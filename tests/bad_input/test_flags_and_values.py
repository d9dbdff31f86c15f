"""What users get wrong, on the real command: exit code 2 and one line that says what to change."""

import pytest
from support.runs import TINY


def page(folder, line):
    """Writes a config page: that of tiny.py, changed by one line."""
    file = folder / "page.py"
    file.write_text(
        "import runpy\n\n"
        "from ml_collections import ConfigDict\n\n\n"
        "def get_config():\n"
        "    config = runpy.run_path('configs/tiny.py')['get_config']().to_dict()\n"
        f"    {line}\n"
        "    return ConfigDict(config)\n"
    )
    return f"--config={file}"


@pytest.mark.usefixtures("no_jax")
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([TINY, "--config.train.foo=1"], ["--config.train.foo", "batch_size", "duration"]),
        ([TINY, "--config.train.foo", "1"], ["--config.train.foo", "batch_size", "duration"]),
        ([TINY, "--noconfig.foo.bar"], ["--noconfig.foo.bar", "augment, data, eval"]),
        ([TINY, "--config.train.seed.foo=1"], ["--config.train.seed.foo", "train.seed has 0"]),
        ([TINY, "--config.train.batch_size=abc"], ["--config.train.batch_size=abc", "int"]),
        ([TINY, "--config.optim.learning_rate=x"], ["--config.optim.learning_rate=x", "float"]),
        (
            [TINY, "--config.augment.flip.left_right=maybe"],
            ["--config.augment.flip.left_right=maybe", "oolean"],
        ),
        (
            [TINY, "--config.augment.zoom.aspect=wide"],
            ["--config.augment.zoom.aspect=wide", "float"],
        ),
        (
            [TINY, "--config.augment.flip_lr=True"],
            ["config.augment.flip_lr has another name now: config.augment.flip.left_right."],
        ),
        (
            [TINY, "--noconfig.augment.flip_lr"],
            ["config.augment.flip_lr has another name now: config.augment.flip.left_right."],
        ),
        ([TINY, "--config.augment.zoom=(1.0, 1.2)"], ["config.augment.zoom.scale."]),
        ([TINY, "--config.loss.name=cross_entropy"], ["loss.name has another name", "dice.weight"]),
        ([TINY, "--config.loss.nosuch.weight=1.0"], ["--config.loss.nosuch.weight", "dice"]),
        ([TINY, "--batch_size=3"], ["'batch_size'", "--help"]),
        ([TINY, "extra"], ["'extra'", "--FLAG=VALUE"]),
        ([TINY, "--mode=test"], ["--mode=test", "train|eval|predict"]),
        (["--config.train.seed=1", TINY], ["--config.train.seed=1", "before"]),
        (["--config=configs/nosuch.py"], ["--config=configs/nosuch.py", "shapes.py"]),
        (["--config=pyproject.toml"], ["pyproject.toml, line"]),
        (["--config=unet_jax/errors.py"], ["unet_jax/errors.py", "get_config"]),
        (["--config="], ["--config=", "shapes.py"]),
        (["--config=configs/oxford_pets.py:nosuch"], ["nosuch", "full", "cpu"]),
        (["--mode=eval"], ["run/config.json", "--workdir"]),
        (["--mode", "predict", "--input=x.png"], ["run/config.json", "--workdir"]),
        ([TINY, "--mode=doctor", "--multihost"], ["--mode=doctor", "one process", "--multihost"]),
        (["--mode=score", "--multihost"], ["--mode=score", "one process", "--multihost"]),
    ],
)
def test_flags(refuse, flags, says):
    refuse(*flags, says=says)


@pytest.mark.usefixtures("no_jax")
@pytest.mark.parametrize("flags", [[], ["--workdir="], ["--workdir"]])
def test_no_workdir(refuse, flags):
    refuse(TINY, *flags, says=["--workdir" if flags != ["--workdir"] else "workdir"], workdir=None)


@pytest.mark.usefixtures("no_jax")
def test_flags_of_exports(refuse):
    refuse("--mode=export", says=["needs --workdir=RUN", "--format=stablehlo"], workdir=None)
    given = "--mode=export", "--renew=a", "--licence=b"
    refuse(*given, says=["--licence is not for --renew"], workdir=None)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("config['train']['foo'] = 1", ["config.train.foo", "batch_size", "log_every"]),
        ("config['foo'] = {}", ["'foo'", "data, augment, model"]),
        ("del config['mesh']", ["'mesh'", "data, augment, model"]),
        ("config['model']['features'] = 64", ["config.model.features=64", "tuple", "(64, 128"]),
        ("config['model']['features'] = (4, 'a')", ["config.model.features[1]='a'", "int"]),
        ("config['train']['seed'] = True", ["config.train.seed=True", "bool", "int"]),
        ("config['train'] = 5", ["config.train=5", "section"]),
        ("config['loss']['nosuch'] = {}", ["config.loss.nosuch", "cross_entropy, dice"]),
        ("config['loss'] = {'dice_weight': 0.5}", ["config.loss.dice_weight", "loss.dice.weight"]),
        ("config['augment'] = {'zoom': (0.5, 1.0)}", ["config.augment.zoom", "zoom.scale"]),
    ],
)
def test_page(refuse, inside, folder, line, says):
    refuse(page(folder, line), says=says, command=inside)


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("config.model.norm=foo", "batch, group, instance, none"),
        ("config.loss.dice.weight=-1", "from 0 to 1e+06"),
        ("config.optim.schedule=foo", "cosine, polynomial, constant"),
        ("config.data.source=foo", "folder, pets, tfds, synthetic"),
        ("config.data.fit=foo", "resize, crop"),
        ("config.train.duration=3 parsecs", '"30 epochs"'),
        ("config.train.duration=10%", '"30 epochs"'),
        ("config.train.eval_every=often", '"10%"'),
        ("config.train.seed=-1", "0 or more"),
        ("config.data.synthetic.size=0", "1 or more"),
    ],
)
def test_values(refuse, inside, flag, allowed):
    key, value = flag.split("=")
    refuse(TINY, f"--{flag}", says=[key, value, allowed], command=inside)


def test_batch_that_the_mesh_does_not_divide(refuse, inside):
    flags, says = [TINY, "--config.train.batch_size=12"], ["config.train.batch_size=12", "8 or 16"]
    refuse(*flags, says=[*says, "8 devices"], command=inside)


def test_mesh_larger_than_the_devices(refuse):
    says = ["config.mesh (data=3", "2 devices", "1 or 2", "data=-1"]
    refuse(TINY, "--config.mesh.data=3", says=says, devices=2)


def test_workdir_that_cannot_be_written(refuse, folder):
    (folder / "file").write_text("")
    workdir = folder / "file" / "run"
    refuse(TINY, says=[f"--workdir={workdir}", "Not a directory", "another"], workdir=workdir)
