"""Ogg pages: a fixed serial number, so that the same audio encodes to the same bytes; whether a file has its end.

Conventions: layout as in RFC 3533 section 6. Encoders draw the serial number at random; a file that holds one stream
doesn't need that.
"""

import struct
import zlib

HEADER_BYTES = 27  # up to and including the segment count
LONGEST_PAGE = HEADER_BYTES + 255 + 255 * 255  # bytes
END_OF_STREAM = 4  # among the flags of a stream's last page
MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def with_serial(stream: bytes, serial: int = 0) -> bytes:
    """The same pages under another serial number (0..2^32-1), checksums renewed. `ValueError` if it isn't whole Ogg."""
    pages, position = [], 0
    while position < len(stream):
        if stream[position : position + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {position}")
        segments = stream[position + 26]
        start = position + HEADER_BYTES + segments
        end = start + sum(stream[position + HEADER_BYTES : start])
        page = bytearray(stream[position:end])
        page[14:18] = struct.pack("<I", serial)
        page[22:26] = bytes(4)  # the checksum is taken with its own field at zero
        page[22:26] = struct.pack("<I", checksum(bytes(page)))
        pages.append(bytes(page))
        position = end
    return b"".join(pages)


def has_end(tail: bytes) -> bool:
    """Whether the last page that starts in a file's last bytes is whole and marked as the end of its stream."""
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < HEADER_BYTES or not page[5] & END_OF_STREAM:
        return False
    body = HEADER_BYTES + page[26]
    return len(page) >= body + sum(page[HEADER_BYTES:body])


def checksum(page: bytes) -> int:
    """CRC-32 of polynomial 0x04c11db7, most significant bit first, starting from 0: zlib's, with all bits mirrored."""
    mirrored = zlib.crc32(page.translate(MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
