"""Mp3 lengths: give a file that states no count of its frames the exact one.

Conventions: layout as in ISO 11172-3 and 13818-3, layer III, and the Xing header that encoders write into a silent
first frame. Without that header, libsndfile takes the file's size over the size of the first frame, and reads no
further: of a 20 s file with a variable bit rate, written with soundfile and stripped of its header, it read 38 %.
"""

import struct
from dataclasses import dataclass

MPEG1, RESERVED = 3, 1  # values of the header's version field; 0 and 2 are MPEG 2.5 and 2
RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz
KBPS_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBPS_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
FAMILY = 0xFFFE0C00  # sync, version, layer and sample rate: the same in all frames of a file
COUNT_FLAG = 1  # of a Xing header: the count of frames follows


@dataclass(frozen=True, slots=True)
class Frames:
    start: int  # byte of the first frame
    end: int  # byte after the last whole frame: tags and a frame cut in two are beyond it
    count: int


def with_count(content: bytes) -> bytes:
    """The same audio under a Xing header with its true count of frames, as it was if it has a count already.

    What such a file lost by being cut can't be known: any frame may be the last. `ValueError` if it isn't layer III.
    """
    start = find_frames(content, at_most=1).start
    header = _header(content, start)
    tag = start + _tag_offset(header)
    if (
        content[tag : tag + 4] in (b"Xing", b"Info")
        and content[tag + 7] & COUNT_FLAG
        and any(content[tag + 8 : tag + 12])
    ):
        return content
    frames = find_frames(content)
    return _xing_frame(header, frames.count) + content[frames.start : frames.end]


def find_frames(content: bytes, at_most: int = 2**63) -> Frames:
    """Walk over the first whole frames, past tags and damage. `ValueError` where there are none."""
    position, start, end, count, first = _after_id3(content), 0, 0, 0, 0
    while count < at_most and (position := content.find(b"\xff", position)) >= 0:
        header = _header(content, position)
        after = position + _size(header)
        adjoins = count > 0 and position == end
        whole = position < after <= len(content) and _same_family(header, first or header)
        if whole and (adjoins or _same_family(_header(content, after), header)):  # two in a row aren't chance
            if not count:
                start, first = position, header
            position = end = after
            count += 1
        else:
            position += 1
    if not count:
        raise ValueError("no two MPEG layer III frames in a row")
    return Frames(start, end, count)


def _same_family(header: int, other: int) -> bool:
    return _size(header) > 0 and header & FAMILY == other & FAMILY


def _after_id3(content: bytes) -> int:
    position = 0
    while content[position : position + 3] == b"ID3" and position + 10 <= len(content):
        size = 0
        for byte in content[position + 6 : position + 10]:  # seven bits each
            size = size << 7 | byte & 0x7F
        position += size + (20 if content[position + 5] & 0x10 else 10)  # with or without a footer
    return position


def _header(content: bytes, position: int) -> int:
    return int.from_bytes(content[position : position + 4], "big") if position + 4 <= len(content) else 0


def _size(header: int) -> int:
    """Bytes of the frame, its header included; 0 if this is no header of layer III with a stated bit rate."""
    version, bitrate, rate = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3
    layer_three = header >> 21 == 0x7FF and version != RESERVED and header >> 17 & 3 == 1
    if not layer_three or bitrate in (0, 15) or rate == 3:
        return 0
    bits = 144_000 * KBPS_MPEG1[bitrate] if version == MPEG1 else 72_000 * KBPS_MPEG2[bitrate]
    return bits // RATES[version][rate] + (header >> 9 & 1)


def _tag_offset(header: int) -> int:
    """Bytes from a frame's start to its Xing header: the frame header and the side information."""
    mono = header >> 6 & 3 == 3
    if header >> 19 & 3 == MPEG1:
        return 4 + (17 if mono else 32)
    return 4 + (9 if mono else 17)


def _xing_frame(header: int, count: int) -> bytes:
    header = header & ~0xF200 | 0x19000  # no checksum, no padding, bit rate 9: at least 240 bytes
    frame = bytearray(_size(header))
    frame[:4] = header.to_bytes(4, "big")
    struct.pack_into(">4sII", frame, _tag_offset(header), b"Xing", COUNT_FLAG, count)
    return bytes(frame)
