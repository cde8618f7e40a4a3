"""The ablation without tokens: flow matching on the codec's continuous latents, with the same backbone and prefix.

Conventions: latents are worked on in units of the codebook's spread, mean zero. Time runs from 0, the song, to 1,
noise: x_t = (1 - t) x + t e, and the network learns the velocity e - x (rectified flow). Noise and time of a row come
from its own seed, times logit-normal (Esser et al. 2024).

Shape suffixes: `B` rows, `T` frames, `L` numbers of a latent, `D` width, `G` guidance variants of one song.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model import diffusion
from model.config import ModelConfig, ObjectiveConfig, SamplerConfig
from model.data import Batch
from model.layout import Tracks
from model.llama import LlamaStack
from model.network import Conditioned
from model.objective import Sums
from model.sampling import Progress, guide
from model.schedule import generator
from pipeline.errors import BadInput

TIME_WIDTH = 256  # sines and cosines of the time; DiT
TIME_SCALE = 1000.0  # time 0..1 is told as 0..1000; DiT
Velocity = Callable[[Tensor, float], Tensor]  # x_TL, t -> velocity_TL


class FlowPredictor(Conditioned):
    """Vocal latents, noisy accompaniment latents, the time and prefix vectors in; velocities out."""

    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.lm = LlamaStack(config)
        track = config.width // 2 if config.layout == "dual" else config.width
        self.voc_in = nn.Linear(config.latent_width, track)
        self.acc_in = nn.Linear(config.latent_width, track)
        self.clamp_proj = nn.Linear(config.prefix_width, config.width)
        self.time_in = nn.Sequential(
            nn.Linear(TIME_WIDTH, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
        )
        self.to_velocity = nn.Linear(config.width, config.latent_width)
        learned = config.null == "learned"
        self.null_prefix = nn.Parameter(torch.zeros(config.prefix_slots, config.prefix_width)) if learned else None
        self.register_buffer("latent_mean", torch.zeros(config.latent_width))
        self.register_buffer("latent_scale", torch.ones(config.latent_width))
        self.reset_parameters()

    def fit_scale(self, centroids_NL: Tensor) -> None:
        """Take the units of latents from the codebook. `BadInput` (`latent_width`) where its width is another."""
        if centroids_NL.shape[1] != self.config.latent_width:
            raise BadInput(
                f"the codec's latents are {centroids_NL.shape[1]} wide; set model.latent_width to that, got "
                f"{self.config.latent_width}",
                "latent_width",
            )
        self.latent_mean.copy_(centroids_NL.mean(dim=0))
        self.latent_scale.copy_(centroids_NL.std(dim=0).clamp(min=1e-6))

    def scaled(self, latents: Tensor) -> Tensor:
        return (latents.to(self.latent_mean) - self.latent_mean) / self.latent_scale

    def restored(self, latents: Tensor) -> Tensor:
        return latents * self.latent_scale + self.latent_mean

    def forward(
        self,
        vocal_BTL: Tensor,
        noisy_BTL: Tensor,
        time_B: Tensor,
        prefix_BPW: Tensor,
        valid_BT: Tensor | None = None,
        dropped_BP: Tensor | None = None,
    ) -> Tensor:
        """Velocities `[B, T, L]`, float32 at least, in scaled units as the latents given; time is one more slot."""
        time_B1D = self.time_in(waves(time_B).to(self.clamp_proj.weight.dtype))[:, None]
        before_BPD = torch.cat((time_B1D, self.prefix_rows(prefix_BPW, dropped_BP)), dim=1)
        dtype = self.voc_in.weight.dtype
        tracks = Tracks(before_BPD, self.voc_in(vocal_BTL.to(dtype)), self.acc_in(noisy_BTL.to(dtype)))
        velocity_BTL: Tensor = self.to_velocity(self.run(tracks, valid_BT))
        return velocity_BTL if velocity_BTL.dtype == torch.float64 else velocity_BTL.float()


def waves(time_B: Tensor) -> Tensor:
    """Sines and cosines `[B, 256]` of the time at geometric frequencies."""
    half = TIME_WIDTH // 2
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(half, device=time_B.device) / half)
    angle = TIME_SCALE * time_B.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class FlowObjective(nn.Module):
    """The trained module: squared error of the velocity, in the sums and weights of the other objectives."""

    def __init__(self, model: ModelConfig, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        self.network = FlowPredictor(model)

    def forward(self, batch: Batch) -> Sums:
        if batch.vocal_latent_BTL is None or batch.accompaniment_latent_BTL is None:
            raise ValueError("model.kind flow needs batches with latents")
        song_BTL = self.network.scaled(batch.accompaniment_latent_BTL)
        time_B, noise_BTL = draws(batch.row_seeds, song_BTL)
        noisy_BTL = torch.lerp(song_BTL, noise_BTL, time_B[:, None, None])
        velocity_BTL = self.network(
            self.network.scaled(batch.vocal_latent_BTL), noisy_BTL, time_B, batch.prefix_BPW,
            batch.valid_BT if batch.padded else None, batch.dropped_BP,
        )  # fmt: skip
        error_BT = (velocity_BTL - (noise_BTL - song_BTL)).square().mean(dim=-1)
        weights = diffusion.loss_weights(self.config, batch.mask_BT, batch.valid_BT, batch.ratio_B)
        loss = ((error_BT * batch.mask_BT).sum(dim=1) * weights.scale_B.to(error_BT)).sum()
        nothing = loss.detach().new_zeros(())
        return Sums(loss, nothing, nothing, batch.mask_BT.sum())


def draws(row_seeds: tuple[str, ...], like_BTL: Tensor) -> tuple[Tensor, Tensor]:
    """Time `[B]`, 0..1, and noise of each row, from its own seed."""
    times = [torch.randn((), generator=generator(seed, "time")).sigmoid() for seed in row_seeds]
    noise = [torch.randn(like_BTL.shape[1:], generator=generator(seed, "noise")) for seed in row_seeds]
    return torch.stack(times).to(like_BTL), torch.stack(noise).to(like_BTL)


def integrate(velocity: Velocity, noise_TL: Tensor, config: SamplerConfig, progress: Progress | None = None) -> Tensor:
    """From noise to a song in equal steps of time: Euler's, or Heun's with a second look at the end of each."""
    x_TL, size = noise_TL, 1.0 / config.steps
    for step in range(config.steps):
        time = 1.0 - step * size
        slope_TL = velocity(x_TL, time)
        if config.solver == "heun":
            slope_TL = (slope_TL + velocity(x_TL - size * slope_TL, time - size)) / 2
        x_TL = x_TL - size * slope_TL
        if progress is not None:
            progress(step + 1, config.steps)
    return x_TL


def play(
    network: FlowPredictor,
    vocal_TL: Tensor,
    prefix_GPW: Tensor,
    dropped_GP: Tensor,
    config: SamplerConfig,
    seed: int,
    progress: Progress | None = None,
) -> Tensor:
    """Accompaniment latents `[T, L]` for the vocal's; same seed, same answer."""
    G = len(dropped_GP)
    vocal_GTL = network.scaled(vocal_TL).expand(G, -1, -1)
    noise_TL = torch.randn(vocal_TL.shape, generator=generator(seed, "noise")).to(vocal_GTL)

    def velocity(x_TL: Tensor, time: float) -> Tensor:
        time_G = torch.full((G,), time, device=x_TL.device)
        found_GTL = network(vocal_GTL, x_TL.expand(G, -1, -1), time_G, prefix_GPW, None, dropped_GP)
        return guide(found_GTL[0], found_GTL[1] if G == 3 else None, found_GTL[-1], config)

    return network.restored(integrate(velocity, noise_TL, config, progress))
