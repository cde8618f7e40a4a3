"""Where pulled weights lie on this machine, and what a backend asks for when it loads them.

Conventions: ``<store>/<asset>/`` holds an asset's files and ``receipt.json``, which is written last: without it nothing
was pulled. The store is ``$BACKLINE_ASSETS``, else ``backline/assets`` in the user's cache; it belongs to the machine,
like the package environment, so no recipe names it and no stage's key holds it.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from pipeline.assets.known import ASSETS
from pipeline.assets.table import Asset, Package
from pipeline.errors import BackendUnavailable

VARIABLE = "BACKLINE_ASSETS"
RECEIPT = "receipt.json"
NON_COMMERCIAL = "non-commercial"  # in every stated licence that is so
SHA256_DIGITS = 64
BLOCK = 1 << 20  # bytes read at once


@dataclass(frozen=True, slots=True)
class Landed:
    """One file as it was when it was hashed."""

    size: int  # bytes
    sha256: str
    changed: int  # ns; with size, tells that nobody has touched the file since


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was pulled: the lock that later pulls and loads are held to."""

    files: Mapping[str, Landed]  # by path, converted files too
    licence: str
    accepted: bool  # `--accept-licence` was given
    revision: str = ""  # the hub's commit


@dataclass(frozen=True, slots=True)
class Held:
    """An asset that is on this machine, its files whole."""

    asset: Asset
    folder: Path
    weights_sha256: str  # of the one file, or of all files' hashes
    licence: str  # as records, data card and model card state it

    def path(self, name: str) -> Path:
        """One of its files."""
        return self.folder / name

    def tensors(self, name: str) -> Path:
        """The safetensors file of a file's tensors: itself, or what a pickle was converted to."""
        return self.folder / next(file.tensors for file in self.asset.files if file.path == name)


def root() -> Path:
    """The store of this machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(VARIABLE) or cache / "backline" / "assets")


def asset(name: str) -> Asset:
    """The table's row; `ValueError` where there is none."""
    if name not in ASSETS:
        raise ValueError(f"no asset {name!r}; `backline assets list` names them: {', '.join(ASSETS)}")
    return ASSETS[name]


def folder_of(wanted: Asset) -> Path | None:
    """Where its files lie or would lie; None where its package is not installed."""
    if isinstance(wanted.origin, Package):
        spec = find_spec(wanted.origin.module)
        return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
    return root() / wanted.name


def held(name: str) -> Held:
    """The asset, its files checked; `BackendUnavailable` says in one sentence what is wrong and what mends it."""
    wanted = asset(name)
    if fault := fault_of(wanted):
        raise BackendUnavailable(f"{fault}; {remedy(wanted)}")
    folder = folder_of(wanted)
    assert folder is not None
    return Held(wanted, folder, fingerprint(wanted), stated_licence(wanted))


def remedy(wanted: Asset) -> str:
    """The command that brings an asset."""
    if isinstance(wanted.origin, Package):
        return wanted.origin.install or "install Backline again"
    return f"backline assets pull {wanted.name}{'' if wanted.commercial else ' --accept-licence'}"


def fault_of(wanted: Asset) -> str:
    """What keeps the asset from being used, in one clause; empty = nothing."""
    folder = folder_of(wanted)
    if folder is None:
        return f"{wanted.what} ({wanted.name}): its package is not installed"
    try:
        known = landed_files(wanted)
    except BackendUnavailable as error:
        return f"{wanted.what} ({wanted.name}): {error}"
    if not known:
        return f"{wanted.what} ({wanted.name}) is not on this machine"
    for path, landed in known.items():
        if fault := _file_fault(folder / path, landed):
            return f"{wanted.what} ({wanted.name}): {fault}"
    return ""


def pulled(wanted: Asset) -> bool:
    """Whether it was ever brought here, whatever became of it since."""
    if folder_of(wanted) is None:
        return False
    try:
        return bool(landed_files(wanted))
    except BackendUnavailable:
        return True


def landed_files(wanted: Asset) -> Mapping[str, Landed]:
    """The files that must be there: those of the receipt; of a package, those of the table. Empty = never pulled."""
    if isinstance(wanted.origin, Package):
        return {file.path: Landed(file.size, file.sha256, 0) for file in wanted.files}
    receipt = read_receipt(wanted)
    if receipt is None or any(file.path not in receipt.files for file in wanted.files):
        return {}
    return receipt.files


def read_receipt(wanted: Asset) -> Receipt | None:
    """What the last pull wrote; None where it wrote nothing. `BackendUnavailable` where it can't be read."""
    path = root() / wanted.name / RECEIPT
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        files = {name: Landed(**landed) for name, landed in tree.pop("files").items()}
        return Receipt(files=files, **tree)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackendUnavailable(f"{path} can't be read ({error}): remove it first") from error


def receipt_text(receipt: Receipt) -> str:
    return json.dumps(asdict(receipt), indent=2, sort_keys=True) + "\n"


def stated_licence(wanted: Asset) -> str:
    """The licence as every record states it, with the fact that someone accepted it where it asks for that."""
    if wanted.commercial:
        return wanted.licence
    receipt = None if isinstance(wanted.origin, Package) else read_receipt(wanted)
    return f"{wanted.licence} ({NON_COMMERCIAL}{', accepted' if receipt and receipt.accepted else ''})"


def fingerprint(wanted: Asset) -> str:
    """One SHA-256 for all files of a held asset: that of the only file, else of the list of paths and hashes."""
    known = landed_files(wanted)
    return _fingerprint({file.path: known[file.path].sha256 for file in wanted.files if file.path in known})


def published_fingerprint(wanted: Asset) -> str:
    """The same from the publisher's hashes, without the files; empty where the table has not all of them in full."""
    whole = all(len(file.sha256) == SHA256_DIGITS for file in wanted.files)
    return _fingerprint({file.path: file.sha256 for file in wanted.files}) if whole else ""


def _fingerprint(files: Mapping[str, str]) -> str:
    if len(files) == 1:
        return next(iter(files.values()))
    return hashlib.sha256("\n".join(f"{path} {files[path]}" for path in sorted(files)).encode()).hexdigest()


def combined(several: Sequence[Held]) -> tuple[str, str]:
    """``weights_sha256`` and ``licence`` of a backend that holds several assets."""
    if len(several) == 1:
        return several[0].weights_sha256, several[0].licence
    digest = hashlib.sha256(" ".join(one.weights_sha256 for one in several).encode()).hexdigest()
    return digest, "; ".join(f"{one.asset.name} {one.licence}" for one in several)


def _file_fault(path: Path, landed: Landed) -> str:
    """What is wrong with a file, from its size and, where its time of change is another one, from its hash."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return f"file {path} is missing"
    if landed.size and facts.st_size != landed.size:
        return f"file {path} has {facts.st_size} bytes, not {landed.size}: it was cut off or replaced"
    if facts.st_mtime_ns != landed.changed and not sha256_of(path, facts.st_mtime_ns).startswith(landed.sha256):
        return f"file {path} has another SHA-256 than the {landed.sha256[:12]}… it must have: it was changed"
    return ""


@lru_cache(maxsize=256)
def sha256_of(path: Path, changed: int) -> str:
    """Of a file as it was at that time of change; once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
