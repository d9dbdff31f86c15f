"""Pages in Chromium, where a Python with PyQt6-WebEngine is named; else tests say so and skip."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.paths import ROOT

PYTHON = "UNET_JAX_TEST_CHROMIUM"


def chromium(page: Path, *images: Path, width: int = 390) -> list[dict]:
    """Drops images on a page in Chromium; returns what it shows, and what was asked for."""
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"no Chromium: ${PYTHON} names no Python with PyQt6-WebEngine")
    driver = ROOT / "tests" / "support" / "drive_page.py"
    line = [python, driver, page, str(width), "800", page.with_suffix(".png"), *images]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280)
    return [json.loads(text) for text in done.stdout.splitlines()]
