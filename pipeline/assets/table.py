"""What a weight file is to us: where it comes from, how big it is, what it must hash to, and what its licence allows.

Conventions: an asset is one or more files that are of no use apart, kept in one folder by the asset's name; paths are
relative to it and to the origin alike. SHA-256 in hexadecimal.
"""

from dataclasses import dataclass
from typing import Literal

Format = Literal["safetensors", "pickle", "other"]


@dataclass(frozen=True, slots=True)
class Hub:
    """A repository on the Hugging Face hub, or on a mirror of it (``HF_ENDPOINT``)."""

    repo: str  # owner/name
    revision: str = "main"  # a commit where we know one; the first pull writes down which it was
    gated: bool = False  # its owner must let you in: log in with `hf auth login`

    def __str__(self) -> str:
        return f"hf.co/{self.repo}"


@dataclass(frozen=True, slots=True)
class Web:
    """A plain server."""

    base: str  # URL of the folder of the files, without the last slash

    def __str__(self) -> str:
        return self.base


@dataclass(frozen=True, slots=True)
class Package:
    """Files inside an installed package; pulled by pip, never by us."""

    module: str  # whose folder the paths begin at
    install: str  # the command that brings it; empty = Backline itself

    def __str__(self) -> str:
        return f"package {self.module}"


@dataclass(frozen=True, slots=True)
class Manual:
    """Nothing that a program may fetch: someone puts the files into a mirror folder."""

    how: str  # one sentence: where a person finds them

    def __str__(self) -> str:
        return "by hand"


Origin = Hub | Web | Package | Manual


@dataclass(frozen=True, slots=True)
class File:
    path: str  # relative, with slashes
    size: int = 0  # bytes; 0 = not known until pulled
    sha256: str = ""  # or its first digits, where a publisher prints no more; empty = the first pull pins it
    md5: str = ""  # where that is what the publisher prints
    git: str = ""  # SHA-1 of its git blob, where a repository's tree is all that tells of it
    format: Format = "safetensors"
    url: str = ""  # on a plain server, where it does not lie below the asset's origin
    outer: str = ""  # pickle: the key, or keys joined by dots, below which its tensors lie; empty = they are its top

    @property
    def tensors(self) -> str:
        """Path of the safetensors file to load: the file itself, or what a pickle was converted to."""
        return f"{self.path}.safetensors" if self.format == "pickle" else self.path


@dataclass(frozen=True, slots=True)
class Asset:
    name: str
    what: str  # a few words
    origin: Origin
    files: tuple[File, ...]
    licence: str  # SPDX where there is such a name
    commercial: bool  # whether the licence lets you earn money with what was made by it
    about: str = ""  # URL of the licence or the model's page
    doubt: str = ""  # what is not certain about the licence, in one sentence
    approximate_gb: float = 0.0  # 1e9 bytes, where the files' sizes are not known

    @property
    def size(self) -> int:
        """Bytes, as far as they are known."""
        return sum(file.size for file in self.files)

    @property
    def gigabytes(self) -> float:
        """The files' sizes where all are known, else the estimate; 0 = nobody knows."""
        return self.size / 1e9 if all(file.size for file in self.files) else max(self.approximate_gb, self.size / 1e9)
