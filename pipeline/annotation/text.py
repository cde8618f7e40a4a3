"""Descriptions without the singer, the tempo and the key: a text condition names style, instruments and mood only.

The paper's text "only contains styles, instrumental, and emotional descriptions". The vocal track already tells who
sings, how fast and in which key; words about them could only contradict it.

Conventions: English. A phrase is what lies between punctuation and linking words ("with", "and", "over", ...); a phrase
about a singer goes as a whole, tempo and key go word by word, and what is then left without content goes too.
"""

import re

_VOICE_PARTS = r"(?:alto|tenor|soprano|baritone)(?!\s+(?:sax|saxophone|guitar|recorder|clarinet|horn|ukulele|banjo)\b)"
_SINGER = re.compile(
    r"\b(?:vocals?|vocalists?|vocally|voices?|sing(?:s|ing|ers?)?|sang|sung|croon(?:s|ed|ing|ers?)?|choirs?|choral|rappers?"
    r"|rapped|rapping|a ?cappella|falsetto|divas?|duets?|lyrics?|chanteuse|women|woman|men|man|girls?|boys?"
    rf"|{_VOICE_PARTS})\b",
    re.IGNORECASE,
)
_GENDER = re.compile(r"\b(?:fe)?male(?:[- ](?:fronted|led|sung))?\b", re.IGNORECASE)

_NUMBER = r"\d+(?:[.,]\d+)?(?:\s*(?:-|–|to)\s*\d+)?"  # noqa: RUF001 (ranges are written with en dashes too)
_TEMPO = re.compile(
    rf"\b{_NUMBER}[ -]?(?:bpm|beats (?:per|a) minute)\b|\bbpm\b[ :=of]*(?:{_NUMBER})?"
    rf"|\b(?:(?:up|mid|down|medium|moderate|fast|slow|high|low)[ -]?)?tempo\b(?:\s*(?:of|:|=|is)?\s*{_NUMBER})?",
    re.IGNORECASE,
)
_NOTE = r"[A-G](?:[#♯♭b]|[ -][Ss]harp|[ -][Ff]lat)?"
_MODE = r"(?:[Mm]ajor|[Mm]inor|maj|min|[Dd]orian|[Pp]hrygian|[Ll]ydian|[Mm]ixolydian|[Aa]eolian)"
_KEY = re.compile(
    rf"\b{_NOTE}[ -]?{_MODE}\b(?:[ -]key\b)?"
    rf"|\b[Kk]ey(?: signature)?(?:\s+of|\s+is|\s*[:=])\s*{_NOTE}m?(?:[ -]?{_MODE})?(?![\w])"
    rf"|\b[A-G][#♯♭b]m\b|^\s*{_NOTE}m?\s*$|\b(?:major|minor)[ -](?:key|scale|mode)\b|\b[Kk]ey signature\b"
)

_LINK = re.compile(
    r"(\s*(?:[.;!?]+(?=\s|$)|,|\n)\s*|\s+(?:with|featuring|and|over|plus|alongside|accompanied by|backed by"
    r"|sung by|led by|fronted by|performed by|while|about|at|in|by)\s+)",
    re.IGNORECASE,
)
_EDGE = re.compile(
    r"^(?:and|with|at|in|of|by|around|about|to)\s+"
    r"|\s+(?:at|in|of|by|around|about|a|an|the|and|with|to|is)$",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"\s*(?:(?:the|this) )?(?:song|track|piece|it|music)(?: is|'s)(?: set| played| written| performed)?\s*",
    re.IGNORECASE,
)
_EMPTY = frozenset(
    {"a", "an", "the", "and", "at", "in", "of", "by", "with", "on", "to", "it", "its", "is", "has", "this", "that"}
    | {"around", "about", "approximately", "song", "track", "piece", "music", "played", "performed", "set", "written"}
    | {"recorded", "tempo", "key", "beat", "beats", "bpm"}
)


def clean_text(text: str) -> str:
    """The text without singer, tempo and key; empty where nothing else was said. Cleaning twice changes nothing."""
    text = text.strip()
    while (cleaned := _clean_once(text)) != text:  # what is left may meet in a new phrase; each round is shorter
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    parts = _LINK.split(text)
    links, phrases = ["", *parts[1::2]], [_clean_phrase(part) for part in parts[0::2]]
    result, waiting = "", ""
    for link, phrase in zip(links, phrases, strict=True):
        waiting = _stronger(waiting, link)
        if phrase:
            result, waiting = (result + waiting + phrase if result else phrase), ""
    end = waiting.strip() if result and _ends_sentence(waiting) else ""
    return _capital(result + end) if text[:1].isupper() else result + end


def _clean_phrase(phrase: str) -> str:
    """One phrase, or nothing."""
    if _SINGER.search(phrase) or _SUBJECT.fullmatch(phrase):
        return ""
    kept = _KEY.sub(" ", _TEMPO.sub(" ", _GENDER.sub(" ", phrase)))
    if kept == phrase:
        return phrase
    kept = " ".join(kept.split())
    while (trimmed := _EDGE.sub("", kept)) != kept:
        kept = trimmed
    return kept if set(re.findall(r"\w+", kept.lower())) - _EMPTY else ""


def _stronger(waiting: str, link: str) -> str:
    """The link that stays where the phrase between two went: a sentence's end, then "with", then the later one."""
    if _ends_sentence(waiting) or (waiting.strip().lower() in ("with", "featuring") and not _ends_sentence(link)):
        return waiting
    return link


def _ends_sentence(link: str) -> bool:
    return "\n" in link or link.strip()[:1] in {".", ";", "!", "?"}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
