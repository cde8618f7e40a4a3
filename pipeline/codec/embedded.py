"""The embedded codec: k-means codes of a pitch-preserving feature, a small decoder, Griffin-Lim.

Conventions: it hears mono up to 12 kHz and plays two equal channels; one stream without windows, so every slice of
codes is valid on its own (a code's analysis frames reach 16 ms over its 40 ms on either side). Level is part of a code:
feed audio under the loudness rule. Codes repeat bit by bit with the same number of torch threads, and don't depend on
other files.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.audio import as_stereo, resample
from pipeline.codec import mel
from pipeline.codec.codebook import UNSEEN_STRETCH, Codebook
from pipeline.codec.codec import SAMPLE_RATE, SAMPLES_PER_CODE, SHIPPED, CodecConfig, CodecSpec, Codes, token_count
from pipeline.codec.decoder import Decoder, enlivened
from pipeline.codec.pitch import sung_line
from pipeline.codec.vocoder import synthesise
from pipeline.codec.voice import retuned
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio, Samples

FORMAT = "backline-embedded-codec-2"
DECODER = "decoder."  # prefix of the network's tensors in the file


class EmbeddedCodec:
    """See the module; `Codec` is the contract."""

    def __init__(self, codebook: Codebook, decoder: Decoder, weights_sha256: str, licence: str) -> None:
        self.codebook, self.decoder = codebook, decoder.eval().requires_grad_(False)
        self.spec = CodecSpec(
            name="embedded",
            weights_sha256=weights_sha256,
            licence=licence,
            window_tokens=0,
            hop_samples=0,
            phases=1,
            context_frames=1,
        )

    @torch.inference_mode()
    def encode(self, audio: Audio) -> Codes:
        """Codes ``[1, token_count(n)]``; the last one is padded with silence. `ValueError` unless 48 kHz."""
        codes = self.codebook.codes(self._log_mel(audio))
        return codes.numpy().astype(np.uint16)[None]

    @torch.inference_mode()
    def latents(self, audio: Audio) -> Samples:
        """Continuous latents before quantisation: the points ``[token_count(n), D]`` whose nearest centres `encode`
        names, float32, with D = 128 in the shipped weights. `ValueError` unless 48 kHz."""
        points: Samples = self.codebook.points(self._log_mel(audio)).numpy()
        return points

    @torch.inference_mode()
    def decode(self, codes: Codes) -> Audio:
        """Stereo 48 kHz audio, two equal channels, ``T * 1920`` samples for codes ``[T]``; `ValueError` for others."""
        if codes.ndim != 1 or not codes.size or int(codes.max()) >= len(self.codebook.centres):
            raise ValueError(
                f"codes must be [T] below {len(self.codebook.centres)} with T >= 1, got {codes.dtype} {codes.shape}"
            )
        return self._sound(*self.decoder(torch.from_numpy(codes.astype(np.int64))[None]))

    @torch.inference_mode()
    def decode_latents(self, latents: Samples) -> Audio:
        """The same for latents ``[T, D]``: those of the codes' centroids give what the codes give."""
        centres = self.codebook.centres
        if latents.ndim != 2 or not len(latents) or latents.shape[1] != centres.shape[1]:
            raise ValueError(f"latents must be [T, {centres.shape[1]}] with T >= 1, got {latents.shape}")
        return self._sound(*self.decoder.from_points(torch.from_numpy(latents.astype(np.float32))[None]))

    def centroids(self) -> Samples:
        """The latent that each code stands for, ``[16384, D]`` float32."""
        centres: Samples = self.codebook.centres.numpy()
        return centres

    def _sound(self, log_mels: torch.Tensor, alone: torch.Tensor) -> Audio:
        log_mel = log_mels[0].clamp(min=_FLOOR)
        line = sung_line(log_mel).weakened(alone[0].sigmoid().numpy().astype(np.float64))
        samples = synthesise(enlivened(retuned(log_mel, line)).clamp(min=_FLOOR), line=line).numpy()
        audio = resample(Audio(samples[None], mel.SAMPLE_RATE), SAMPLE_RATE)
        assert audio.length * mel.FRAMES_PER_CODE == len(log_mel) * SAMPLES_PER_CODE
        return as_stereo(audio)

    def _log_mel(self, audio: Audio) -> torch.Tensor:
        if audio.sample_rate != SAMPLE_RATE:
            raise ValueError(f"the codec takes {SAMPLE_RATE} Hz, got {audio.sample_rate} Hz: resample first")
        return mel.log_mel(torch.from_numpy(mel.to_24k(audio)), token_count(audio.length))


_FLOOR = float(np.log(mel.FLOOR))


def build(config: CodecConfig) -> EmbeddedCodec:
    """The codec of a weights file; `BackendUnavailable` where it is missing or not one of ours."""
    return load(Path(config.weights) if config.weights else SHIPPED)


def load(path: Path) -> EmbeddedCodec:
    """Read what `save` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise BackendUnavailable(
            f"codec weights {path} can't be read: {error}. Train them: backline codec train"
        ) from error
    card = json.loads(metadata.get("card", "{}"))
    if card.get("format") != FORMAT:
        raise BackendUnavailable(f"codec weights {path} are of format {card.get('format')!r}, not {FORMAT!r}")
    centres = tensors["centres"]
    sharpness = float(tensors.get("sharpness", 0.0))  # weights of before it had none
    components = tensors["components"] * UNSEEN_STRETCH
    codebook = Codebook(float(tensors["amplitude"]), tensors["mean"], components, centres, sharpness)
    learned = {n.removeprefix(DECODER): t for n, t in tensors.items() if n.startswith(DECODER)}
    decoder = Decoder(centres, slow_blocks=sum(n.startswith("slow.") and n.endswith(".scale") for n in learned))
    decoder.load_state_dict(learned)
    with path.open("rb") as file_bytes:
        digest = hashlib.file_digest(file_bytes, "sha256").hexdigest()
    return EmbeddedCodec(codebook, decoder, digest, card["licence"])


def save(path: Path, codebook: Codebook, decoder: Decoder, card: dict[str, str]) -> None:
    """Half-precision weights, written beside and renamed; `card` states at least the licence."""
    fixed = {"mean": codebook.mean, "components": codebook.components, "centres": codebook.centres}
    learned = {f"{DECODER}{name}": tensor for name, tensor in decoder.state_dict().items()}
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in (fixed | learned).items()}
    tensors["amplitude"] = torch.tensor(codebook.amplitude)
    tensors["sharpness"] = torch.tensor(codebook.sharpness)
    temporary = path.with_name(f".{path.name}.tmp")
    text = json.dumps({"format": FORMAT} | card, sort_keys=True)
    save_file(tensors, temporary, metadata={"card": text})  # one key: the library writes several in random order
    temporary.chmod(0o644)
    temporary.replace(path)
