"""MuCodec's published files -> its networks.

Conventions: ``mucodec.pt`` holds the quantiser, the decoder's network, running statistics of latents, and MuQ (by its
size and the released code's names; where it does not, MuCodec's own ``muq.pt`` is asked for). ``audioldm_48k.pth``
holds autoencoder and vocoder below ``first_stage_model.`` among much that is not used. Sizes are read off the tensors.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from pipeline.codec.mucodec.estimator import HEAD, PATCH, Estimator, EstimatorShape
from pipeline.codec.mucodec.hifigan import Vocoder, VocoderShape
from pipeline.codec.mucodec.quantiser import Quantiser
from pipeline.codec.mucodec.vae import GROUPS, Autoencoder, VaeShape
from pipeline.encoders.muq.network import MuQ
from pipeline.encoders.muq.weights import assemble as assemble_muq
from pipeline.encoders.muq.weights import load as load_muq
from pipeline.errors import BackendUnavailable
from pipeline.published import below, load_strictly, read_below, renamed, weight_norm_names

Network = TypeVar("Network", bound=nn.Module)

MUQ = "muencoder.model."
QUANTISER = "rvq_muencoder_emb.quantizers.0."
CONDITION = "cond_muencoder_emb."
ESTIMATOR = "cfm_wrapper.estimator."
STATISTICS = "normfeat."
FIRST_STAGE = "first_stage_model."
VOCODER = "vocoder."
SCALE = "scale_factor"
TRAINING = "stale_counter"  # of the quantiser
# What else mucodec.pt holds: an embedding for codes that are missing, and kernels of resamplers, which we compute.
UNUSED = ("zero_cond_embedding1", "rsp48toclap.kernel", "rsq48towav2vec.kernel", "rsq48tomuencoder.kernel")


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of latents, each ``[32, 32]``: channels, bands."""

    mean: Tensor
    deviation: Tensor

    def to(self, like: Tensor) -> "Statistics":
        return Statistics(self.mean.to(like), self.deviation.to(like))

    def normalised(self, latents: Tensor) -> Tensor:
        """``[B, 32, H, 32]`` -> mean 0, deviation 1."""
        return (latents - self.mean[:, None]) * (1 / self.deviation.clamp(min=1e-12))[:, None]

    def restored(self, latents: Tensor) -> Tensor:
        return latents * self.deviation[:, None] + self.mean[:, None]


@dataclass(frozen=True, slots=True)
class Networks:
    muq: MuQ
    quantiser: Quantiser
    condition: nn.Linear  # MuQ's width -> 16 x 32 values of the picture
    estimator: Estimator
    statistics: Statistics
    vae: Autoencoder
    vocoder: Vocoder

    def modules(self) -> tuple[nn.Module, ...]:
        return (self.muq, self.quantiser, self.condition, self.estimator, self.vae, self.vocoder)


def load(mucodec: Path, vae: Path, muq: Callable[[], Path]) -> Networks:
    """The networks of safetensors files, float32, in evaluation mode; `BackendUnavailable` where one does not fit.

    `muq` is asked for MuCodec's own ``muq.pt`` (converted) only where ``mucodec.pt`` holds no MuQ.
    """
    state = read_below(mucodec, MUQ, QUANTISER, CONDITION, ESTIMATOR, STATISTICS)
    first_stage = read_below(vae, FIRST_STAGE, SCALE)
    heard = below(state, MUQ)
    where = mucodec if heard else muq()
    stage = below(first_stage, FIRST_STAGE)
    return Networks(
        muq=assemble_muq(heard, where) if heard else load_muq(where),
        quantiser=quantiser(below(state, QUANTISER), mucodec),
        condition=_condition(below(state, CONDITION), mucodec),
        estimator=estimator(below(state, ESTIMATOR), mucodec),
        statistics=statistics(below(state, STATISTICS), mucodec),
        vae=autoencoder(without(stage, VOCODER), _scale(first_stage, vae), vae),
        vocoder=vocoder(below(stage, VOCODER), vae),
    )


def quantiser(state: Mapping[str, Tensor], where: object) -> Quantiser:
    used = renamed({name: t for name, t in state.items() if name != TRAINING}, weight_norm_names)
    with _told(where):
        codes, inner = used["codebook.weight"].shape
        width = used["out_proj.bias"].shape[0]
    return _filled(lambda: Quantiser(width, codes, inner), used, where)


def estimator(state: Mapping[str, Tensor], where: object) -> Estimator:
    with _told(where):
        outs, width = state["proj_out.weight"].shape
        ins = state["pos_embed.proj.weight"].shape[1]
    if width % HEAD or width == 0:
        raise BackendUnavailable(f"{where} does not fit MuCodec: its decoder's width {width} is no multiple of {HEAD}")
    layers = len({name.split(".")[1] for name in state if name.startswith("transformer_blocks.")})
    return _filled(lambda: Estimator(EstimatorShape(width // HEAD, HEAD, layers, ins, outs // PATCH**2)), state, where)


def statistics(state: Mapping[str, Tensor], where: object) -> Statistics:
    """Mean and deviation from running sums, in float64: a difference of squares is among them."""
    with _told(where):
        count, total, squares = (state[name].double() for name in ("counts", "sum_x", "sum_x2"))
    if not bool((count >= 1).all()) or total.shape != squares.shape:
        raise BackendUnavailable(f"{where} does not fit MuCodec: its statistics of latents are of no sample")
    mean = total / count
    return Statistics(mean, (squares / count - mean**2).clamp(min=0).sqrt())


def autoencoder(state: Mapping[str, Tensor], scale: float, where: object) -> Autoencoder:
    with _told(where):
        channels = state["decoder.conv_out.weight"].shape[1]
        levels = len({name.split(".")[2] for name in state if name.startswith("decoder.up.")})
        multiples = tuple(state[f"decoder.up.{n}.block.0.conv1.bias"].shape[0] // channels for n in range(levels))
        latents = state["post_quant_conv.bias"].shape[0]
    blocks = len({name.split(".")[4] for name in state if name.startswith("encoder.down.0.block.")})
    shape = VaeShape(channels, multiples, blocks, latents, math.gcd(GROUPS, channels))
    return _filled(lambda: Autoencoder(shape, scale), state, where)


def vocoder(state: Mapping[str, Tensor], where: object) -> Vocoder:
    """Transposed convolutions have twice as many taps as they make samples of one."""
    with _told(where):
        channels, bands = state["conv_pre.weight"].shape[:2]
        levels = len({name.split(".")[1] for name in state if name.startswith("ups.")})
        widths = tuple(state[f"ups.{n}.weight"].shape[2] for n in range(levels))
        blocks = len({name.split(".")[1] for name in state if name.startswith("resblocks.")}) // max(1, levels)
        kernels = tuple(state[f"resblocks.{n}.convs1.0.weight"].shape[2] for n in range(blocks))
    shape = VocoderShape(bands, channels, tuple(width // 2 for width in widths), widths, kernels)
    return _filled(lambda: Vocoder(shape), state, where)


def without(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What does not lie under a prefix."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


def _condition(state: Mapping[str, Tensor], where: object) -> nn.Linear:
    with _told(where):
        outs, width = state["weight"].shape
    return _filled(lambda: nn.Linear(width, outs), state, where)


def _scale(state: Mapping[str, Tensor], where: object) -> float:
    with _told(where):
        return float(state[SCALE])


def _filled(build: Callable[[], Network], state: Mapping[str, Tensor], where: object) -> Network:
    """A network of exactly these tensors."""
    with torch.device("meta"):
        network = build()
    network.to_empty(device="cpu")
    load_strictly(network, state, where)
    network.eval().requires_grad_(False)
    return network


@contextmanager
def _told(where: object) -> Iterator[None]:
    """Sizes are read off tensors inside: where one is not there, it is not the published file."""
    try:
        yield
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise BackendUnavailable(f"{where} has not the layout of the published MuCodec file: {error}") from error
