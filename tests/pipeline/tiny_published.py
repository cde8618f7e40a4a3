"""The published models that transformers carries, tiny and random, in the files that their publishers' folders have."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    Qwen2Tokenizer,
    Qwen3ASRConfig,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from pipeline.assets.pull import install
from pipeline.assets.store import asset

QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
ASR = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_pad|>", "<|audio_start|>", "<|audio_end|>", "<asr_text>")
ASR_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DECODER = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 4096,
}  # fmt: skip
EARS = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "num_mel_bins": 128}


def install_tiny(name: str, folder: Path) -> None:
    """Put a tiny model into the store under the name, and in the files, of the published one."""
    {"qwen2-audio": qwen2_audio, "qwen3-asr": qwen3_asr, "whisper": whisper}[name](folder)
    for file in asset(name).files:
        if not (folder / file.path).exists():
            (folder / file.path).write_text("{}", encoding="utf-8")
    install(name, folder, check=False)


def bytes_vocabulary() -> dict[str, int]:
    return {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}


def qwen2_audio(folder: Path) -> None:
    tokenizer = Qwen2Tokenizer(vocab=bytes_vocabulary(), merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN)})
    ids = dict(zip(QWEN, tokenizer.convert_tokens_to_ids(list(QWEN)), strict=True))
    config = Qwen2AudioConfig(
        audio_config=EARS, audio_token_id=ids["<|AUDIO|>"],
        text_config={**DECODER, "model_type": "qwen2", "vocab_size": len(tokenizer)},
    )  # fmt: skip
    torch.manual_seed(0)
    network = Qwen2AudioForConditionalGeneration(config)
    network.generation_config = GenerationConfig(eos_token_id=ids["<|im_end|>"], pad_token_id=ids["<|endoftext|>"])
    features = WhisperFeatureExtractor(feature_size=128)
    processor = Qwen2AudioProcessor(feature_extractor=features, tokenizer=tokenizer)
    in_old_files(folder, features, tokenizer)
    template = json.dumps({"chat_template": processor.chat_template})
    (folder / "chat_template.json").write_text(template, encoding="utf-8")
    network.save_pretrained(folder)
    shard(folder, 5)


def qwen3_asr(folder: Path) -> None:
    special = {"audio_token": ASR[3], "audio_bos_token": ASR[4], "audio_eos_token": ASR[5]}
    tokenizer = Qwen2Tokenizer(vocab=bytes_vocabulary(), merges=[], extra_special_tokens=special)
    tokenizer.add_tokens(list(ASR), special_tokens=True)
    ids = dict(zip(ASR, tokenizer.convert_tokens_to_ids(list(ASR)), strict=True))
    config = Qwen3ASRConfig(
        audio_config={**EARS, "output_dim": DECODER["hidden_size"], "downsample_hidden_size": 8},
        audio_token_id=ids[ASR[3]],
        text_config={**DECODER, "head_dim": 8, "model_type": "qwen3", "vocab_size": len(tokenizer)},
        pad_token_id=ids[ASR[0]], eos_token_id=[ids[ASR[0]], ids[ASR[2]]],
    )  # fmt: skip
    torch.manual_seed(0)
    network = Qwen3ASRForConditionalGeneration(config)
    processor = Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=ASR_TEMPLATE)
    processor.save_pretrained(folder)
    network.save_pretrained(folder)


def whisper(folder: Path) -> None:
    vocabulary = bytes_vocabulary()
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|startoftranscript|>", "<|notimestamps|>"]})
    start, end = tokenizer.convert_tokens_to_ids("<|startoftranscript|>"), tokenizer.eos_token_id
    size = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=128, d_model=16, encoder_ffn_dim=32, decoder_ffn_dim=32, **size,
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end, suppress_tokens=None,
        begin_suppress_tokens=None,
    )  # fmt: skip
    torch.manual_seed(0)
    network = WhisperForConditionalGeneration(config)
    in_old_files(folder, WhisperFeatureExtractor(feature_size=128), tokenizer)
    network.save_pretrained(folder)


def in_old_files(folder: Path, features: Any, tokenizer: Any) -> None:
    """As transformers 4 wrote a processor: the features' settings and the tokenizer, each in files of its own."""
    features.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def shard(folder: Path, count: int) -> None:
    """Spread the tensors of ``model.safetensors`` over so many files, with an index, as large models come."""
    from safetensors.torch import load_file

    whole: dict[str, Any] = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    place = {key: names[index % count] for index, key in enumerate(sorted(whole))}
    for name in names:
        save_file({key: whole[key] for key in whole if place[key] == name}, folder / name, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
