"""The two fits behind the joint space: what is heard -> words, and where texts about words lie.

Both are small, smooth problems solved to convergence by L-BFGS in double precision from a fixed start, so that the same
data give the same answer. Neither sees the other's data.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.encoders.words import CLIP, WordHead

Array = NDArray[np.float64]

STYLE_PENALTY = 1e-3  # of the squared weights; ours, by five-fold log loss on 185 songs over 3e-4 .. 3e-3
INSTRUMENT_PENALTY = 3e-2  # the same, over 1e-2 .. 3e-1
SCALE_FLOOR = 0.05  # keeps what hardly varies among the training songs from becoming loud
SHARPNESS = 15.0  # of the softmax over directions; ours, by five-fold accuracy on held-out phrases over 8 .. 30
ANCHOR = 1e-3  # how strongly a direction is held to the mean of its texts; the same, over 1e-3 and 1e-2
FOLDS = 5
STEPS = 200  # of L-BFGS at most


def fit_head(heard: Array, styles: Sequence[str], instruments: Sequence[Sequence[str]]) -> WordHead:
    """The head of words from summaries ``[N, 900]`` of N songs, their styles and their instruments.

    `ValueError` for fewer than two styles.
    """
    names = tuple(sorted(set(styles)))
    words = tuple(sorted({word for song in instruments for word in song}))
    if len(names) < 2:
        raise ValueError(f"{len(names)} styles in {len(styles)} songs, at least 2 are needed: render more songs")
    style = np.array([[song == name for name in names] for song in styles], dtype=np.float64)
    plays = np.array([[word in song for word in words] for song in instruments], dtype=np.float64)
    mean, scale = heard.mean(axis=0), heard.std(axis=0) + SCALE_FLOOR
    z = np.clip((heard - mean) / scale, -CLIP, CLIP)
    fits = regress(z, style, STYLE_PENALTY, exclusive=True), regress(z, plays, INSTRUMENT_PENALTY, exclusive=False)
    weight, bias = (np.concatenate(parts, axis=-1) for parts in zip(*fits, strict=True))
    prior = np.concatenate([style.mean(axis=0), plays.mean(axis=0)])
    return WordHead(names, words, mean, scale, weight, bias, prior, _spread(heard))


def regress(x: Array, truth: Array, penalty: float, exclusive: bool) -> tuple[Array, Array]:
    """Penalised logistic regression of ``[N, D]`` on ``[N, K]`` zeros and ones: weight ``[D, K]``, bias ``[K]``.

    `exclusive`: one softmax over the K, else one sigmoid each.
    """
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(truth)
    share = wanted.mean(0).clamp(1e-3, 1 - 1e-3)
    bias = (share.log() if exclusive else torch.logit(share)).requires_grad_()
    weight = torch.zeros(x.shape[1], truth.shape[1], dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        logits = inputs @ weight + bias
        if exclusive:
            errors = -(wanted * torch.log_softmax(logits, 1))
        else:
            errors = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return errors.sum(1).mean() + penalty * weight.square().sum()

    _minimise(loss, [weight, bias])
    return weight.detach().numpy(), bias.detach().numpy()


def fit_directions(texts: Array, words: NDArray[np.int64], count: int) -> Array:
    """Unit directions ``[K, 384]`` of `count` words from texts' vectors ``[N, 384]`` and the word of each ``[N]``.

    Every word counts the same, however many texts it has.
    """
    shares = 1 / np.bincount(words, minlength=count)[words] / count
    means = np.stack([texts[words == k].mean(axis=0) for k in range(count)])
    start = F.normalize(torch.from_numpy(means - means.mean(axis=0)), dim=1)
    vectors = start.clone().requires_grad_()
    inputs, wanted, weights = torch.from_numpy(texts), torch.from_numpy(words), torch.from_numpy(shares)

    def loss() -> Tensor:
        logits = SHARPNESS * inputs @ F.normalize(vectors, dim=1).T
        errors = F.cross_entropy(logits, wanted, reduction="none")
        return (errors * weights).sum() + ANCHOR * (vectors - start).square().sum()

    _minimise(loss, [vectors])
    return F.normalize(vectors, dim=1).detach().numpy()


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]


def _spread(heard: Array) -> float:
    """The distance that 99 % of the songs stay below when each is measured from the other folds."""
    fold, found = np.arange(len(heard)) % FOLDS, []
    for k in range(FOLDS):
        others, these = heard[fold != k], heard[fold == k]
        z = (these - others.mean(axis=0)) / (others.std(axis=0) + SCALE_FLOOR)
        found.append(np.sqrt(np.mean(np.square(np.clip(z, -10, 10)), axis=1)))
    return float(np.quantile(np.concatenate(found), 0.99))
