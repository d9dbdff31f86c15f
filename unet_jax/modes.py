"""What each --mode does with the flags of `main`. A new mode is a function and its row in `MODES`.

What a mode imports beyond this, jax above all, it imports when it works.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from unet_jax.errors import UserError
from unet_jax.process import owner, runtime
from unet_jax.process.paths import expand

Given = flags.FlagValues


class Mode(NamedTuple):
    """A mode.

    Attributes:
        work: Does it: (the values of the flags, the config, --workdir).
        full_disk: What a full disk means.
        left: Says what Ctrl-C leaves: (flags, --workdir); None for nothing.
        together: Whether several processes can do it.
        needs_workdir: Whether --workdir has to be given.
    """

    work: Callable[[Given, ConfigDict, Path], None]
    full_disk: str
    left: Callable[[Given, Path], str] | None = None
    together: bool = False
    needs_workdir: bool = True


def _train(given: Given, config: ConfigDict, workdir: Path) -> None:
    # Before jax is imported, so that one of two that start ends at once.
    with _owned(given, workdir):
        from unet_jax.training import train_owned

        values = _overrides(given).items()
        overrides = {k: v.to_dict() if isinstance(v, ConfigDict) else v for k, v in values}
        train_owned(config, workdir, overwrite=given.overwrite, overrides=overrides)


def _owned(given: Given, workdir: Path) -> AbstractContextManager[None]:
    if not runtime.is_one_of_many(given.multihost):
        return owner.owned(workdir, owner.TRAINING)
    from unet_jax.process import multihost

    return multihost.owned(workdir, owner.TRAINING)


def _left_by_training(given: Given, workdir: Path) -> str:
    names = [path.name for path in workdir.glob("checkpoints/*")]
    steps = [int(name) for name in names if name.isdecimal()]
    if not steps:
        return "nothing is saved; the same command begins again."
    command = "the same command without --overwrite" if given.overwrite else "the same command"
    return f"saved at step {max(steps)}; {command} goes on."


def _evaluate(given: Given, config: ConfigDict, workdir: Path) -> None:
    from unet_jax.evaluate import evaluate_run

    evaluate_run(config, workdir, split=given.split, checkpoint=given.checkpoint)


def _predict(given: Given, config: ConfigDict, workdir: Path) -> None:
    from unet_jax.predict.run import predict_run

    predict_run(
        config,
        workdir,
        inputs=given.input,
        output=given.output,
        checkpoint=given.checkpoint,
        outputs=given.outputs,
        mask_suffix=given.mask_suffix or "",
        replace=given.replace,
        ensemble=given.ensemble,
        tta=given.tta,
    )


def _plan(given: Given, config: ConfigDict, workdir: Path) -> None:
    known = given.memory, workdir if given.workdir else None
    if given.topology is None:
        from unet_jax.plan.memory import plan

        plan(config, *known)
    else:
        from unet_jax.plan.elsewhere import plan_elsewhere

        plan_elsewhere(config, given.topology, *known)


def _doctor(given: Given, config: ConfigDict, workdir: Path) -> None:
    from unet_jax.doctor.run import doctor_run

    page = expand(given.write_page, "--write_page") if given.write_page else None
    doctor_run(config, workdir, page, [expand(run, "--audit") for run in given.audit])


def _augment(given: Given, config: ConfigDict, workdir: Path) -> None:
    from unet_jax.sheet import draw_sheet

    draw_sheet(config, workdir)


def _verify(given: Given, config: ConfigDict, workdir: Path) -> None:
    from unet_jax.verify import Masks, verify_card

    own = given.predictions_are, _names_classes(given, workdir)
    masks = Masks(given.predictions or "", given.truth or "", *own)
    known = masks if masks.predictions or masks.truth else None
    run = workdir if given.workdir else None
    verify_card(expand(given.card or "", "--card"), config, run, known)


def _score(given: Given, config: ConfigDict, workdir: Path) -> None:
    from unet_jax.scoring.run import score_folders

    score_folders(
        config,
        predictions=given.predictions,
        truth=given.truth,
        field_of_view=given.field_of_view,
        predictions_are=given.predictions_are,
        width=given.trimap,
        output=given.output or given.workdir,
        replace=given.replace,
        names_classes=_names_classes(given, workdir),
    )


def _export(given: Given, config: ConfigDict, workdir: Path) -> None:
    where = {"output": given.output, "replace": given.replace}
    if given.renew:
        for name in ("format", "licence", "input", "runtime", "workdir"):
            if given[name].present:
                raise UserError(
                    f"--{name} is not for --renew, which takes all from the file; leave it out."
                )
        from unet_jax.export.run import renew_export

        renew_export(expand(given.renew, "--renew"), **where)
        return
    if not given.workdir or not given.format:
        raise UserError(
            "--mode=export needs --workdir=RUN and --format=stablehlo or others, or --renew=FILE."
        )
    from unet_jax.export.run import export_run

    own = {"checkpoint": given.checkpoint, "licence": given.licence, "runtime": given.runtime}
    export_run(config, workdir, formats=given.format, inputs=given.input, **own, **where)


def _serve(given: Given, config: ConfigDict, workdir: Path) -> None:
    from unet_jax.serve.run import serve_run

    where = {"host": given.host, "port": given.port}
    serve_run(config, workdir, checkpoint=given.checkpoint, limits=given.limits, **where)


def _overrides(given: Given) -> Any:
    return config_flags.get_override_values(given["config"])


def _names_classes(given: Given, workdir: Path) -> bool:
    """Tells whether the config is the user's, or a run's, and so says what masks mean."""
    is_run = given.workdir and (workdir / "config.json").exists()
    is_given = given["config"].present or any(key.startswith("data.") for key in _overrides(given))
    return bool(is_given or is_run)


MODES = {
    "train": Mode(
        _train,
        "Free some space and start the same command again: a run goes on from its last checkpoint.",
        left=_left_by_training,
        together=True,
    ),
    "eval": Mode(
        _evaluate,
        "Free some space and evaluate again: of this evaluation nothing is kept, and earlier "
        "scores are as they were.",
        together=True,
    ),
    "predict": Mode(
        _predict,
        "Free some space and predict again: results that are written are whole, and --replace "
        "writes them again.",
        left=lambda given, workdir: (
            "masks that are written are whole; --replace writes them again."
        ),
        together=True,
    ),
    "plan": Mode(_plan, "Free some space and plan again.", needs_workdir=False),
    "doctor": Mode(_doctor, "Free some space and look again: each file that is there is whole."),
    "augment": Mode(_augment, "Free some space and draw again."),
    "verify": Mode(_verify, "Free some space and verify again.", needs_workdir=False),
    "score": Mode(
        _score,
        "Free some space and score again: each file that is there is whole.",
        needs_workdir=False,
    ),
    "export": Mode(
        _export,
        "Free some space and export again: of this export nothing is kept.",
        needs_workdir=False,
    ),
    "serve": Mode(
        _serve,
        "Free some space and serve again: a server writes nothing but its cache.",
        left=lambda given, workdir: "the server has ended.",
    ),
}
"""By the value of --mode."""
