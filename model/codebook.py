"""Embeddings and an output head that begin as the codec's codebook: codes that sound alike begin alike.

Conventions: `N` codes, `L` numbers of a codec's latent, `D` width of a track's embedding.
"""

import torch
from torch import Tensor

from model.config import CODES
from model.network import MaskPredictor
from model.schedule import generator


def project(centroids_NL: Tensor, width: int, std: float, seed: int) -> Tensor:
    """Centroids in another width, `[N, D]`, mean zero, standard deviation `std` over all numbers.

    Centred, turned to their principal axes, cut to the leading `width` of these, and turned at random so that every
    column is used. For D >= L that is a similarity: distances keep their ratios, nearest codes stay nearest. For D < L
    what is lost is the variance of the axes that were cut.
    """
    centred_NL = (centroids_NL - centroids_NL.mean(dim=0)).double()
    axes_LL = torch.linalg.eigh(centred_NL.T @ centred_NL).eigenvectors.flip(1)
    kept_NK = centred_NL @ axes_LL[:, :width]
    noise_DK = torch.randn(width, kept_NK.shape[1], generator=generator(seed, "codebook"), dtype=torch.float64)
    turned_DK, _ = torch.linalg.qr(noise_DK)
    projected_ND: Tensor = kept_NK @ turned_DK.T
    return (projected_ND * (std / projected_ND.square().mean().sqrt())).float()


@torch.no_grad()
def embed_codebook(network: MaskPredictor, centroids_NL: Tensor, seed: int) -> None:
    """Both tracks' embeddings of codes begin as the same projection, scaled as random ones would be; mask and pads
    stay as drawn. `ValueError` unless there is a centroid for every code."""
    projected_ND = _projected(network, centroids_NL, network.voc_embed.embedding_dim, seed)
    for embedding in (network.voc_embed, network.acc_embed):
        embedding.weight[:CODES] = projected_ND.to(embedding.weight)


@torch.no_grad()
def head_codebook(network: MaskPredictor, centroids_NL: Tensor, seed: int) -> None:
    """The head's rows begin as a projection of the centroids: what raises one code raises those that sound like it, so
    that codes which training hardly shows are learned with the rest. Errors as `embed_codebook`."""
    weight_VD = network.to_logits.weight
    weight_VD.copy_(_projected(network, centroids_NL, weight_VD.shape[1], seed + 1))


def _projected(network: MaskPredictor, centroids_NL: Tensor, width: int, seed: int) -> Tensor:
    if len(centroids_NL) != CODES:
        raise ValueError(f"the codebook has {len(centroids_NL)} centroids, there are {CODES} codes")
    return project(centroids_NL, width, network.config.init_std, seed)
