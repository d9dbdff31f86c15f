"""Makes export_0_1_0.unet, which later versions have to read and to renew with equal labels.

    PYTHONPATH=tests python tests/vectors/make_export.py

Run it for a new version of the file's format alone, under a new name: the files of earlier ones
stay as they are.
"""

import shutil
import tempfile
from pathlib import Path

from support.predicting import CONFIG, begin_run, spread

from unet_jax.export.run import export_run

HERE = Path(__file__).parent


def main() -> None:
    """Exports a run of two levels and random weights."""
    config = CONFIG.copy_and_resolve_references()
    config.data.fit, config.model.features = "crop", (2, 4)
    config.model.repeats = config.model.decoder_repeats = (1,)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = begin_run(folder / "run", config, change=spread)
        given = {"output": str(folder / "out"), "checkpoint": "latest", "licence": "Apache-2.0"}
        export_run(config, run, formats=["stablehlo"], **given)
        shutil.copy(folder / "out" / "stablehlo" / "model.unet", HERE / "export_0_1_0.unet")


if __name__ == "__main__":
    main()
