"""The output head: logits of masked frames, or their loss without ever holding the logits of all of them.

Conventions: a loss is the sum of each row's cross-entropy times its weight, in nats. Its gradient is linear in what
comes back to it, so it is computed with the loss, chunk by chunk, while the logits are at hand; that a chunk's logits
are turned in place into their own gradient is what saves memory (and, on a CPU, time).

Shape suffixes: `M` masked frames, `D` width, `V` codes.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 512  # rows; 32 MB of float32 logits. On two CPU cores 128 rows were slower, 1024 no faster


class Target(NamedTuple):
    """What the masked frames should have been, and what each counts."""

    codes_M: Tensor  # int64
    weight_M: Tensor  # float32
    label_smoothing: float = 0.0


class Scored(NamedTuple):
    loss: Tensor  # scalar, float32 at least; carries gradient
    likeliest_M: Tensor  # int64


class CodeHead(nn.Linear):
    """A linear layer without bias; asked with a target, it gives the loss in place of the logits."""

    def __init__(self, width: int, codes: int) -> None:
        super().__init__(width, codes, bias=False)

    def forward(self, input: Tensor, target: Target | None = None) -> Any:
        """Logits `[M, V]`, or `Scored` of the target."""
        if target is None:
            return super().forward(input)
        hidden_MD, weight_VD = _cast(input), _cast(self.weight)
        with torch.autocast(input.device.type, enabled=False):
            loss, likeliest_M = _Loss.apply(hidden_MD, weight_VD, *target)  # type: ignore[no-untyped-call]
        return Scored(loss, likeliest_M)


def _cast(tensor: Tensor) -> Tensor:
    """In the precision that autocast would multiply in."""
    device = tensor.device.type
    lowered = torch.is_autocast_enabled(device) and tensor.dtype == torch.float32
    return tensor.to(torch.get_autocast_dtype(device)) if lowered else tensor


class _Loss(torch.autograd.Function):
    """Weighted cross-entropy of `hidden @ weight.T`, and the likeliest codes."""

    @staticmethod
    def forward(
        ctx: Any, hidden_MD: Tensor, weight_VD: Tensor, codes_M: Tensor, scale_M: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        high = torch.promote_types(hidden_MD.dtype, torch.float32)
        loss, likeliest_M = hidden_MD.new_zeros((), dtype=high), torch.empty_like(codes_M)
        learns = any(ctx.needs_input_grad[:2])
        down_MD = torch.empty_like(hidden_MD) if learns else None
        down_VD = torch.zeros_like(weight_VD, dtype=high) if learns else None
        room_MV = torch.empty(min(CHUNK, len(codes_M)), len(weight_VD), dtype=high, device=hidden_MD.device)
        for start in range(0, len(hidden_MD), CHUNK):
            part = slice(start, start + CHUNK)
            logits_MV = _product(hidden_MD[part], weight_VD.T, room_MV[: len(codes_M[part])])
            peak_M, likeliest_M[part] = logits_MV.max(dim=-1)
            logits_MV -= peak_M[:, None]
            loss += _loss_to_gradient(logits_MV, codes_M[part], scale_M[part].to(high), smoothing)
            if down_MD is not None and down_VD is not None:
                slope_MV = logits_MV.to(hidden_MD.dtype)
                torch.mm(slope_MV, weight_VD, out=down_MD[part])
                _add_product(down_VD, slope_MV.T, hidden_MD[part])
        if down_VD is not None:
            ctx.save_for_backward(down_MD, down_VD.to(weight_VD.dtype))
        ctx.mark_non_differentiable(likeliest_M)
        return loss, likeliest_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        down_MD, down_VD = ctx.saved_tensors
        return down_MD * slope.to(down_MD.dtype), down_VD * slope.to(down_VD.dtype), None, None, None


def _loss_to_gradient(logits_MV: Tensor, codes_M: Tensor, scale_M: Tensor, smoothing: float) -> Tensor:
    """The rows' weighted loss; `logits_MV`, whose largest is 0, becomes its gradient in place."""
    codes_M1, width = codes_M[:, None], logits_MV.shape[1]
    aimed_M = (1 - smoothing) * logits_MV.gather(1, codes_M1).squeeze(1)
    if smoothing:
        aimed_M = aimed_M + smoothing * logits_MV.mean(dim=-1)
    mass_M = logits_MV.exp_().sum(dim=-1)
    loss = ((mass_M.log() - aimed_M) * scale_M).sum()
    logits_MV *= (scale_M / mass_M)[:, None]
    if smoothing:
        logits_MV -= (smoothing / width * scale_M)[:, None]
    logits_MV.scatter_add_(1, codes_M1, ((smoothing - 1) * scale_M)[:, None])
    return loss


def _product(left: Tensor, right: Tensor, room: Tensor) -> Tensor:
    """`left @ right`, written into `room`."""
    return torch.mm(left, right, out=room) if room.dtype == left.dtype else room.copy_(left @ right)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left @ right`, in the precision of `total`."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
