"""Files and folders that are written whole, and what a killed process leaves of them."""

import errno
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.paths import ROOT

from unet_jax.process import whole

KILLED = {
    "file": """
import sys, time
from pathlib import Path
from unet_jax.process import whole

def replace(self, target):
    print("begun", flush=True)
    time.sleep(60)

Path.replace = replace
whole.write_whole(Path(sys.argv[1]) / "a", b"new")
""",
    "folder": """
import sys, time
from pathlib import Path
from unet_jax.process import whole

with whole.temporary_folder(Path(sys.argv[1]), ".evaluation_") as folder:
    (folder / "a").write_text("new")
    print("begun", flush=True)
    time.sleep(60)
""",
}
EVALUATION = re.compile(r"\.evaluation_[a-z0-9_]{8}")


@pytest.mark.parametrize("kind", KILLED)
def test_what_a_live_process_holds_stays_and_what_a_killed_one_left_goes(tmp_path, kind):
    (tmp_path / "a").write_text("old")
    line = [sys.executable, "-c", KILLED[kind], str(tmp_path)]
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"begun\n"
        clean = {"file": whole.remove_leftovers, "folder": enter}[kind]
        before = sorted(tmp_path.iterdir())
        assert len(before) == 2
        clean(tmp_path)
        assert sorted(tmp_path.iterdir()) == before
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert sorted(tmp_path.iterdir()) == before
    clean(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def enter(folder):
    with whole.temporary_folder(folder, ".evaluation_") as made:
        assert EVALUATION.fullmatch(made.name)
    assert not made.exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "a"
    whole.write_whole(file, b"one")
    whole.write_whole(file, b"two")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"two"]

    def full(path, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        whole.write_whole(file, b"three")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"two"]


def test_files_of_others_are_never_leftovers(tmp_path):
    (tmp_path / "kept").write_text("")
    (tmp_path / f".unet_jax_{'a' * 16}.tmp").symlink_to("kept")
    for name in (".unet_jax_.tmp", f".unet_jax_{'A' * 16}.tmp", f"x.unet_jax_{'a' * 16}.tmp"):
        (tmp_path / name).write_text("")
    before = set(tmp_path.iterdir())
    whole.remove_leftovers(tmp_path)
    whole.remove_leftovers(tmp_path / "missing")
    assert set(tmp_path.iterdir()) == before


def test_writing_beside_one_who_removes_leftovers(tmp_path):
    ends = threading.Event()

    def clean():
        while not ends.is_set():
            whole.remove_leftovers(tmp_path)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for number in range(300):
            whole.write_whole(tmp_path / "a", str(number).encode())
            assert (tmp_path / "a").read_text() == str(number)
    finally:
        ends.set()
        cleaner.join()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
