"""A disk that takes nothing more is no song's fault: one error that stops the run, and says what to do."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.errors import BackendUnavailable
from pipeline.records import disk, files


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_full_or_read_only_disk_stops_the_run(tmp_path: Path, number: int) -> None:
    assert issubclass(disk.DiskError, BackendUnavailable)
    said = r"part can't be written: .*; free some space"
    with pytest.raises(disk.DiskError, match=said), disk.attempt(tmp_path / "part"):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_any_other_trouble_is_what_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output"), disk.attempt(tmp_path / "part"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_file_that_is_too_large_is_named_with_what_to_do(tmp_path: Path) -> None:
    said = r"File too large; raise the limit on file sizes .*/part'"
    with pytest.raises(OSError, match=said) as told, disk.attempt(tmp_path / "part"):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    assert (told.value.errno, told.value.filename) == (errno.EFBIG, str(tmp_path / "part"))
    assert not isinstance(told.value, BackendUnavailable)  # a smaller file may still fit


def test_root_that_can_not_be_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(disk.DiskError, match="root can't be written"):
        files.prepare(tmp_path / "file" / "root")
    files.prepare(tmp_path / "new" / "root")
    assert list((tmp_path / "new" / "root").iterdir()) == []
