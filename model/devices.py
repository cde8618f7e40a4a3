"""A run's devices: one, a copy of the model on every process (DDP), or shards of it (FSDP2), as Accelerate was told."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, ProjectConfiguration
from torch import Tensor, nn
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from model.config import StageConfig, TrainingConfig
from model.optimisation import adamw
from pipeline.errors import BadInput

TRACKER = "tracker"  # folder of TensorBoard's event files inside the run's folder
UNSUPPORTED = (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def on_cpu() -> bool:
    """Whether to tell Accelerate so: unsaid, it ignores the launcher's ranks on CPU machines."""
    return not torch.cuda.is_available()


def accelerator_for(training: TrainingConfig, out: Path) -> Accelerator:
    """The launcher's devices; `BadInput` for ways of splitting a model that are not ours, and for absent trackers."""
    if _wants_shards() and os.environ.get("FSDP_VERSION", "1") != "2":
        raise BadInput("this accelerate config asks for FSDP 1; set fsdp_version: 2", "fsdp")
    accelerator = Accelerator(
        cpu=on_cpu(),
        mixed_precision=training.precision,
        log_with=_tracker(training.log_with),
        project_config=ProjectConfiguration(project_dir=str(out), logging_dir=str(out / TRACKER)),
    )
    plugin = accelerator.state.fsdp_plugin if hasattr(accelerator.state, "fsdp_plugin") else None
    if plugin is None and accelerator.distributed_type == DistributedType.MULTI_CPU:
        plugin = _shard_on_cpu(training)
    if accelerator.distributed_type in UNSUPPORTED:
        raise BadInput(
            f"{accelerator.distributed_type} is not supported; use DDP, or FSDP with fsdp_version: 2", "fsdp"
        )
    if plugin is not None and training.precision == "fp16":
        raise BadInput("training.precision fp16 scales its loss, which shards don't; set it to bf16 or no", "fsdp")
    return accelerator


def _tracker(name: str) -> str | None:
    """`BadInput` for a tracker that is not installed: Accelerate would go on without it."""
    there = [one.value for one in get_available_trackers()]
    if name and name not in ("all", *there):
        raise BadInput(
            f"training.log_with {name!r} is not among the trackers here ({', '.join(there)}): install its package, set "
            "one of these, or '' for none",
            "log_with",
        )
    return name or None


def _wants_shards() -> bool:
    """What the launcher makes of ``distributed_type: FSDP``."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def _shard_on_cpu(training: TrainingConfig) -> FullyShardedDataParallelPlugin | None:
    """What Accelerate 1.15 does for FSDP on GPUs alone (`AcceleratorState.__init__`), done for gloo processes too.

    torch shards over gloo as well, so the path that GPUs take is tested where there are none.
    """
    if not _wants_shards():
        return None
    plugin = FullyShardedDataParallelPlugin()
    if training.precision != "no":
        plugin.set_mixed_precision(training.precision)
    for state in (AcceleratorState, PartialState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    return plugin


def spread(accelerator: Accelerator, objective: nn.Module, network: nn.Module, stage: StageConfig) -> nn.Module:
    """The module to train, on its devices; under FSDP2 each layer is a unit, and so is the rest of the network.

    `network` is called by itself too (validation), hence a unit and not merely a part of the root.
    """
    if not accelerator.is_fsdp2:
        module: nn.Module = accelerator.prepare(objective)
        return module
    plugin = accelerator.state.fsdp_plugin
    plugin.auto_wrap_policy = transformer_auto_wrap_policy
    plugin.transformer_cls_names_to_wrap = _units(network)
    if any(True for _ in network.buffers()):  # loading so, Accelerate 1.15 takes every tensor of the state for a shard
        plugin.cpu_ram_efficient_loading = False
    sharded, _ = accelerator.prepare(objective, adamw(objective, stage))  # it demands an optimiser; ours come by stage
    return sharded  # type: ignore[no-any-return]


def _units(network: nn.Module) -> list[str]:
    """Class names: of the network and of the modules that repeat in it."""
    repeated = {type(one).__name__ for part in network.modules() if isinstance(part, nn.ModuleList) for one in part}
    return [type(network).__name__, *sorted(repeated)]


def optimizer_for(accelerator: Accelerator, objective: nn.Module, stage: StageConfig) -> Any:
    """AdamW over the weights as they lie; with Accelerate's loss scaling where there may be one."""
    optimizer = adamw(objective, stage)
    return optimizer if accelerator.is_fsdp2 else accelerator.prepare(optimizer)


def random_state() -> dict[str, Tensor]:
    """Of this process: "cpu" and, on a GPU, "cuda"."""
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state()} | cuda


def set_random_state(state: Mapping[str, Tensor]) -> None:
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
