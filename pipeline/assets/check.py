"""Whether a file is the one that was published, announced or pulled before."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipeline.assets.store import BLOCK, Landed
from pipeline.assets.table import File


def landed_at(path: Path) -> Landed:
    """A file as it is now, hashed."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = path.stat()
    return Landed(facts.st_size, digest, facts.st_mtime_ns)


def misfit(file: File, came: Path, announced: str, before: Landed | None) -> str:
    """In what the bytes that came differ from what the table, the hub or the last pull says; empty = in nothing."""
    found = landed_at(came)
    if file.size and found.size != file.size:
        return f"has {found.size} bytes, not the {file.size} that were published"
    for source, sha256 in (("published", file.sha256), ("announced by the hub", announced)):
        if not found.sha256.startswith(sha256):
            return f"has SHA-256 {found.sha256[:12]}…, not {sha256[:12]}… as {source}"
    if file.md5 and (md5 := _digest("md5", came)) != file.md5:
        return f"has MD5 {md5}, not the {file.md5} that was published"
    if file.git and (blob := _digest("sha1", came, b"blob %d\0" % found.size)) != file.git:
        return f"is not the file of the repository (git blob {blob[:12]}…, not {file.git[:12]}…)"
    if before is not None and before.sha256 != found.sha256:
        return f"is another file than the one first pulled (SHA-256 {found.sha256[:12]}…, pinned {before.sha256[:12]}…)"
    return _not_whole(came) if file.format == "safetensors" else ""


def _not_whole(came: Path) -> str:
    """Where nobody tells a size or hash, the file's own head does: which bytes its tensors take."""
    try:
        with safe_open(came, framework="numpy"):
            return ""
    except SafetensorError as error:
        return f"is no whole safetensors file ({error})"


def _digest(algorithm: str, path: Path, head: bytes = b"") -> str:
    digest = hashlib.new(algorithm, head, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(BLOCK):
            digest.update(chunk)
    return digest.hexdigest()
