"""Trains, evaluates and applies U-Nets.

python -m unet_jax.main --config=configs/oxford_pets.py --workdir=runs/pets
python -m unet_jax.main --mode=eval --split=test --workdir=runs/pets
python -m unet_jax.main --mode=predict --input=photo.jpg --workdir=runs/pets

Any value of the config page can be set by --config.SECTION.KEY=VALUE.
"""

import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from unet_jax import runtime
from unet_jax.errors import NonFiniteLossError, StoppedError, UserError

DEFAULT_PAGE = Path(__file__).parents[1] / "configs" / "shapes.py"

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config page; eval and predict take that of the run.", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
flags.register_validator("workdir", bool, "Give the directory of the run.")
MODE = flags.DEFINE_enum("mode", "train", ["train", "eval", "predict"], "What to do.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete the run that is in --workdir.")
SPLIT = flags.DEFINE_enum("split", "val", ["train", "val", "test"], "eval: which pictures.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "best", ["best", "latest"], "eval, predict: the best by val/mIoU or the latest."
)
INPUT = flags.DEFINE_multi_string("input", [], "predict: a picture or folder; may be repeated.")
OUTPUT = flags.DEFINE_string("output", None, "predict: folder for masks; WORKDIR/predictions.")


def parse(argv: list[str]) -> None:
    """Parses the flags; without --config, those of the run in --workdir or `DEFAULT_PAGE`.

    Args:
        argv: The command line.

    Raises:
        UserError: A flag or config key is unknown, or a value does not fit it.
    """
    given = _first_look(argv)
    if "config" not in given:
        saved = Path(given.get("workdir", "")) / "config.json"
        is_new = given.get("mode", "train") == "train" and not saved.exists()
        page = str(DEFAULT_PAGE) if is_new else f"{Path(__file__).with_name('saved.py')}:{saved}"
        argv = [argv[0], f"--config={page}", *argv[1:]]
    else:
        page = given["config"]
    if not Path(page.partition(":")[0]).is_file():
        raise UserError(f"--config={page} is no file; give a config page, such as {DEFAULT_PAGE}.")
    try:
        left = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        raise UserError(_unknown_key(argv, page) or f"--config={page}: {error}") from error
    except (flags.Error, SyntaxError, TypeError, ValueError, OSError) as error:
        # Where a page raised, the message is a traceback.
        raise UserError(f"{str(error).strip().splitlines()[-1]} (see --help)") from error
    if len(left) > 1:
        raise UserError(f"{left[1]!r} is no flag; write --FLAG=VALUE (see --help).")


def _first_look(argv: list[str]) -> dict[str, str]:
    """Reads --FLAG=VALUE and --FLAG VALUE by name, before it is known which flags take values."""
    given = {}
    for arg, after in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        if name.startswith("-"):
            given[name.lstrip("-")] = value if equals else after
    return given


def _unknown_key(argv: list[str], page: str) -> str | None:
    """Says which --config.SECTION.KEY the page lacks; None if it is the page that is wrong."""
    try:
        config = flags.FLAGS["config"].parser.parse(page)
    except (AttributeError, KeyError):
        return None
    for name in _first_look(argv):
        section = config
        first, *keys = name.split(".")
        for depth, key in enumerate(keys if first.removeprefix("no") == "config" else []):
            if not isinstance(section, ConfigDict) or key not in section:
                above = ".".join(["config", *keys[:depth]])
                has = ", ".join(section) if isinstance(section, ConfigDict) else repr(section)
                return f"--{name} is not a config key; in {page}, {above} has {has}."
            section = section[key]
    return None


def run() -> None:
    """Does what the flags say; see `train`, `evaluate` and `predict` for what it raises."""
    config, workdir = CONFIG.value, Path(WORKDIR.value or "")
    if MODE.value == "train":
        from unet_jax.train import train_and_evaluate

        overrides = config_flags.get_override_values(flags.FLAGS["config"])
        train_and_evaluate(config, workdir, overwrite=OVERWRITE.value, overrides=overrides)
    elif MODE.value == "eval":
        from unet_jax.evaluate import evaluate_run

        evaluate_run(config, workdir, split=SPLIT.value, checkpoint=CHECKPOINT.value)
    else:
        from unet_jax.predict import predict_run

        output, inputs = Path(OUTPUT.value or workdir / "predictions"), INPUT.value
        predict_run(config, workdir, inputs=inputs, output=output, checkpoint=CHECKPOINT.value)


def main(argv: list[str]) -> int:
    """Runs the command line.

    Args:
        argv: The command line.

    Returns:
        The exit code: 0, 2 for what the user can mend, 3 for a loss that is not finite, and
        128 + signal after a stop.
    """
    if {"--help", "-help", "-h"} & set(argv):
        print(__doc__, flags.FLAGS.module_help(sys.modules[__name__]), sep="\n")
        return 0
    try:
        parse(argv)
        runtime.prepare()
        run()
    except (UserError, NonFiniteLossError, StoppedError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
