"""A MuCodec of tiny networks in the published files' layout: every size of ours is read off the tensors.

What must stay: 16,384 codes, 16 x 32 condition outputs, heads of 72, seven layers of MuQ.
"""

import math
from argparse import Namespace
from pathlib import Path

import torch
from torch import nn

from pipeline.codec.mucodec import weights
from pipeline.codec.mucodec.estimator import Estimator, EstimatorShape
from pipeline.codec.mucodec.hifigan import Vocoder, VocoderShape
from pipeline.codec.mucodec.quantiser import Quantiser
from pipeline.codec.mucodec.vae import Autoencoder, VaeShape
from pipeline.encoders.muq.network import MuQ, MuQShape

WIDTH = 64  # of MuQ; one head
INNER = 4  # of the quantiser


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            spread = 1 / math.sqrt(tensor[0].numel()) if tensor.dim() > 1 else 0.3
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
        elif name.endswith("weight") and tensor.dim() == 1:  # of a norm
            tensor.add_(1.0)
    return network.eval().requires_grad_(False)


def write(folder: Path) -> Path:
    """Put ``ckpt/mucodec.pt`` and ``tools/audioldm_48k.pth`` into a folder; the folder, for `assets.pull.install`."""
    parts = {
        weights.MUQ: MuQ(MuQShape(width=WIDTH, layers=7, heads=1, inner=16, kernel=3, channels=2)),
        weights.QUANTISER: Quantiser(WIDTH, 16_384, INNER),
        weights.CONDITION: nn.Linear(WIDTH, 512),
        weights.ESTIMATOR: Estimator(EstimatorShape(heads=1, layers=1)),
    }
    state = {
        prefix
        + name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for prefix, network in parts.items()
        for name, tensor in randomised(network).state_dict().items()
    }
    state["normfeat.counts"] = torch.full((1,), 1e5)
    state["normfeat.sum_x"], state["normfeat.sum_x2"] = torch.full((32, 32), 2e5), torch.full((32, 32), 5e5)
    state |= {name: torch.zeros(2) for name in weights.UNUSED} | {f"{weights.QUANTISER}stale_counter": torch.zeros(2)}
    vae = Autoencoder(VaeShape(channels=4, multiples=(1, 1, 1, 1), blocks=1, groups=4))
    vocoder = Vocoder(VocoderShape(channels=32, kernels=(3,)))
    stage = {f"first_stage_model.{name}": tensor for name, tensor in randomised(vae).state_dict().items()}
    stage |= {f"first_stage_model.vocoder.{name}": tensor for name, tensor in randomised(vocoder).state_dict().items()}
    for name in ("ckpt", "tools"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "ckpt" / "mucodec.pt")
    outer = {"state_dict": stage | {"scale_factor": torch.tensor(0.4), "model.diffusion": torch.zeros(3)}}
    torch.save(outer | {"hyper_parameters": Namespace(lr=1e-4)}, folder / "tools" / "audioldm_48k.pth")
    return folder
