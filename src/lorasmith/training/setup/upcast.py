"""Single modules of a half-precision model that compute in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lorasmith.models.diffusion_model import DiffusionModel


def find_module(model: DiffusionModel, name: str) -> nn.Module:
    """The module that an intervention names: "unet.mid_block.attentions.0"."""
    part, _, path = name.partition(".")
    roots = {"unet": model.denoiser, **model.text_encoders}
    return roots[part].get_submodule(path)


def compute_in_fp32(module: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """Convert the weights of ``module`` and compute in float32; its output is ``dtype`` again.

    That helps where a number inside overflows float16 and what comes out does not, as in the
    scores of an attention or the product of a gated layer.

    Returns:
        a call that undoes it; half-precision weights go to float32 and back unchanged.
    """

    def widen(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _cast(args, dtype, torch.float32), _cast(kwargs, dtype, torch.float32)

    def narrow(module: nn.Module, args: Any, output: Any) -> Any:
        return _cast(output, torch.float32, dtype)

    low_precision = [p for p in module.parameters() if p.dtype == dtype]
    for parameter in low_precision:
        parameter.data = parameter.data.float()
    handles = [
        module.register_forward_pre_hook(widen, with_kwargs=True),
        module.register_forward_hook(narrow),
    ]

    def undo() -> None:
        for handle in handles:
            handle.remove()
        for parameter in low_precision:
            parameter.data = parameter.data.to(dtype)

    return undo


def _cast(value: Any, old: torch.dtype, new: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(new) if value.dtype == old else value
    if isinstance(value, dict):
        return {key: _cast(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cast(inner, old, new) for inner in value)
    return value
