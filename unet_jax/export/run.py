"""Export: a run's model as files for other programs."""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from unet_jax.config import check_sections, choose
from unet_jax.data.files import read_header, read_image
from unet_jax.data.sample import check_spec
from unet_jax.data.sources import read_loading, read_patterns
from unet_jax.defaults import complete
from unet_jax.errors import UserError
from unet_jax.export import page, stablehlo
from unet_jax.export.bundle import EXAMPLES, Bundle, bundle_of_run
from unet_jax.export.runtime import read_runtime
from unet_jax.export.targets import EXPORTERS
from unet_jax.predict.inputs import find_images
from unet_jax.predict.planned import check_output
from unet_jax.process.console import console
from unet_jax.process.paths import local_path
from unet_jax.process.whole import temporary_folder, write_text
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.cleaned import KEY, METRIC

SUMS = "SHA256SUMS"
_PART = ".unet_jax_export_"


def export_run(
    config: ConfigDict,
    workdir: Path,
    *,
    formats: Sequence[str],
    output: str | None,
    checkpoint: str,
    licence: str = "",
    inputs: Sequence[str] = (),
    runtime: str = "",
    replace: bool = False,
) -> None:
    """Writes a run's model in one or more formats, each into its folder of the output.

    Nothing is there before all of it is written.

    Args:
        config: The run's config.
        workdir: Its directory.
        formats: Keys of `EXPORTERS`.
        output: Folder.
        checkpoint: "best" or "latest".
        licence: SPDX identifier of the model's.
        inputs: Up to three images to keep as examples; by default drawn ones.
        runtime: Folder of what runs a page's model, see `runtime.read_runtime`; "" for the cache.
        replace: Whether what is there is replaced.

    Raises:
        UserError: A format is unknown or lacks what it needs, the output is not empty, or the run
            cannot be restored; nothing is written.
    """
    folder = _check(formats, output, licence, replace=replace)
    _check_runtime(formats, runtime)
    check_sections(config)
    config = complete(config)
    loading = read_loading(config.data)
    _check_axes(formats, len(loading.image_size))
    files = list(find_images(inputs, folder, read_patterns(config.data)).values()) if inputs else []
    if len(files) > EXAMPLES:
        raise UserError(f"--input gives {len(files)} images; {EXAMPLES} is the most of examples.")
    for line in run_dir.check_same(workdir, config):
        console.print(line)
    axes = len(loading.image_size)
    images = tuple(read_image(file, axes, loading.largest_file) for file in files)
    bundle = bundle_of_run(config, workdir, checkpoint, licence, images)
    if METRIC in config.eval.metrics:
        console.print(f"{KEY} is in no export: labels are those of the network as they are")
    for file in files:
        header = read_header(file, loading.largest_file, axes)
        whose = "what the model was trained on has"
        check_spec(f"--input={file}", header.spec(), bundle.network.spec, whose)
    _write(bundle, formats, folder, replace=replace)


def renew_export(file: Path, *, output: str | None, replace: bool = False) -> None:
    """Makes a StableHLO export new, from the config and the weights in it.

    Args:
        file: The export.
        output: Folder.
        replace: Whether what is there is replaced.

    Raises:
        UserError: The file is broken, its labels would change, or the output is not empty.
    """
    folder = _check(["stablehlo"], output, "", replace=replace)
    bundle = stablehlo.renew(file)
    _write(bundle, ["stablehlo"], folder, replace=replace)
    console.print("The labels are those of the file before.")


def _check(formats: Sequence[str], output: str | None, licence: str, *, replace: bool) -> Path:
    """Checks all that can be known before the run is read; returns the folder."""
    for name in formats:
        target = choose(EXPORTERS, "--format", name)
        lacking = [module for module in target.needs if importlib.util.find_spec(module) is None]
        if lacking:
            raise UserError(
                f"--format={name} needs {' and '.join(lacking)}, which is not installed: pip "
                f"install 'unet-jax[export]', or leave it out."
            )
        if target.needs_licence and not licence:
            raise UserError(
                f"--format={name} needs the model's licence: --licence=ID, an SPDX identifier such "
                "as --licence=CC-BY-4.0."
            )
    if not output:
        raise UserError("--mode=export needs a folder: --output=FOLDER.")
    folder = local_path(output, "--output")
    check_output(folder)
    if os.path.lexists(folder) and any(folder.iterdir()):
        if not replace:
            raise UserError(
                f"--output={folder} is not empty; give another folder, or --replace to replace the "
                "exports in it."
            )
        known = set(EXPORTERS)
        if others := sorted(path.name for path in folder.iterdir() if path.name not in known):
            raise UserError(
                f"--output={folder} holds {others[0]}, which no export wrote, and is not replaced; "
                "give another folder."
            )
    return folder


def _check_runtime(formats: Sequence[str], runtime: str) -> None:
    """Brings what runs a page's model into the cache, before the run is read."""
    if page.NAME in formats:
        read_runtime(local_path(runtime, "--runtime") if runtime else None)
    elif runtime:
        raise UserError(f"--runtime={runtime} is for --format=page alone; leave it out.")


def _check_axes(formats: Sequence[str], axes: int) -> None:
    for name in formats:
        if axes not in EXPORTERS[name].axes:
            able = ", ".join(n for n, target in EXPORTERS.items() if axes in target.axes)
            raise UserError(
                f"--format={name} has no models of {axes} axes, as the run's is; {able} have."
            )


def _write_sums(folder: Path) -> None:
    """Writes the SHA-256 of each file, as `sha256sum --check` reads them."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sums = ((stablehlo.digest(file.read_bytes()), file.relative_to(folder)) for file in files)
    write_text(folder / SUMS, "".join(f"{digest}  {name.as_posix()}\n" for digest, name in sums))


def _write(bundle: Bundle, formats: Sequence[str], folder: Path, *, replace: bool) -> None:
    """Writes all formats beside the folder first, so that a failure leaves nothing."""
    for name in formats:
        EXPORTERS[name].check(bundle)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent, _PART) as part:
        for name in formats:
            (part / name).mkdir()
            EXPORTERS[name].export(bundle, part / name)
            _write_sums(part / name)
        folder.mkdir(exist_ok=True)
        for name in formats:
            target = folder / name
            if replace and target.is_dir():
                shutil.rmtree(target)
            (part / name).rename(target)
            size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
            console.print(f"{name}: {target} ({size / 2**20:.1f} MiB)")
