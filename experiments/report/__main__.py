"""Writes a report about a sweep, about single runs, or about several of either.

python -m experiments.report DIR [DIR...]

DIR is the --workdir of a sweep or of a run. Into DIR/report, or --output, go report.html, which
needs no other file, report.md with its figures, and variants.csv, trials.csv and comparisons.csv.
Nothing is trained; for the pictures, checkpoints are restored.
"""

import sys
from pathlib import Path

from absl import app, flags, logging

from unet_jax import runtime
from unet_jax.errors import UserError

OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write to; default: report in the first DIR."
)
SPLIT = flags.DEFINE_enum("split", "val", ["val", "test"], "Whose scores are compared.")
BASELINE = flags.DEFINE_list(
    "baseline", [], "FACTOR=LABEL,... of the variant to compare with; default: the study's."
)
PICTURES = flags.DEFINE_integer("pictures", 3, "How many pictures to show; 0 for none.", 0)
RESAMPLES = flags.DEFINE_integer("resamples", 10_000, "Of the bootstrap.", 100)


def report(folders: list[str]) -> None:
    """Writes the report that the flags ask for.

    Args:
        folders: Directories of sweeps and runs.

    Raises:
        UserError: A directory or a flag does not fit.
    """
    from experiments.report.assemble import assemble
    from experiments.report.material import gather
    from experiments.report.pages import write_report

    if not folders:
        raise UserError("give the --workdir of a sweep or a run: python -m experiments.report DIR")
    pairs = [pair.partition("=") for pair in BASELINE.value]
    if any(not equals for _, equals, _ in pairs):
        raise UserError(f"--baseline={','.join(BASELINE.value)} must be FACTOR=LABEL,...")
    baseline = {name: label for name, _, label in pairs}
    paths = [Path(folder) for folder in folders]
    material = gather(paths, SPLIT.value, baseline, RESAMPLES.value)
    output = Path(OUTPUT.value) if OUTPUT.value else paths[0] / "report"
    try:
        files = write_report(assemble(material, PICTURES.value), output)
    except OSError as error:
        raise UserError(f"--output={output} cannot be written: {error.strerror}.") from error
    for file in files:
        print(file)


def main(argv: list[str]) -> None:
    """Runs the command; a user's mistake ends it with one line and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    runtime.prepare()
    try:
        report(argv[1:])
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    app.run(main)
