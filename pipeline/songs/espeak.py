"""espeak-ng (GPL-3) in a process of its own: texts on stdin, speech with phone times on stdout.

The library keeps counters for flutter and seeds its noise by the clock, so the same word sounds a little different each
time. The seed is therefore set, and every text is spoken by a fresh fork of a process that has spoken nothing: the same
request gives the same samples.
Protocol: one JSON request ``{"voice", "rate", "pitch", "range", "texts"}``; per text one JSON line ``{"samples",
"rate", "phones": [[sample, name], ...]}`` followed by that many int16 samples.
"""

import ctypes
import json
import os
import struct
import sys
from typing import Any

from espeakng_loader import get_data_path, get_library_path

SYNCHRONOUS, PHONEME_EVENTS, UTF8 = 2, 1, 1  # synchronous: no thread of its own, so that a fork can speak
PHONEME = 7
RATE, PITCH, RANGE = 1, 3, 4


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("uid", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Speaker:
    """One voice of espeak-ng."""

    def __init__(self, voice: str, rate: int, pitch: int, pitch_range: int) -> None:
        self.library = ctypes.CDLL(str(get_library_path()))
        path = str(get_data_path()).encode()
        self.sample_rate = int(self.library.espeak_Initialize(SYNCHRONOUS, 0, path, PHONEME_EVENTS))
        self.pcm: list[bytes] = []
        self.phones: list[tuple[int, str]] = []
        self.callback = _Callback(self._receive)
        self.library.espeak_SetSynthCallback(self.callback)
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else seeded by the clock
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.pcm.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type:
            if events[index].type == PHONEME:
                self.phones.append((int(events[index].sample), events[index].id.string.decode("latin-1")))
            index += 1
        return 0

    def say(self, text: str) -> bytes:
        """Header line and samples of one text."""
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 0, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        pcm = b"".join(self.pcm)
        head = {"samples": len(pcm) // 2, "rate": self.sample_rate, "phones": self.phones}
        return json.dumps(head).encode() + b"\n" + pcm


def _in_fork(speaker: Speaker, text: str) -> bytes:
    """`speaker.say(text)` in a child process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "wb") as pipe:
            pipe.write(speaker.say(text))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"espeak-ng died on {text!r} (status {status})")
    return answer


def main() -> None:
    """Serve one request from stdin."""
    request = json.loads(sys.stdin.buffer.read())
    speaker = Speaker(request["voice"], request["rate"], request["pitch"], request["range"])
    for text in request["texts"]:
        answer = _in_fork(speaker, text)
        sys.stdout.buffer.write(struct.pack("<I", len(answer)) + answer)


if __name__ == "__main__":
    main()
