"""Styles: who plays what, how it grooves, and how the style is described in words.

Conventions: patterns are strings of 16 sixteenth steps a bar: ``X`` accent, ``x`` normal, ``o`` soft, ``.`` rest. Programs are General
MIDI numbers from 0. Levels are dB RMS relative to the loudest instrument; pan is -1 (left) .. 1 (right).
"""

from dataclasses import dataclass
from typing import Literal

Comping = Literal["block", "strum", "arpeggio", "stab", "pad"]
Texture = Literal["quiet", "half", "full"]


@dataclass(frozen=True, slots=True)
class Player:
    """One instrument that plays chords."""

    names: tuple[tuple[int, str], ...]  # choices: (program, what it is called in text)
    comping: Comping
    patterns: tuple[str, ...]
    level: float  # dB
    pan: float
    enters: float = 0.0  # plays where the section's energy is at least this
    octave: int = 0


@dataclass(frozen=True, slots=True)
class Drums:
    """Kick, snare and cymbal patterns by how full the section is."""

    kit: int  # program of the drum bank
    name: str
    kick: dict[Texture, tuple[str, ...]]
    snare: dict[Texture, tuple[str, ...]]
    hat: dict[Texture, tuple[str, ...]]
    hats: tuple[int, int]  # drum keys of the cymbal in quiet and in full sections
    snare_key: int = 38
    level: float = -1.0  # dB


@dataclass(frozen=True, slots=True)
class Style:
    """One style."""

    tempo: tuple[float, float]  # beats a minute
    minor: float  # probability of a minor key
    sevenths: bool
    swing: float  # how late every second eighth's sixteenth comes, fraction of a sixteenth
    drums: Drums | None
    bass: tuple[tuple[int, str], ...]
    bass_patterns: dict[Texture, tuple[str, ...]]  # R root, F fifth, O octave, T third, A approach; '-' holds
    players: tuple[Player, ...]
    lead: tuple[tuple[int, str], ...]
    reverb: tuple[float, float]  # seconds, wet share 0..1
    moods: tuple[str, ...]
    words: tuple[str, ...]  # how the genre is named


_REST = "." * 16
_ROCK_HAT = "X.x.X.x.X.x.X.x."
STYLES: dict[str, Style] = {
    "pop": Style(
        tempo=(92, 126), minor=0.3, sevenths=False, swing=0.0,
        drums=Drums(
            0, "crisp drums",
            kick={"quiet": ("X.......x.......",), "half": ("X.....x.x.......", "X.......x.x....."),
                  "full": ("X...X...X...X...", "X.....x.X.x.....", "X..x..x.X.......")},
            snare={"quiet": (_REST,), "half": ("....X.......X...",), "full": ("....X.......X...", "....X.......X..o")},
            hat={"quiet": ("o...o...o...o...",), "half": ("x.o.x.o.x.o.x.o.",), "full": ("X.x.X.x.X.x.X.x.", "XoxoXoxoXoxoXoxo")},
            hats=(42, 46),
        ),
        bass=((33, "electric bass"), (38, "synth bass")),
        bass_patterns={"quiet": ("R---------------",), "half": ("R-----R-R-------", "R---R---R---R---"),
                       "full": ("R-R-R-R-R-R-R-R-", "R--R--R-R--R--R-", "R---O---R---O---")},
        players=(
            Player(((0, "piano"), (4, "electric piano")), "block", ("X.......x.......", "X..x..x.....x...", "X...x...x...x..."), -4, -0.25),
            Player(((27, "clean electric guitar"), (25, "acoustic guitar")), "arpeggio", ("x.x.x.x.x.x.x.x.", "x..x..x.x..x..x."), -8, 0.5, 0.5),
            Player(((50, "synth strings"), (89, "warm pad")), "pad", ("X",), -9, 0.1, 0.65, 1),
        ),
        lead=((81, "saw lead"), (11, "vibraphone"), (73, "flute")),
        reverb=(1.4, 0.16), moods=("bright", "hopeful", "catchy", "warm"), words=("pop", "modern pop"),
    ),
    "rock": Style(
        tempo=(108, 150), minor=0.45, sevenths=False, swing=0.0,
        drums=Drums(
            16, "driving drums",
            kick={"quiet": ("X.......X.......",), "half": ("X.....x.X.......", "X.x.....X.x....."),
                  "full": ("X.x...x.X.x.....", "X..x..x.X..x....", "X.....x.X.x...x.")},
            snare={"quiet": (_REST,), "half": ("....X.......X...",), "full": ("....X.......X...", "....X..o....X..o")},
            hat={"quiet": ("x...x...x...x...",), "half": (_ROCK_HAT,), "full": (_ROCK_HAT, "X...X...X...X...")},
            hats=(42, 51), level=0.0,
        ),
        bass=((34, "picked bass"), (33, "electric bass")),
        bass_patterns={"quiet": ("R-------R-------",), "half": ("R-R-R-R-R-R-R-R-",), "full": ("R-R-R-R-R-R-R-A-", "R-R-R-R-O-R-R-R-")},
        players=(
            Player(((29, "overdriven guitar"), (30, "distorted guitar")), "strum", ("X.x.X.x.X.x.X.x.", "X..X..X.X..X..X.", "X...x.x.X...x.x."), -5, -0.6, 0.35),
            Player(((30, "distorted guitar"), (29, "overdriven guitar")), "block", ("X...............", "X.......X......."), -6, 0.6, 0.7),
            Player(((27, "clean electric guitar"), (18, "rock organ")), "arpeggio", ("x.x.x.x.x.x.x.x.",), -8, 0.3),
        ),
        lead=((30, "lead guitar"), (29, "lead guitar")),
        reverb=(0.9, 0.11), moods=("energetic", "raw", "determined", "restless"), words=("rock", "guitar rock"),
    ),
    "ballad": Style(
        tempo=(70, 88), minor=0.4, sevenths=True, swing=0.0,
        drums=Drums(
            0, "soft drums",
            kick={"quiet": (_REST,), "half": ("X.........x.....",), "full": ("X.....x...x.....", "X.........X.....")},
            snare={"quiet": (_REST,), "half": ("........X.......",), "full": ("....X.......X...", "........X.......")},
            hat={"quiet": (_REST,), "half": ("o...o...o...o...",), "full": ("x.o.x.o.x.o.x.o.",)},
            hats=(42, 51), snare_key=37, level=-5.0,
        ),
        bass=((35, "fretless bass"), (32, "upright bass")),
        bass_patterns={"quiet": ("R---------------",), "half": ("R-------F-------",), "full": ("R-----R-F-------", "R-------R---F---")},
        players=(
            Player(((0, "grand piano"), (1, "piano")), "arpeggio", ("X.x.x.x.x.x.x.x.", "X...x...x...x..."), 0, -0.15),
            Player(((48, "string section"), (49, "slow strings")), "pad", ("X",), -6, 0.25, 0.45, 1),
            Player(((24, "nylon guitar"), (46, "harp")), "arpeggio", ("..x...x...x...x.",), -9, 0.5, 0.6),
        ),
        lead=((40, "violin"), (68, "oboe"), (42, "cello")),
        reverb=(2.2, 0.24), moods=("tender", "longing", "intimate", "wistful"), words=("ballad", "slow ballad"),
    ),
    "funk": Style(
        tempo=(96, 116), minor=0.7, sevenths=True, swing=0.18,
        drums=Drums(
            8, "tight drums",
            kick={"quiet": ("X.......x.......",), "half": ("X..x......x..x..",), "full": ("X..x..x...x..x..", "X.x....x..x..x..", "X.....xx..x.....")},
            snare={"quiet": ("....o.......o...",), "half": ("....X.......X...",), "full": ("....X..o.o..X..o", "....X.o....oX...")},
            hat={"quiet": ("x.x.x.x.x.x.x.x.",), "half": ("XoxoXoxoXoxoXoxo",), "full": ("XoxoXoxoXoxoXoxo", "Xoxxxoxoxoxxxoxo")},
            hats=(42, 42), level=0.0,
        ),
        bass=((36, "slap bass"), (33, "finger bass")),
        bass_patterns={"quiet": ("R-----R-........",), "half": ("R--R..O-..R-F-..",), "full": ("R..R..O-.RO.R.FA", "R-.O..R-..R.O-F.", "R.RO..R.F.R..OA-")},
        players=(
            Player(((28, "muted guitar"), (27, "clean funk guitar")), "stab", ("..x.x..x..x.x.x.", ".x.xX..x.x.xX...", "x..x..X...x..X.."), -5, -0.5),
            Player(((7, "clavinet"), (4, "electric piano"), (16, "organ")), "stab", ("x..x..x...x..x..", "..X...x.....X..x"), -6, 0.4, 0.45),
            Player(((61, "brass section"), (66, "tenor saxophone")), "stab", ("............X.x.", "X.....x........."), -7, 0.15, 0.8, 1),
        ),
        lead=((65, "alto saxophone"), (56, "trumpet")),
        reverb=(0.6, 0.09), moods=("playful", "groovy", "confident", "danceable"), words=("funk", "funky soul"),
    ),
    "electronic": Style(
        tempo=(118, 140), minor=0.65, sevenths=False, swing=0.0,
        drums=Drums(
            25, "electronic drums",
            kick={"quiet": (_REST, "X.......X......."), "half": ("X...X...X...X...",), "full": ("X...X...X...X...", "X...X...X...X.x.")},
            snare={"quiet": (_REST,), "half": ("....X.......X...",), "full": ("....X.......X...", "....X..x....X...")},
            hat={"quiet": ("..o...o...o...o.",), "half": ("..X...X...X...X.",), "full": ("oxXxoxXxoxXxoxXx", "..X...X...X...X.")},
            hats=(42, 46), snare_key=39, level=1.0,
        ),
        bass=((38, "synth bass"), (39, "deep synth bass")),
        bass_patterns={"quiet": ("R---------------",), "half": ("..R...R...R...R.",), "full": ("R.RR.RR.R.RR.RR.", "..RR..RR..RR..RO", "R.O.R.O.R.O.R.O.")},
        players=(
            Player(((90, "polysynth"), (81, "saw synth")), "stab", ("X..X..X.X..X..X.", "X.....X...X.....", "..X...X...X...X."), -6, -0.3, 0.4),
            Player(((88, "bell synth"), (80, "square synth")), "arpeggio", ("xxxxxxxxxxxxxxxx", "x.xx.xx.x.xx.xx."), -8, 0.4, 0.3, 1),
            Player(((89, "warm pad"), (95, "sweep pad"), (94, "halo pad")), "pad", ("X",), -6, 0.0, 0.0, 0),
        ),
        lead=((80, "square lead"), (81, "saw lead")),
        reverb=(1.8, 0.18), moods=("hypnotic", "futuristic", "euphoric", "dark"), words=("electronic", "synth pop", "dance"),
    ),
    "folk": Style(
        tempo=(84, 120), minor=0.25, sevenths=False, swing=0.1,
        drums=Drums(
            40, "brushed drums",
            kick={"quiet": (_REST,), "half": ("X.......X.......",), "full": ("X.....x.X.......", "X.......X.....x.")},
            snare={"quiet": (_REST,), "half": ("....o.......o...",), "full": ("....x..o....x..o", "....x.......x...")},
            hat={"quiet": (_REST,), "half": ("o.......o.......",), "full": ("x..ox..ox..ox..o",)},
            hats=(69, 54), level=-5.0,
        ),
        bass=((32, "upright bass"),),
        bass_patterns={"quiet": ("R-------........",), "half": ("R-------F-------",), "full": ("R---....F---....", "R---F---R---A---")},
        players=(
            Player(((25, "steel-string guitar"), (24, "nylon guitar")), "strum", ("X...x.x...x.x.x.", "X...x.x.X...x.x.", "X..xx..xX..xx..x"), 0, -0.3),
            Player(((105, "banjo"), (15, "dulcimer"), (46, "harp")), "arpeggio", ("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx"), -9, 0.5, 0.55, 1),
            Player(((21, "accordion"), (20, "reed organ")), "pad", ("X",), -9, 0.2, 0.7),
        ),
        lead=((110, "fiddle"), (22, "harmonica"), (74, "recorder")),
        reverb=(1.1, 0.13), moods=("gentle", "earthy", "nostalgic", "homely"), words=("folk", "acoustic folk"),
    ),
    "reggae": Style(
        tempo=(74, 96), minor=0.45, sevenths=False, swing=0.22,
        drums=Drums(
            8, "one-drop drums",
            kick={"quiet": (_REST,), "half": ("........X.......",), "full": ("........X.......", "X.......X.......")},
            snare={"quiet": (_REST,), "half": ("........X.......",), "full": ("........X.......", "........X.....o.")},
            hat={"quiet": ("x...x...x...x...",), "half": ("x.o.x.o.x.o.x.o.",), "full": ("x.xox.xox.xox.xo",)},
            hats=(42, 42), snare_key=37,
        ),
        bass=((33, "round bass"), (35, "fretless bass")),
        bass_patterns={"quiet": ("R-------........",), "half": ("R--R--F-....R-T-",), "full": ("..R-R-T-F---R-A-", "R--R..F-..T-R-..", "R---..R-T-F-..R-")},
        players=(
            Player(((27, "skank guitar"), (28, "muted guitar")), "stab", ("..X...X...X...X.", "....X.......X..."), -4, -0.4),
            Player(((16, "organ"), (18, "rock organ")), "stab", ("..x.x.x...x.x.x.", "..xx..xx..xx..xx"), -6, 0.4, 0.3),
            Player(((61, "horns"), (57, "trombone")), "stab", ("X.x.............", "........X..x...."), -8, 0.1, 0.85, 1),
        ),
        lead=((22, "melodica"), (56, "trumpet"), (114, "steel drums")),
        reverb=(1.6, 0.2), moods=("relaxed", "sunny", "laid-back"), words=("reggae", "dub reggae"),
    ),
}  # fmt: skip


def texture(energy: float) -> Texture:
    """How full a section of this energy (0..1) is played."""
    return "quiet" if energy < 0.45 else "half" if energy < 0.8 else "full"
