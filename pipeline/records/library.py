"""A folder, glob or manifest -> the songs that it names.

Conventions: local files are absolute paths, everything else is an fsspec URL as written; the order is the manifest's,
or that of the paths. A folder that holds a ``manifest.csv`` with our columns alone, wherever it lies in the library, is
what that manifest lists and nothing else: beside a song there may be its stems, which are no songs. Files whose name
does not look like audio are ignored and counted; whether a listed file *is* audio shows later. Names that start with a
dot are ignored (macOS leaves ``._song.mp3`` beside ``song.mp3``).
"""

import csv
import difflib
import glob
import io
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.records import parquet
from pipeline.records.content import client_errors, is_url, open_uri

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64",
    ".rf64", ".m4a", ".mp4", ".aac", ".wma", ".wv", ".ape",
)  # fmt: skip
"""What looks like audio. Some can't be decoded here: those songs are quarantined by name instead of vanishing."""

MANIFEST = "manifest.csv"  # as `songs render` writes it
SPLITS = ("", "train", "val", "test")
COLUMNS = ("path", "uri", "split", "artist", "text", "licence", "vocal", "accompaniment")
Table = tuple[list[str], list[Mapping[str, object]]]  # columns, rows


@dataclass(frozen=True, slots=True)
class Source:
    """One song as its library names it; an empty string where the library says nothing."""

    uri: str
    split: str = ""  # train, val, test
    artist: str = ""
    text: str = ""
    licence: str = ""
    vocal: str = ""  # URI of the true vocal stem
    accompaniment: str = ""  # URI of the true accompaniment stem


def scan_library(library: str) -> list[Source]:
    """Songs of a folder (recursive), a glob, a manifest (.txt, .csv, .parquet) or one audio file.

    `BadInput` with a reason: library_missing, library_empty, library_kind, manifest_unreadable, manifest_columns,
    manifest_split, manifest_row. A file that a manifest names and that is missing is no error here.
    """
    suffix = Path(library).suffix.lower()
    local = Path(library).expanduser()
    if not library.strip():
        raise BadInput(f"library {library!r} is no name; give a folder, a glob or a manifest", "library_missing")
    if suffix in _READERS and not local.is_dir():
        sources = _from_manifest(library, _READERS[suffix])
    elif is_url(library):
        raise BadInput(f"library {library!r}: a URL must name a .txt, .csv or .parquet manifest", "library_kind")
    elif local.is_file():
        sources = [Source(uri) for uri in _audio([os.path.abspath(local)])]
    elif local.is_dir():
        sources = _from_folder(local)
    elif glob.has_magic(library):
        found = glob.glob(str(local), recursive=True)
        sources = [Source(uri) for uri in _audio(os.path.abspath(path) for path in found if os.path.isfile(path))]
    else:
        raise BadInput(f"library {library!r} is no folder, file or glob; check the path", "library_missing")
    if not sources:
        known = " ".join(sorted(AUDIO_SUFFIXES))
        raise BadInput(f"library {library!r} names no song; audio files end in one of {known}", "library_empty")
    return sources


def _from_folder(folder: Path) -> list[Source]:
    """What the manifests below a folder list, then the audio files that none of them stands for."""
    paths = list(_walk(folder))
    listed: list[Source] = []
    for manifest in sorted(path for path in paths if os.path.basename(path) == MANIFEST):
        songs = _from_manifest(manifest, _read_csv)
        logger.info("library: %s lists %d songs; other files of its folder are not taken", manifest, len(songs))
        listed += songs
    return listed + [Source(uri) for uri in _audio(path for path in paths if os.path.basename(path) != MANIFEST)]


def _audio(paths: Iterable[str]) -> list[str]:
    """The paths that look like audio, sorted; counts the others."""
    kept, ignored = [], Counter[str]()
    for path in paths:
        name, suffix = os.path.basename(path), os.path.splitext(path)[1].lower()
        if suffix in AUDIO_SUFFIXES and not name.startswith("."):
            kept.append(_storable(path))
        else:
            ignored[suffix or name] += 1
    logger.info(
        "library: %d audio files; ignored %d others %s", len(kept), ignored.total(), dict(ignored.most_common(5))
    )
    return sorted(kept)


def _storable(path: str) -> str:
    """The path itself; of a name that is no UTF-8, one that can be written down (its song shows up as missing)."""
    readable = path.encode(errors="surrogateescape").decode(errors="replace")
    if readable != path:
        logger.warning("file name %r is not UTF-8, its song will be listed as missing; rename the file", readable)
    return readable


def _walk(folder: Path) -> Iterator[str]:
    """Every file below a folder, links followed, no folder twice; of one with a manifest of ours, that alone."""
    seen = set()
    for parent, folders, names in os.walk(os.path.abspath(folder), followlinks=True):
        real = os.path.realpath(parent)
        listed = MANIFEST in names and _is_ours(os.path.join(parent, MANIFEST))
        taken = [MANIFEST] if listed else [name for name in names if name != MANIFEST]
        folders[:] = [] if real in seen or listed else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            yield from (os.path.join(parent, name) for name in taken if os.path.isfile(os.path.join(parent, name)))
        seen.add(real)


def _is_ours(path: str) -> bool:
    """Whether a table's columns are those of a manifest, and no others."""
    try:
        columns, _ = _read_csv(Path(path).read_bytes())
    except (OSError, ValueError, csv.Error):
        columns = []
    ours = bool({"path", "uri"} & set(columns)) and set(columns) <= set(COLUMNS)
    if not ours:
        logger.warning("library: %s is no manifest of ours (known columns: %s), not read", path, ", ".join(COLUMNS))
    return ours


def _from_manifest(library: str, read: Callable[[bytes], Table]) -> list[Source]:
    location = library if is_url(library) else os.path.abspath(Path(library).expanduser())
    try:
        with client_errors(location), open_uri(location) as file:
            columns, rows = read(file.read())
    except FileNotFoundError as error:
        raise BadInput(f"manifest {library!r} does not exist; check the path", "library_missing") from error
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"manifest {library!r} can't be read: {error}", "manifest_unreadable") from error
    _check_columns(library, columns)
    folder = location.rpartition("/")[0]
    return [_source(f"manifest {library!r}, song {number}", folder, row) for number, row in enumerate(rows, start=1)]


def _check_columns(library: str, columns: list[str]) -> None:
    named = [name for name in ("path", "uri") if name in columns]
    if len(named) != 1:
        raise BadInput(f"manifest {library!r} has columns {columns}; need one of 'path', 'uri'", "manifest_columns")
    for unknown in (name for name in columns if name not in COLUMNS):
        if close := difflib.get_close_matches(unknown.lower(), COLUMNS, n=1, cutoff=0.8):
            raise BadInput(
                f"manifest {library!r} has column {unknown!r}; rename it to {close[0]!r} or drop it", "manifest_columns"
            )
        logger.warning("manifest %s: column %r is not used (known: %s)", library, unknown, ", ".join(COLUMNS))


def _source(where: str, folder: str, row: Mapping[str, object]) -> Source:
    cells = {name: str(row[name] or "").strip() if row.get(name) is not None else "" for name in COLUMNS}
    uri = cells["path"] or cells["uri"]
    if not uri:
        raise BadInput(f"{where}: no path; fill it or remove the row", "manifest_row")
    if cells["split"] not in SPLITS:
        raise BadInput(f"{where}: split {cells['split']!r}; use train, val, test or leave it empty", "manifest_split")
    if bool(cells["vocal"]) != bool(cells["accompaniment"]):
        raise BadInput(
            f"{where}: true stems come in pairs; fill both 'vocal' and 'accompaniment' or none", "manifest_row"
        )
    stems = {name: _resolve(folder, cells[name]) for name in ("vocal", "accompaniment") if cells[name]}
    plain = {name: cells[name] for name in ("split", "artist", "text", "licence")}
    return Source(_resolve(folder, uri), **plain, **stems)


def _resolve(folder: str, uri: str) -> str:
    """An absolute path or URL; a relative one starts at the manifest's folder."""
    if uri.startswith("file://"):
        return os.path.abspath(uri.removeprefix("file://"))
    if is_url(uri):
        return uri
    if is_url(folder) and not uri.startswith("/"):
        return f"{folder}/{uri}"
    return os.path.normpath(os.path.join(folder, os.path.expanduser(uri)))


def _read_text(data: bytes) -> Table:
    lines = (line.strip() for line in data.decode("utf-8-sig").splitlines())
    return ["path"], [{"path": line} for line in lines if line and not line.startswith("#")]


def _read_csv(data: bytes) -> Table:
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), restkey="", strict=True)
    rows: list[Mapping[str, object]] = []
    for row in reader:
        if "" in row:
            raise ValueError(f"line {reader.line_num} has more cells than the header; quote cells that hold commas")
        rows.append(row)
    return list(reader.fieldnames or ()), rows


def _read_parquet(data: bytes) -> Table:
    table = parquet.decode(data)
    known = [name for name in table.column_names if name in COLUMNS]
    return list(table.column_names), table.select(known).to_pylist()


_READERS: dict[str, Callable[[bytes], Table]] = {".txt": _read_text, ".csv": _read_csv, ".parquet": _read_parquet}
