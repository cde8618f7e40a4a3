"""A trainer's output: a file of the run, repeated to whoever launched it, whose pipes it never holds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.trainer_log import LOG, trainer_output

ROOT = Path(__file__).parents[2]
OUTLIVES = """
import os, signal, subprocess, sys
from pathlib import Path
from flows.trainer_log import trainer_output
with trainer_output(Path(sys.argv[1])) as log:
    trainer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], stdout=log, stderr=log)
    (Path(sys.argv[1]) / "pid").write_text(str(trainer.pid))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_trainer_writes_is_kept_and_repeated_and_later_trainers_write_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("eins", "zw\u00f6lf"):
        with trainer_output(tmp_path) as log:
            subprocess.run([sys.executable, "-X", "utf8", "-c", f"print({word!r})"], stdout=log, check=True)
        assert capsys.readouterr().err == f"{word}\n"
    assert (tmp_path / LOG).read_text(encoding="utf-8") == "eins\nzw\u00f6lf\n"


@pytest.mark.timeout(60)
def test_a_trainer_that_outlives_its_launcher_holds_none_of_its_pipes(tmp_path: Path) -> None:
    words = [sys.executable, "-c", OUTLIVES, str(tmp_path)]
    launcher = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    launcher.communicate(timeout=30)  # until both pipes end
    trainer = int((tmp_path / "pid").read_text())
    assert Path(f"/proc/{trainer}/stat").read_text().rpartition(")")[2].split()[0] in "RS"  # no zombie
    os.kill(trainer, signal.SIGKILL)
