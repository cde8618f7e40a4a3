"""Every weight file that Backline can use, and the terms it comes under.

Conventions: names are ours. Licences are those that the publisher states on the day this was written; ``doubt`` says
where two of its pages contradict each other or none speaks. A hash or size that is not here is pinned by the first
pull; sizes in GB are those that the publisher's page shows, or the parameters' count.
"""

from pipeline.assets.embedded import EMBEDDED
from pipeline.assets.table import Asset, File, Hub, Manual, Web

NC = "CC-BY-NC-4.0"
_UVR = "https://raw.githubusercontent.com/TRvlvr/application_data/main"
_ROFORMER = "model_bs_roformer_ep_317_sdr_12.9755"
_NOT_STATED = "its publisher states no licence for the weights: treated as non-commercial"
_CLAMP3 = (
    "weights_clamp3_saas_h_size_768_t_model_FacebookAI_xlm-roberta-base_t_length_128"
    "_a_size_768_a_layers_12_a_length_128_s_size_768_s_layers_12_p_size_64_p_length_512.pth"
)
_QWEN_TEXTS = (
    "config.json", "generation_config.json", "merges.txt", "preprocessor_config.json", "tokenizer.json",
    "tokenizer_config.json", "vocab.json", "chat_template.json",
)  # fmt: skip
_WHISPER_TEXTS = (
    "config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "normalizer.json", "merges.txt", "vocab.json",
)  # fmt: skip


def _texts(*names: str) -> tuple[File, ...]:
    return tuple(File(name, format="other") for name in names)


def _hub(
    name: str, what: str, repo: str, files: tuple[File, ...], licence: str, gb: float, doubt: str = "", nc: bool = False
) -> Asset:
    about = f"https://huggingface.co/{repo}"
    return Asset(name, what, Hub(repo), files, licence, not nc, about, doubt, gb)


def _demucs(model: str, repo: str, *signatures: str) -> Asset:
    """As demucs 4.1 publishes them: MIT, 84 MB each, safetensors."""
    files = (*_texts(f"{model}.yaml"), *(File(f"{signature}.safetensors") for signature in signatures))
    doubt = "its authors say MIT; it learnt from MUSDB18-HQ, which is for academic use, and from 800 further songs"
    return _hub(f"demucs-{model}", f"Demucs {model}", repo, files, "MIT", 0.084 * len(signatures), doubt)


_PUBLISHED = (
    _hub(
        "muq", "MuQ large, Million Song iteration", "OpenMuQ/MuQ-large-msd-iter",
        (File("model.safetensors"), *_texts("config.json")), NC, 1.33, nc=True,
    ),
    Asset(
        "songeval", "SongEval's head of five scores",
        Web("https://raw.githubusercontent.com/ASLP-lab/SongEval/f8113118221285eabcbc2882093b0956b9661446/ckpt"),
        (File("model.safetensors", git="b25155b89115f2f36bcf367c6f3446ae7d6214cb"),),
        "CC-BY-NC-SA-4.0", commercial=False, about="https://github.com/ASLP-lab/SongEval",
        doubt="its LICENSE file says Apache-2.0, its README CC BY-NC-SA 4.0: treated as non-commercial",
        approximate_gb=0.10,  # 25.2 million float32: four attentions of 1024, two layers of 4096, one of 5
    ),
    _hub(
        "mucodec", "MuCodec: quantiser and flow-matching decoder", "yaoxunxu/mucodec",
        (
            File(
                "ckpt/mucodec.pt",
                4_291_866_472,
                "52ad6c046d2c67246899ea5b45cc91680b417ceab37ca150993c5f00d73b2f6e",
                format="pickle",
            ),
        ), NC, 0.0, nc=True,
    ),
    _hub(
        "mucodec-muq", "MuCodec's own MuQ", "yaoxunxu/mucodec",
        (
            File(
                "muq_dev/muq.pt",
                1_319_797_418,
                "324f7c944607c4c3d199aa9bf404bda8b9883c545cf5dd18a2e775c6089fefe3",
                format="pickle",
                outer="model",
            ),
        ), NC, 0.0, nc=True,
    ),
    _hub(
        "mucodec-vae", "AudioLDM 48 kHz: VAE and HiFi-GAN that MuCodec decodes with", "yaoxunxu/mucodec",
        (
            File(
                "tools/audioldm_48k.pth",
                5_359_712_103,
                "3f7beb1cfa40ff6ebd1e8925088ca626ec831225899d85493da0b646548f510c",
                format="pickle",
                outer="state_dict",
            ),
        ), NC, 0.0, nc=True,
        doubt="the licence is that of its first publisher, haoheliu/audioldm_48k",
    ),
    _hub(
        "songformer", "SongFormer", "ASLP-lab/SongFormer",
        (File("SongFormer.safetensors", md5="5a24800e12ab357744f8b47e523ba3e6"),), "CC-BY-4.0", 0.10,  # float32
    ),
    _hub(
        "musicfm", "MusicFM, Million Song", "minzwon/MusicFM",
        (
            File("pretrained_msd.pt", md5="df930aceac8209818556c4a656a0714c", format="pickle", outer="state_dict"),
            File("msd_stats.json", md5="75ab2e47b093e07378f7f703bdb82c14", format="other"),
        ),
        "MIT", 1.32,
    ),
    _hub(
        "clamp3", "CLaMP3, audio variant (SAAS)", "sander-wood/clamp3",
        (File(_CLAMP3, format="pickle", outer="model"),), "MIT", 1.83,  # 458 million float32, the symbolic tower's too
    ),
    _hub(
        "mert-95m", "MERT-v1-95M", "m-a-p/MERT-v1-95M",
        (File("pytorch_model.bin", format="pickle"), *_texts("config.json", "preprocessor_config.json")), NC, 0.38,
        nc=True,
    ),
    _hub(
        "xlm-roberta-tokenizer", "XLM-RoBERTa's tokenizer", "FacebookAI/xlm-roberta-base",
        _texts("tokenizer.json", "tokenizer_config.json", "sentencepiece.bpe.model", "config.json"), "MIT", 0.014,
    ),
    _demucs("htdemucs", "adefossez/HTDemucs", "955717e8"),
    _demucs("htdemucs_ft", "adefossez/HTDemucs-ft", "f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"),
    Asset(
        "roformer", "BS-RoFormer (viperx, epoch 317)",
        Web("https://github.com/TRvlvr/model_repo/releases/download/all_public_uvr_models"),
        (
            File(f"{_ROFORMER}.ckpt", format="other"),
            File(f"{_ROFORMER}.yaml", format="other", url=f"{_UVR}/mdx_model_data/mdx_c_configs/{_ROFORMER}.yaml"),
            File("download_checks.json", format="other", url=f"{_UVR}/filelists/download_checks.json"),
        ),
        "not stated", commercial=False, about="https://github.com/nomadkaraoke/python-audio-separator",
        doubt=_NOT_STATED, approximate_gb=0.64,
    ),
    Asset(
        "bsrnn", "BandSplitRNN, vocals (amanteur)",
        Manual("fetch the vocals checkpoint that its README links to on Google Drive and name it vocals.pt"),
        (File("vocals.pt", format="pickle", outer="state_dict"),),
        "not stated", commercial=False, about="https://github.com/amanteur/BandSplitRNN-PyTorch", doubt=_NOT_STATED,
        approximate_gb=0.11,  # 28.0 million float32, of the weights alone
    ),
    _hub(
        "qwen2-audio", "Qwen2-Audio 7B Instruct", "Qwen/Qwen2-Audio-7B-Instruct",
        (
            *(File(f"model-{n:05d}-of-00005.safetensors") for n in range(1, 6)),
            *_texts("model.safetensors.index.json", *_QWEN_TEXTS),
        ),
        "Apache-2.0", 16.8,
    ),
    _hub(
        "qwen3-asr", "Qwen3-ASR 1.7B, in transformers' layout", "Qwen/Qwen3-ASR-1.7B-hf",
        (
            File("model.safetensors"),
            *_texts("config.json", "generation_config.json", "processor_config.json", "tokenizer.json"),
            *_texts("tokenizer_config.json", "chat_template.jinja"),
        ),
        "Apache-2.0", 4.7,
    ),
    _hub(
        "whisper", "Whisper large v3 turbo", "openai/whisper-large-v3-turbo",
        (File("model.safetensors"), *_texts(*_WHISPER_TEXTS)), "MIT", 1.62,
    ),
    Asset(
        "lada-band", "The authors' LaDA-Band, 1B", Hub("sDuoluoluos/LaDA-Band", gated=True),
        (File("checkpoints/lada_band_lm1B_total3B.ckpt", format="pickle", outer="state_dict"),),
        "not stated", commercial=False, about="https://huggingface.co/sDuoluoluos/LaDA-Band", doubt=_NOT_STATED,
        # Place and size are told in public by one who has it (2026-09-30), not by its publisher, so no pin:
        # 20,695,860,213 bytes, as 3.1 billion float32 with AdamW's two moments of the 1,042 million that learn.
        approximate_gb=20.7,
    ),
)  # fmt: skip
ASSETS: dict[str, Asset] = {asset.name: asset for asset in (*_PUBLISHED, *EMBEDDED)}
