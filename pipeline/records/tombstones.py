"""What stays of a song in the catalogue's files after it was forgotten: a blank row, so that it never comes back."""

from typing import Any

FORGOTTEN = "forgotten"  # error of such a row
Row = dict[str, Any]  # of a file, by column


def without(rows: list[Row], track_id: str, reason: str, others: set[str]) -> list[Row]:
    """A file's rows with a blank one in the place of a track; places that held another song too still tell it."""
    kept = []
    for row in rows:
        if row["track_id"] != track_id or ("uris" in row and row["error"] == FORGOTTEN):
            kept.append(row)
        elif "uris" in row:
            places = {u: s for u, s in zip(row["uris"], row["stamps"], strict=True) if u in others}
            blank = {name: 0 if isinstance(value, int | float) else "" for name, value in row.items()}
            told = {"track_id": track_id, "error": FORGOTTEN, "message": reason}
            kept.append(blank | told | {"uris": list(places), "stamps": list(places.values())})
        elif row["uri"] in others:
            kept.append(row)
    return kept
