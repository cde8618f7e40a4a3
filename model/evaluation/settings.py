"""Every setting of an evaluation."""

from pydantic import Field

from pipeline.config import Config


class OnsetConfig(Config):
    """Onset F1: librosa's detector and mir_eval's matching rule."""

    sample_rate: int = 22_050  # Hz; librosa's own rate, which the paper cites
    hop_samples: int = 512  # 23 ms; librosa's default
    window_seconds: float = Field(default=0.05, gt=0)  # s; mir_eval's onset window
    silence_dbfs: float = -60.0  # dBFS RMS; below it there are no onsets: the detector normalises and would find noise
    chance_draws: int = Field(default=20, ge=1)  # random pairs per song; standard error under 0.01 at 200 onsets


class ChromaConfig(Config):
    """Chroma similarity on a constant-Q chromagram, bin 0 = C."""

    sample_rate: int = 22_050  # Hz
    hop_samples: int = 2048  # 93 ms; essentia's HPCP recipe hops 2048
    silence_dbfs: float = -60.0  # dBFS RMS of one hop; frames below it on either side are dropped


class NllConfig(Config):
    """Held-out NLL by the exact estimator."""

    draws: int = Field(default=8, ge=1)  # mask counts per crop, stratified; ours
    crop_tokens: int = Field(default=1024, ge=1)  # tokens at 25 Hz; 40.96 s, paper 5.2


class EvaluationSettings(Config):
    """What an evaluation measures, and every seed it draws from."""

    onset: OnsetConfig = OnsetConfig()
    chroma: ChromaConfig = ChromaConfig()
    nll: NllConfig = NllConfig()
    seed: int = 0  # of generation, floors, chance levels, masks and intervals
    bootstrap_draws: int = Field(default=2000, ge=100)  # resamples of the songs; ours
    confidence: float = Field(default=0.95, gt=0, lt=1)  # coverage of every interval
    warmup_seconds: float = Field(default=5.0, ge=0)  # s generated and thrown away before the clock starts
