"""MuCodec: one code every 40 ms for a song's mono sum, and a decoder that imagines the rest of it, stereo included.

Conventions: encoding hears the mean of both channels at 24 kHz, in windows of 1024 codes whose answers depend on the
whole window (`windows`); codes are those of the released code, decoded sound is its to rounding where the noise is the
same. See the README beside this for every difference.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.assets.store import combined, held
from pipeline.audio import as_stereo
from pipeline.batching import in_batches
from pipeline.codec.codec import SAMPLE_RATE, CodecConfig, CodecSpec, Codes, token_count
from pipeline.codec.mucodec import weights
from pipeline.codec.mucodec.flow import solve
from pipeline.codec.mucodec.hifigan import synthesise
from pipeline.codec.mucodec.resampling import halved
from pipeline.codec.mucodec.settings import ASSETS, ENCODED_AT_ONCE, WINDOW_TOKENS, MuCodecConfig
from pipeline.codec.mucodec.windows import (
    CODE_HOP,
    FADE,
    SAMPLES_PER_CODE,
    WINDOW,
    Phase,
    crossed,
    decoding_count,
    decoding_windows,
    encoding_windows,
    hop_of,
    levelled,
    phases,
)
from pipeline.encoders.muq.network import SAMPLES_PER_STATE
from pipeline.types import Audio, Samples

LAYER = 6  # hidden state of MuQ that is quantised; the released code's layer_num 7 less one
CHANNELS, BANDS = 16, 32  # of one ear's latents
FRAMES = WINDOW_TOKENS // 2  # latents of one window, at 12.5 Hz
KNOWN = (WINDOW_TOKENS - CODE_HOP) // 2  # latents that a window shares with the one before
DECODED_AT_ONCE = 4  # songs; ours


class MuCodec:
    """See the module; `Codec` is the contract."""

    def __init__(
        self,
        networks: weights.Networks,
        config: MuCodecConfig,
        device: str = "cpu",
        weights_sha256: str = "",
        licence: str = "",
    ) -> None:
        for network in networks.modules():
            network.to(device)
        self.networks, self.config, self.device = networks, config, device
        # On a CPU a batch gains nothing.
        self.encoded_at_once = ENCODED_AT_ONCE if device == "cuda" else 1  # windows
        self.spec = CodecSpec(
            name="mucodec",
            weights_sha256=weights_sha256,
            licence=licence,
            window_tokens=WINDOW_TOKENS,
            hop_samples=hop_of(config.windows),
            phases=config.phases,
            context_frames=WINDOW_TOKENS - 1,
        )

    def encode(self, audio: Audio) -> Codes:
        """Codes ``[F, token_count(n)]``. `ValueError` unless 48 kHz and at least one sample."""
        return self.encode_batch([audio])[0]

    @torch.inference_mode()
    def encode_batch(self, songs: Iterable[Audio]) -> list[Codes]:
        """The same of several songs, whose windows fill the batches together. Asks for one song at a time."""
        told = self._told(songs, phases(self.config.phases, self.config.windows), self.networks.quantiser.encode)
        return [np.stack(_filled_up(song)).astype(np.uint16) for song in told]

    def latents(self, audio: Audio) -> Samples:
        """Points ``[token_count(n), 32]``, float32, of phase 0, whose nearest centres by angle `encode` names."""
        return self.latents_batch([audio])[0]

    @torch.inference_mode()
    def latents_batch(self, songs: Iterable[Audio]) -> list[Samples]:
        """The same of several songs."""
        told = self._told(songs, phases(1, self.config.windows), self.networks.quantiser.points)
        return [_samples(song[0]) for song in told]

    def centroids(self) -> Samples:
        """``[16384, 32]``, float32."""
        return _samples(self.networks.quantiser.codebook.weight)

    def decode(self, codes: Codes) -> Audio:
        """Stereo 48 kHz audio of ``T * 1920`` samples for codes ``[T]``; same codes, same audio."""
        return self.decode_batch([codes])[0]

    def decode_batch(self, songs: Sequence[Codes]) -> list[Audio]:
        """The sound of several songs of any lengths, as `decode` gives it but for rounding."""
        return self._played([self.points(codes) for codes in songs], [np.asarray(c, "<u2").tobytes() for c in songs])

    def decode_latents(self, latents: Samples) -> Audio:
        """The sound of points ``[T, 32]`` that were never quantised; same points, same audio."""
        width = self.networks.quantiser.codebook.embedding_dim
        if latents.ndim != 2 or latents.shape[1] != width or not len(latents):
            raise ValueError(f"latents must be [T, {width}] with T >= 1, got {latents.shape}")
        points = self.networks.quantiser.codebook.weight.new_tensor(latents)
        return self._played([points], [np.asarray(latents, "<f4").tobytes()])[0]

    def points(self, codes: Codes) -> Tensor:
        """``[T, 32]``: the centres of codes ``[T]``."""
        size = self.networks.quantiser.codebook.num_embeddings
        if codes.ndim != 1 or not codes.size or int(codes.max()) >= size:
            raise ValueError(f"codes must be [T] below {size} with T >= 1, got {codes.dtype} {codes.shape}")
        return self.networks.quantiser.codebook.weight[torch.from_numpy(codes.astype(np.int64)).to(self.device)]

    @torch.inference_mode()
    def sounds(self, songs: Sequence[Tensor], noises: Sequence[Tensor]) -> list[Tensor]:
        """Points ``[T, 32]`` and noise ``[windows, 32, 512, 32]`` of each song -> sound ``[2, T * 1920]``."""
        latents = self.pictures([decoding_windows(points.T) for points in songs], noises)
        joined = [crossed(in_batches(song, 1, self._heard, "MuCodec's vocoder"), FADE) for song in latents]
        return [sound[:, : len(points) * SAMPLES_PER_CODE] for sound, points in zip(joined, songs, strict=True)]

    def _played(self, songs: Sequence[Tensor], keys: Sequence[bytes]) -> list[Audio]:
        noises = [self._noise(key, len(points)) for key, points in zip(keys, songs, strict=True)]
        return [Audio(_samples(sound), SAMPLE_RATE) for sound in self.sounds(songs, noises)]

    def _noise(self, key: bytes, codes: int) -> Tensor:
        """``[windows, 32, 512, 32]``, drawn from the seed and what is decoded."""
        digest = hashlib.sha256(f"{self.config.seed}:".encode() + key).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
        return torch.randn(decoding_count(codes), 2 * CHANNELS, FRAMES, BANDS, generator=generator)

    def pictures(self, songs: Sequence[Tensor], noises: Sequence[Tensor]) -> list[list[Tensor]]:
        """Windows of points ``[windows, 32, 1024]`` of each song -> their latents ``[32, 512, 32]``, one after another.

        A window begins with what the one before it ended with; songs go side by side.
        """
        done: list[list[Tensor]] = [[] for _ in songs]
        for step in range(max(map(len, songs))):
            going = [n for n, windows in enumerate(songs) if len(windows) > step]
            pieces = [(songs[n][step], noises[n][step], done[n][-1][:, -KNOWN:] if step else None) for n in going]
            solved = in_batches(pieces, DECODED_AT_ONCE, self._solved, "MuCodec")
            for n, latents in zip(going, solved, strict=True):
                done[n].append(latents)
        return done

    def heard(self, latents: Tensor) -> Tensor:
        """One window's latents ``[32, 512, 32]`` -> its sound ``[2, 1966080]``."""
        ears = latents.reshape(2, CHANNELS, *latents.shape[1:])
        mel = self.networks.vae.decode(ears)[:, 0].transpose(1, 2)
        return synthesise(self.networks.vocoder, mel)[:, :WINDOW]

    def _heard(self, windows: Sequence[Tensor]) -> list[Tensor]:
        return [self.heard(window) for window in windows]

    def condition(self, points: Tensor) -> Tensor:
        """``[B, 32, 1024]`` -> ``[B, 32, 512, 32]``: what the decoder is led by; two codes make a frame of latents."""
        rows: Tensor = self.networks.condition(self.networks.quantiser.restored(points.transpose(1, 2)))
        return rows.reshape(len(rows), -1, 2 * CHANNELS, BANDS).transpose(1, 2)

    def _solved(self, pieces: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> list[Tensor]:
        """Latents of one window of each of several songs, all first ones or all later ones."""
        condition = self.condition(torch.stack([points for points, _, _ in pieces]))
        noise = torch.stack([noise for _, noise, _ in pieces]).to(condition)
        statistics, context = self.networks.statistics.to(condition), torch.zeros_like(noise)
        before = [known for _, _, known in pieces if known is not None]
        if before:
            context[:, :, :KNOWN] = statistics.normalised(torch.stack(before))
        with self._precision():
            solved = solve(
                self.networks.estimator,
                noise,
                context,
                KNOWN if before else 0,
                condition,
                self.config.guidance,
                self.config.steps,
            )
        return list(statistics.restored(solved))

    def _told(
        self, songs: Iterable[Audio], shifts: Sequence[Phase], tell: Callable[[Tensor], Tensor]
    ) -> list[list[Tensor]]:
        """What `tell` says of MuQ's states, ``[count, ...]`` by song and shift of the windows: of the codes from the
        shift's first one to the song's last. `tell` takes and gives windows ``[B, 1024, ...]``."""
        counts: list[list[int]] = []

        def windows() -> Iterator[Tensor]:
            for audio in songs:
                sound, total = self._usable(audio), token_count(audio.length)
                counts.append([_reached(shift, total, audio.length) for shift in shifts])
                for shift, count in zip(shifts, counts[-1], strict=True):
                    if count:
                        yield from encoding_windows(sound[:, shift.first_sample :], count, self.config.windows)

        def work(batch: Sequence[Tensor]) -> list[Tensor]:
            return list(tell(self.states(torch.stack(list(batch)))).cpu())

        told = iter(in_batches(windows(), self.encoded_at_once, work, "MuQ", filled=True))
        return [[_joined(told, count) for count in song] for song in counts]

    def states(self, windows: Tensor) -> Tensor:
        """Windows ``[B, 2, 1966560]`` of levelled audio -> MuQ's states ``[B, 1024, width]``."""
        stereo = windows.to(self.device, self.networks.muq.conv.linear.weight.dtype)
        mono = halved((stereo[:, 0] + stereo[:, 1]) / 2.0)
        whole = mono.shape[-1] // SAMPLES_PER_STATE * SAMPLES_PER_STATE
        hidden: Tensor = self.networks.muq(mono[:, :whole], last=LAYER)[-1]
        return hidden

    def _usable(self, audio: Audio) -> Tensor:
        """``[2, samples]``, levelled, in the networks' precision."""
        if audio.sample_rate != SAMPLE_RATE:
            raise ValueError(f"the codec takes {SAMPLE_RATE} Hz, got {audio.sample_rate} Hz: resample first")
        if audio.length == 0:
            raise ValueError("the codec takes audio of at least one sample, got none")
        stereo = as_stereo(audio if audio.channels <= 2 else audio.mono())
        samples = torch.from_numpy(np.ascontiguousarray(stereo.samples))
        return levelled(samples.to(self.networks.muq.conv.linear.weight.dtype))

    def _precision(self) -> AbstractContextManager[object]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device, dtype=getattr(torch, self.config.precision))


def _reached(shift: Phase, total: int, samples: int) -> int:
    """How many of a song's codes come from its windows."""
    return max(0, total - shift.first_code) if shift.first_sample < samples else 0


def _joined(windows: Iterator[Tensor], count: int) -> Tensor:
    """As many of the next windows ``[1024, ...]`` as `count` codes come from, and of them those."""
    parts = [next(windows) for _ in range(-(-count // WINDOW_TOKENS))]
    return torch.cat(parts)[:count] if parts else torch.empty(0)


def _filled_up(shifts: Sequence[Tensor]) -> list[NDArray[np.int64]]:
    """All codes of each shift of the windows: before its first one they are those of shift 0."""
    first = shifts[0].numpy()
    return [np.concatenate([first[: len(first) - len(codes)], codes.numpy().astype(np.int64)]) for codes in shifts]


def _samples(tensor: Tensor) -> Samples:
    samples: Samples = tensor.float().cpu().numpy()
    return samples


def build(config: CodecConfig) -> MuCodec:
    """The codec of pulled weights; `BackendUnavailable` says what is missing and the command that brings it."""
    files = [held(name) for name in ASSETS]

    def muq() -> Path:
        files.append(held("mucodec-muq"))
        return files[-1].tensors("muq_dev/muq.pt")

    networks = weights.load(files[0].tensors("ckpt/mucodec.pt"), files[1].tensors("tools/audioldm_48k.pth"), muq)
    return MuCodec(networks, config.mucodec, config.device, *combined(files))
