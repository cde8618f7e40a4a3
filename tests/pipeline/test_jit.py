"""Processes that run at the same time have caches of their own, and later ones take them over."""

import os
import re
import subprocess
import sys
from pathlib import Path

from pipeline.jit import VARIABLE, base_folder, claim

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from pipeline.jit import librosa
from numba.core import config
print(config.CACHE_DIR, flush=True)
sys.stdin.readline()
"""


def start(base: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env=os.environ | {VARIABLE: str(base)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def cache_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_processes_at_the_same_time_compile_into_folders_of_their_own(tmp_path):
    with start(tmp_path) as one, start(tmp_path) as other:
        folders = [cache_of(one), cache_of(other)]
        for process in (one, other):
            process.communicate("\n")
    assert sorted(folders) == [str(tmp_path / "process-0"), str(tmp_path / "process-1")]


def test_a_folder_is_taken_over_when_its_process_has_ended(tmp_path):
    first, lock = claim(tmp_path)
    second, other = claim(tmp_path)
    os.close(lock)
    third, again = claim(tmp_path)
    assert (first, second, third) == (tmp_path / "process-0", tmp_path / "process-1", tmp_path / "process-0")
    os.close(other)
    os.close(again)


def test_a_child_looks_beside_its_parents_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "process-3"))
    assert base_folder() == tmp_path
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert base_folder() == tmp_path
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert base_folder() == tmp_path / "backline" / "numba"


def test_nobody_imports_librosa_past_it():
    direct = re.compile(r"^\s*(import librosa|from librosa)", re.MULTILINE)
    files = [path for part in ("flows", "model", "pipeline", "tests") for path in (ROOT / part).rglob("*.py")]
    assert [str(path) for path in files if path.name != "jit.py" and direct.search(path.read_text())] == []
