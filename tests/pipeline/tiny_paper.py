"""Every weight file that the recipe `paper` pulls, as a folder that lies where a mirror's would: the published paths,
wrappings and prefixes, tiny random networks inside.

Nothing in a file says that it is a stand-in: sizes are those of its tensors or of its ``config.json``, as with the
published ones. SongEval's last layer is set so that songs pass the gate.
"""

import json
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path

import tiny_mucodec
import torch
from safetensors.torch import save_file
from tiny_mucodec import randomised
from tiny_published import bytes_vocabulary, qwen2_audio, qwen3_asr, whisper
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor, nn

from model.config import ModelConfig
from model.network import MaskPredictor
from pipeline.assets.known import ASSETS
from pipeline.assets.pull import Terms, pull
from pipeline.conditioning.clamp3.network import Clamp3, audio_config, text_config
from pipeline.encoders.mert import network as mert
from pipeline.encoders.muq.network import MuQ, MuQShape
from pipeline.quality.songeval.network import SongEval
from pipeline.separation.bsrnn.network import BandSplitRNN, Shape
from pipeline.structure.songformer.network import Shape as FormerShape
from pipeline.structure.songformer.network import SongFormer

WIDTH = 64  # one head, of everything that hears
EARS = MuQShape(width=WIDTH, layers=11, heads=1, inner=16, kernel=3, channels=2)  # SongFormer takes the tenth state
TOWER = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
MARKS = ("<s>", "<pad>", "</s>", "<unk>")  # XLM-R's, by their numbers


def write_mirror(folder: Path, *names: str) -> Path:
    """The files of these assets below ``folder/<asset>``; the folder."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        MAKERS[name](folder / name)
        for file in ASSETS[name].files:  # settings that transformers of today no longer writes
            if not (folder / name / file.path).exists():
                (folder / name / file.path).write_text("{}", encoding="utf-8")
    return folder


def pull_all(mirror: Path, *names: str) -> None:
    """As `backline assets pull --offline --mirror --accept-licence` does, but for the published sizes and hashes."""
    terms = Terms(accept_licence=True, offline=True, mirror=str(mirror), check=False)
    for name in names:
        pull(name, terms, lambda done, size: None)


def tensors(network: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: tensor.clone().contiguous() for name, tensor in randomised(network).state_dict().items()}


def muq(folder: Path) -> None:
    surplus = {f"model.{name}": torch.zeros(3) for name in ("cls_token", "linear.weight", "rvq.quantizers.0.codebook")}
    save_file(tensors(MuQ(EARS), "model.") | surplus, folder / "model.safetensors")


def songeval(folder: Path) -> None:
    state = tensors(SongEval(WIDTH, 16))
    state["fc.weight"] *= 0.01
    state["fc.bias"] = torch.full((5,), 1.0)  # 3 + 2 tanh 1 = 4.5
    save_file(state, folder / "model.safetensors")


def musicfm(folder: Path) -> None:
    beside = {"model.quantizer_melspec_2048_0.random_projection": torch.ones(2), "model.cls_token": torch.ones(2)}
    torch.save({"state_dict": tensors(MuQ(EARS), "model.") | beside, "epoch": 1}, folder / "pretrained_msd.pt")
    told = {"melspec_2048_mean": 6.0, "melspec_2048_std": 18.0}
    (folder / "msd_stats.json").write_text(json.dumps(told), encoding="utf-8")


def songformer(folder: Path) -> None:
    shape = FormerShape(streams=4 * WIDTH, fused=16, down=12, width=16, layers=1, heads=2, head=8, data_sets=64)
    network = SongFormer(shape)
    frequencies = network.transformer.transformer.rotary_pos_emb.inv_freq.clone()
    state = tensors(network, "ema_model.")
    state["ema_model.transformer.transformer.rotary_pos_emb.inv_freq"] = frequencies
    save_file(state | {"step": torch.tensor(7), "initted": torch.tensor(True)}, folder / "SongFormer.safetensors")


def clamp3(folder: Path) -> None:
    network = Clamp3(text_config(vocab_size=len(MARKS) + 256, **TOWER), audio_config(**TOWER))
    beside = {"symbolic_model.patch_embedding.weight": torch.ones(2, 2), "symbolic_proj.bias": torch.ones(2)}
    content = {"model": tensors(network) | beside, "epoch": 3, "min_eval_loss": 0.1}
    torch.save(content, folder / ASSETS["clamp3"].files[0].path)


def mert_95m(folder: Path) -> None:
    shape = mert.config(conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **TOWER)
    old = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    state = tensors(mert.build(shape))
    for new, name in old.items():
        state = {key.replace(new, name): tensor for key, tensor in state.items()}
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "mert_model", **TOWER}), encoding="utf-8")


def words(folder: Path) -> None:
    vocabulary = {mark: number for number, mark in enumerate(MARKS)}
    vocabulary |= {letter: len(MARKS) + number for letter, number in bytes_vocabulary().items()}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(list(MARKS))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    tokenizer.save(str(folder / "tokenizer.json"))


def demucs(folder: Path) -> None:
    """As Demucs' own export writes it: the class and its arguments in the file's metadata."""
    from demucs.htdemucs import HTDemucs

    arguments = {
        "sources": ["drums", "bass", "other", "vocals"], "channels": 8, "bottom_channels": 16, "t_layers": 1,
        "t_heads": 2, "t_hidden_scale": 1.0, "dconv_depth": 1, "segment": 4,
    }  # fmt: skip
    torch.manual_seed(0)
    network = HTDemucs(**arguments)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    told = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(arguments)}
    save_file(state, folder / "955717e8.safetensors", metadata=told)
    (folder / "htdemucs.yaml").write_text("models: ['955717e8']\n", encoding="utf-8")


def bsrnn(folder: Path) -> None:
    network = BandSplitRNN(Shape(width=8, hidden=8, layers=1, mask=8))
    torch.save({"state_dict": tensors(network, "model."), "hyper_parameters": {"lr": 1e-3}}, folder / "vocals.pt")


def mucodec(folder: Path) -> None:
    tiny_mucodec.write(folder)


def lada_band(folder: Path) -> None:
    """As the authors' trainer saved it: a Lightning checkpoint with the other systems and its settings in the file."""
    sizes = {"layers": 2, "width": 64, "heads": 1, "kv_heads": 1, "head_dim": 64, "ffn": 48, "prefix_width": 768}
    network = MaskPredictor(ModelConfig.model_validate(sizes), rtd=True)
    state = tensors(network, "model.")
    beside = ("lm.embed_tokens.weight", "clamp3.head.weight", "codec_model.x", "codec_vae.y", "codec_stft.window")
    state |= {f"model.{name}": torch.ones(3) for name in beside}
    content = {"epoch": 3, "global_step": 10_000, "hyper_parameters": Namespace(lr=1e-5), "state_dict": state}
    path = folder / ASSETS["lada-band"].files[0].path
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)


MAKERS: Mapping[str, Callable[[Path], object]] = {
    "muq": muq,
    "songeval": songeval,
    "musicfm": musicfm,
    "songformer": songformer,
    "clamp3": clamp3,
    "mert-95m": mert_95m,
    "xlm-roberta-tokenizer": words,
    "demucs-htdemucs": demucs,
    "bsrnn": bsrnn,
    "qwen2-audio": qwen2_audio,
    "qwen3-asr": qwen3_asr,
    "whisper": whisper,
    "lada-band": lada_band,
    "mucodec": mucodec,
    "mucodec-vae": mucodec,
}
