"""Looks at a data set and writes what is wrong with it, what fits it, and a config page."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.commands import spell
from unet_jax.config import call
from unet_jax.doctor import record
from unet_jax.doctor.audit import Audit
from unet_jax.doctor.audit_runs import FILE as AUDIT
from unet_jax.doctor.audit_runs import KEY, audit_runs, masks_of
from unet_jax.doctor.config_page import write_page
from unet_jax.doctor.examine import Examination, examine
from unet_jax.doctor.finding import setting
from unet_jax.doctor.page import GENERATOR, write_html
from unet_jax.errors import UserError
from unet_jax.html.document import is_by
from unet_jax.process.console import console
from unet_jax.process.streams import printable
from unet_jax.process.whole import remove_leftovers, write_text
from unet_jax.sharding import ROWS, make_shardings

HTML = "doctor.html"
_LONGEST = 500  # letters of a mend that are printed


def doctor_run(
    config: ConfigDict, workdir: Path, page: Path | None = None, runs: Sequence[Path] = ()
) -> None:
    """Looks at every image and mask of a config's data, and writes doctor.json and doctor.html.

    Args:
        config: The whole config.
        workdir: Where to.
        page: A config page to write with the recommended values; None for none.
        runs: Directories of trained runs, with which labels are audited; see `audit_runs`.

    Raises:
        UserError: A file would be replaced that is not the doctor's, or written into the data; or
            the data have errors, but not where a page is written that mends them all.
    """
    check_targets(config, workdir, page)
    found = examine(config, devices=_count_devices(config) if page else 1)
    name = str(page or "mine.py")
    arguments = f"--config={name}", f"--workdir=runs/{Path(name).stem}"
    command = f"python -m unet_jax.main {shlex.join(arguments)}"
    text = write_page(found.config, _about(found, command))
    audit = audit_runs(runs, workdir) if runs else None
    html = write_html(found, text, command, audit, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    remove_leftovers(workdir)
    write_text(workdir / HTML, html)
    write_text(workdir / record.FILE, record.to_json(found))
    _print(found, workdir)
    if audit:
        _print_audit(audit, workdir)
    if page is not None and not found.survey.looks:
        raise UserError(f"no image of {config.data.path} was seen, so {page} is not written.")
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, text)
        console.print(f"{page} is written. Train with it: {spell('unet-jax', *arguments)}")
    verdict = record.verdict(found)
    left = found.left() if page is not None else found.count("error")
    if left:
        ending = f" {page} mends what a config can." if page is not None else ""
        raise UserError(f"{verdict} in {record.title(found)}; see {workdir / HTML}.{ending}")
    ending = f"; {page} mends the errors" if found.count("error") else ""
    console.print(f"{verdict} in {record.title(found)}{ending}")


def _count_devices(config: ConfigDict) -> int:
    """Returns over how many devices of this machine the images of a batch are split.

    Only a page that is written asks: the data alone can be looked at while devices are busy.
    """
    try:
        return call(make_shardings, "config.mesh", config.mesh).size(*ROWS)
    except UserError:  # the mesh is of another machine
        return 1


def check_targets(config: ConfigDict, workdir: Path, page: Path | None) -> None:
    """Checks that what is to be written replaces nothing of others, and is not among the data.

    Args:
        config: The whole config.
        workdir: Where doctor.json and doctor.html go.
        page: The config page to write; None for none.

    Raises:
        UserError: It would.
    """
    if page is not None and os.path.lexists(page):
        raise UserError(f"--write_page={page} is there already; name a file that is not.")
    if page is not None and page.suffix != ".py":
        raise UserError(f"--write_page={page} must be a Python file, such as configs/mine.py.")
    data = config.data.path
    root = Path(os.path.realpath(os.path.expanduser(data))) if data else None
    targets = {"--workdir": workdir} | ({"--write_page": page} if page is not None else {})
    for flag, target in targets.items():
        folder = target if flag == "--workdir" else target.parent
        real = Path(os.path.realpath(folder))
        if root is not None and "://" not in data and (real == root or root in real.parents):
            raise UserError(
                f"{flag}={target} is in the data, config.data.path={data}, where nothing is "
                f"written; choose another {flag}."
            )
        above = next(path for path in (real, *real.parents) if os.path.lexists(path))
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise UserError(f"{flag}={target} cannot be written: {above} is no folder to write in.")
    for name, is_ours in ((record.FILE, _is_record), (HTML, lambda file: is_by(file, GENERATOR))):
        file = workdir / name
        if os.path.lexists(file) and not is_ours(file):
            raise UserError(
                f"{file} is there and no file that --mode=doctor wrote; move it away, or choose "
                "another --workdir."
            )


def _is_record(file: Path) -> bool:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(found) >= record.KEYS


def _about(found: Examination, command: str) -> str:
    """Writes the docstring of the page."""
    title = printable(record.title(found))
    return f"{title}, as --mode=doctor recommends.\n\n{command}\nExpected score: not measured.\n"


def _print_audit(audit: Audit, workdir: Path) -> None:
    regions, images = audit.regions(), sum(bool(image.regions) for image in audit.images)
    console.print(
        f"labels: {len(regions)} regions of {images} of {len(audit.images)} images are suspect; "
        f"{workdir / AUDIT} ranks them, to leave all of them out:"
    )
    if regions:
        console.print(f"    {setting(KEY, str(masks_of(workdir)))}")


def _print(found: Examination, workdir: Path) -> None:
    for key, value in record.facts(found).items():
        console.print(f"  {key:<8} {value}")
    for one in found.findings:
        console.print(f"{one.level}: {one.fault}: {one.says}")
        for line in one.mend.splitlines():
            rest = f" ... (whole in {record.FILE})" if len(line) > _LONGEST else ""
            console.print(f"    {line[:_LONGEST]}{rest}")
    console.print(f"{workdir / HTML} shows it, {workdir / record.FILE} holds the numbers")
