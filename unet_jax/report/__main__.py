"""Writes a report about a sweep, about single runs, or about several of either.

unet-jax-report DIR [DIR...]

DIR is the --workdir of a sweep or of a run. Into DIR/report, or --output, go report.html, which
needs no other file, report.md with its figures, and variants.csv, trials.csv and comparisons.csv.
Nothing is trained; for the images, checkpoints are restored. `python -m unet_jax.report` is the
same command; both need pip install 'unet-jax[studies]'.
"""

if __name__ == "__main__":  # before the imports that take long
    from unet_jax.process import signals

    signals.install()

import sys

from absl import flags

from unet_jax import command_line
from unet_jax.commands import spell
from unet_jax.errors import UserError
from unet_jax.process.paths import expand
from unet_jax.process.streams import printable

OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write to; default: report in the first DIR."
)
SPLIT = flags.DEFINE_enum("split", "val", ["val", "test"], "Whose scores are compared.")
BASELINE = flags.DEFINE_list(
    "baseline", [], "FACTOR=LABEL,... of the variant to compare with; default: the study's."
)
IMAGES = flags.DEFINE_integer("images", 3, "How many images to show; 0 for none.", 0, 1000)
RESAMPLES = flags.DEFINE_integer("resamples", 10_000, "Of the bootstrap.", 100, 10**6)


def report(folders: list[str]) -> None:
    """Writes the report that the flags ask for.

    Args:
        folders: Directories of sweeps and runs.

    Raises:
        UserError: A directory or a flag does not fit.
    """
    if not folders:
        command = spell("unet-jax-report", "DIR")
        raise UserError(f"give the --workdir of a sweep or a run: {command}")
    try:
        from unet_jax.report.assemble import assemble
        from unet_jax.report.material import gather
        from unet_jax.report.pages import write_report
    except ModuleNotFoundError as error:
        raise UserError(
            f"a report needs {error.name}, which is not installed: pip install 'unet-jax[studies]'."
        ) from None

    for folder in folders:
        command_line.check_path("DIR", folder)
    pairs = [pair.partition("=") for pair in BASELINE.value]
    if any(not equals for _, equals, _ in pairs):
        raise UserError(f"--baseline={','.join(BASELINE.value)} must be FACTOR=LABEL,...")
    baseline = {name: label for name, _, label in pairs}
    paths = [expand(folder, "DIR") for folder in folders]
    material = gather(paths, SPLIT.value, baseline, RESAMPLES.value)
    output = expand(OUTPUT.value, "--output") if OUTPUT.value else paths[0] / "report"
    try:
        files = write_report(assemble(material, IMAGES.value), output)
    except OSError as error:
        raise UserError(f"--output={output} cannot be written: {error.strerror}.") from error
    for file in files:
        print(printable(str(file)))


if __name__ == "__main__":
    sys.exit(command_line.run(sys.argv, report, sys.modules[__name__], operands=True))
