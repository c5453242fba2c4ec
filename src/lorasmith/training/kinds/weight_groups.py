"""A base model's own weights as what an optimizer works on, tensor by tensor.

There are hundreds of millions of numbers: none of them is copied without need. Where the model
computes in half precision, weights are either kept in float32 beside it and rounded into it after
each step, or they are those bfloat16 numbers themselves, which take changes by chance
(:mod:`lorasmith.tensors.rounding`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lorasmith.tensors.rounding import StochasticRounding
from lorasmith.training.optim import one_optimizer

CPU = torch.device("cpu")

FLOATS_TO_STEP = 4
"""Of float32, what there is for each number of a bfloat16 tensor while it is stepped: the number,
its gradient, and two that the optimizer's arithmetic or the rounding make."""


class WeightGroup:
    """Weights of a model with one learning rate.

    Args:
        weights: the model's parameters, which it computes with.
        masters: the same numbers in float32, where those of the model are rounded from them; the
            gradients are summed in these. None where the model's are the numbers themselves.
        lr: what the optimizer gets, before the schedule's factor.
        ratio: as :class:`~lorasmith.training.optim.FlatGroup` has it.
        fused: gradients are let go of within the backward pass, by the optimizer; on the meta
            device, where there is none, by the group itself.
    """

    spare = CPU

    def __init__(
        self,
        name: str,
        weights: Sequence[nn.Parameter],
        masters: Sequence[nn.Parameter] | None,
        lr: float,
        ratio: float = 1.0,
        *,
        fused: bool = False,
    ) -> None:
        assert weights, f"group {name} has no weights"
        self.name, self.lr, self.ratio = name, lr, ratio
        self.weights = list(weights)
        self.members = self.weights if masters is None else list(masters)
        self.has_masters, self.fused = masters is not None, fused
        self._stepped: list[Tensor] = []
        for weight in self.weights:
            weight.requires_grad_(True)  # Else it takes no hooks.
        if self.has_masters:
            for weight, master in zip(self.weights, self.members, strict=True):
                weight.register_post_accumulate_grad_hook(_into(master))
        if fused and self.members[0].is_meta:
            for weight, member in zip(self.weights, self.members, strict=True):
                weight.register_post_accumulate_grad_hook(_letting_go(member))

    @property
    def tensors(self) -> list[Tensor]:
        return [member.detach() for member in self.members]

    @property
    def grads(self) -> list[Tensor]:
        return [member.grad for member in self.members if member.grad is not None]

    @property
    def size(self) -> int:
        return sum(member.numel() for member in self.members)

    @property
    def rounds(self) -> bool:
        """Whether the numbers are bfloat16, which are stepped in float32."""
        return self.members[0].dtype != torch.float32

    @property
    def held(self) -> list[Tensor]:
        return list(self.members) if self.has_masters else []

    @property
    def passing_bytes(self) -> int:
        return 0 if self.fused else sum(member.nbytes for member in self.members)

    @property
    def stepping_bytes(self) -> int:
        largest = max(member.numel() for member in self.members)
        return 4 * FLOATS_TO_STEP * largest if self.rounds else 0

    def for_optimizer(self, *, elementwise: bool) -> list[nn.Parameter]:
        return self.members

    def zero_grad(self) -> None:
        for member in self.members:
            member.grad = None

    def complete_grads(self) -> None:
        assert not self.fused, "stepped by its own gradient, before those of other processes came"
        for member in self.members:
            if member.grad is None:
                member.grad = torch.zeros_like(member)

    def gradient_norm(self) -> Tensor:
        norms, self._stepped = self._stepped, []
        norms += torch._foreach_norm(self.grads, dtype=torch.float32) if self.grads else []
        if not norms:
            return torch.zeros((), device=self.members[0].device)
        return torch.linalg.vector_norm(torch.stack(norms))

    def scale_gradients(self, factor: Tensor) -> None:
        if self.grads:
            torch._foreach_mul_(self.grads, factor)

    def note_stepped(self, norm: Tensor) -> None:
        """Keep the norm of a gradient that is let go of before :meth:`gradient_norm` is asked."""
        self._stepped.append(norm)

    @torch.no_grad()
    def take(self, values: Iterable[Tensor]) -> None:
        for member, value in zip(self.members, values, strict=True):
            member.copy_(value)
        self.sync()

    @torch.no_grad()
    def sync(self) -> None:
        """Let the model compute with the numbers as they are now."""
        if self.has_masters:
            torch._foreach_copy_([*self.weights], [*self.members])

    def cast(self) -> None:
        """Nothing: the model has its own numbers already."""

    def collect(self) -> None:
        """Nothing: gradients have gone where they belong."""

    def release(self) -> None:
        """Nothing."""


def _into(master: nn.Parameter) -> Callable[[Tensor], None]:
    """A hook that adds a weight's gradient to ``master``'s, and lets go of it at once."""

    def fold(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad.add_(weight.grad)
        weight.grad = None

    return fold


def _letting_go(member: nn.Parameter) -> Callable[[Tensor], None]:
    """A hook that takes what a fused step takes, and lets go of the gradient."""

    def let_go(_: Tensor) -> None:
        assert member.grad is not None
        if member.dtype != torch.float32:
            stepped = [member.float() for _ in range(FLOATS_TO_STEP)]
            del stepped
        member.grad = None

    return let_go


class ParameterwiseOptimizer(torch.optim.Optimizer):
    """An optimizer for each tensor by itself, so that each can be stepped alone.

    That lets bfloat16 weights be float32 while they are stepped, one after the other, and lets a
    step be made within the backward pass, as soon as a tensor's gradient is there (``fused``;
    Lv et al. 2023, "Full Parameter Fine-tuning for Large Language Models with Limited Resources").
    It is for optimizers that look at one tensor at a time: not for those that find one step size
    for all, nor for those that keep the weights that they are worth elsewhere.

    Args:
        name, args: as :func:`~lorasmith.training.optim.build_optimizer`.
        rounding: of bfloat16 weights.
        fused: step within the backward pass, of which there must be one a step. The gradients'
            joint norm is known only when all are gone.
        max_grad_norm: of each tensor's gradient, for ``fused``; 0 is off.
    """

    def __init__(
        self,
        name: str,
        groups: Sequence[WeightGroup],
        args: Mapping[str, Any],
        rounding: StochasticRounding,
        *,
        fused: bool = False,
        max_grad_norm: float = 0.0,
    ) -> None:
        param_groups: list[dict[str, Any]] = [
            {"params": g.members, "lr": g.lr, "name": g.name, "ratio": g.ratio} for g in groups
        ]
        super().__init__(param_groups, {})
        self._rounding, self._max_grad_norm = rounding, max_grad_norm
        self._stepped: set[int] = set()  # Tensors that this step's backward pass has stepped.
        self._singles = [
            _Single(number, group, index, settings)
            for number, (group, index, settings) in enumerate(_numbered(groups, self.param_groups))
        ]
        for single in self._singles:
            single.build(name, args)
        self.handles: list[RemovableHandle] = []
        if fused:
            self.handles = [
                single.weight.register_post_accumulate_grad_hook(self._fused_step(single))
                for single in self._singles
            ]

    def _fused_step(self, single: _Single) -> Callable[[Tensor], None]:
        def step(_: Tensor) -> None:
            grad = single.member.grad
            assert grad is not None
            assert single.number not in self._stepped, "a second backward pass in a step"
            self._stepped.add(single.number)
            norm = torch.linalg.vector_norm(grad, dtype=torch.float32)
            single.group.note_stepped(norm)
            if self._max_grad_norm > 0:
                grad.mul_((self._max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
            single.step(self._rounding)

        return step

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Step every tensor that has a gradient: none where the backward pass has done it."""
        self._stepped.clear()
        for single in self._singles:
            if single.member.grad is not None:
                single.step(self._rounding)

    def state_dict(self) -> dict[str, Any]:
        """The state of each tensor's optimizer by its number."""
        return {"of_tensor": {one.number: one.state for one in self._singles}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._stepped.clear()  # A step that came to nothing.
        for single in self._singles:
            single.load(state_dict["of_tensor"][single.number])


def _numbered(
    groups: Sequence[WeightGroup], param_groups: Sequence[dict[str, Any]]
) -> Iterator[tuple[WeightGroup, int, dict[str, Any]]]:
    for group, settings in zip(groups, param_groups, strict=True):
        for index in range(len(group.members)):
            yield group, index, settings


class _Single:
    """The optimizer of one tensor.

    Args:
        number: among all.
        settings: of its group, whose learning rate it takes.
    """

    def __init__(
        self, number: int, group: WeightGroup, index: int, settings: dict[str, Any]
    ) -> None:
        self.number, self.group, self._settings = number, group, settings
        self.member, self.weight = group.members[index], group.weights[index]
        self.rounds = group.rounds
        # Stands for a bfloat16 weight while that is stepped; empty otherwise.
        self._stepped = (
            nn.Parameter(torch.empty(0, device=self.member.device)) if self.rounds else self.member
        )

    def build(self, name: str, args: Mapping[str, Any]) -> None:
        settings = {**self._settings, "params": [self._stepped]}
        self._optimizer = one_optimizer(name, [settings], args)

    @torch.no_grad()
    def step(self, rounding: StochasticRounding) -> None:
        member, grad = self.member, self.member.grad
        assert grad is not None
        self._optimizer.param_groups[0]["lr"] = self._settings["lr"]
        if self.rounds:
            self._stepped.data, self._stepped.grad = member.float(), grad.float()
        self._optimizer.step()
        if self.rounds:
            rounding.round_into(member, self._stepped.data, self.number)
            self._stepped.data, self._stepped.grad = self._stepped.new_empty(0), None
        member.grad = None
        if self.group.has_masters:
            self.weight.copy_(member)

    @property
    def state(self) -> Any:
        return self._optimizer.state_dict()["state"].get(0)

    def load(self, state: Any) -> None:
        own = self._optimizer.state_dict()
        states = {} if state is None else {0: state}
        self._optimizer.load_state_dict({"state": states, "param_groups": own["param_groups"]})
