"""Optimizers from the libraries that keep them well, and the flat tensors that they work on.

The trained parameters of a group live in one flat tensor, and so do their gradients: clipping,
norm, zeroing and the reduction over processes are one call each instead of one per module (a LoRA
for SD1.5 has 528 small tensors). Optimizers that treat every number alike get the flat tensor too,
which is exact; others look at a tensor's shape and get the tensors as they are, as views.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from lorasmith.config.optimizers import CATALOGUE, optimizer_facts
from lorasmith.core.errors import DOCTOR, Problem, SettingsError
from lorasmith.core.installation import package_line
from lorasmith.core.text import did_you_mean

# What libraries raise at arguments that they cannot use.
REFUSALS = (AssertionError, AttributeError, ImportError, RuntimeError, TypeError, ValueError)


class Group(Protocol):
    """Trained numbers with one learning rate, as a step, its measuring and its saving see them.

    Args:
        name: of the group, no other's.
        lr: what the optimizer gets, before the schedule's factor.
        ratio: share of the optimizer's change that is made, for optimizers with one lr for all.
    """

    name: str
    lr: float
    ratio: float

    @property
    def members(self) -> Sequence[nn.Parameter]:
        """The parameters, one by one."""

    @property
    def tensors(self) -> list[Tensor]:
        """The numbers, in as few tensors as they lie in."""

    @property
    def grads(self) -> list[Tensor]:
        """Their gradients, those that there are."""

    @property
    def size(self) -> int:
        """How many numbers there are."""

    @property
    def spare(self) -> torch.device:
        """Where there is room for a copy of them."""

    @property
    def held(self) -> list[Tensor]:
        """What is kept of them on the device from step to step, beside the modules' own."""

    @property
    def passing_bytes(self) -> int:
        """Of gradients that are there when the optimizer steps, and are not among :attr:`held`."""

    @property
    def stepping_bytes(self) -> int:
        """What there is of a tensor in another precision while it is stepped."""

    def for_optimizer(self, *, elementwise: bool) -> Sequence[nn.Parameter]:
        """What an optimizer is given: one that treats every number alike, or that looks at
        shapes."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def complete_grads(self) -> None:
        """Give all numbers a gradient, as the sum over processes needs: nought where there is
        none."""

    def gradient_norm(self) -> Tensor:
        """L2 norm of the step's gradients, a float32 scalar on their device."""

    def scale_gradients(self, factor: Tensor) -> None:
        """Multiply them by a scalar on their device."""

    def take(self, values: Iterable[Tensor]) -> None:
        """Copy ``values``, such as copies of :attr:`tensors`, over the numbers."""

    def cast(self) -> None:
        """Before a forward pass: have the numbers ready in the precision that it computes in."""

    def collect(self) -> None:
        """After a backward pass: have its gradients among :attr:`grads`."""

    def release(self) -> None:
        """When a pass is over, or has failed: let go of what :meth:`cast` made."""


def packed(tensors: Sequence[Tensor]) -> Any:
    """A group's tensors as a saved state has them: one by itself, several as a list."""
    return tensors[0] if len(tensors) == 1 else list(tensors)


def unpacked(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


class FlatGroup:
    """Parameters of one group as views into one flat tensor, likewise their gradients.

    The modules keep their own ``nn.Parameter`` objects; only the storage behind them moves.
    Autograd adds into an existing ``.grad`` in place, so the gradients stay views too.

    Where the model computes in another precision, a step casts them all at once: each parameter
    has a copy, again a view into one flat tensor, that takes its place in the products. It takes
    the gradient, too, and :meth:`collect` adds those of all copies into :attr:`grad` at once.

    Args:
        lr: what the optimizer gets, before the schedule's factor.
        ratio: share of the optimizer's change that is made, for optimizers with one lr for all.
        compute: the precision that the model computes in; the parameters' own for None.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[nn.Parameter],
        lr: float,
        ratio: float = 1.0,
        *,
        compute: torch.dtype | None = None,
    ) -> None:
        assert parameters, f"group {name} has no parameters"
        self.name, self.lr, self.ratio, self.members = name, lr, ratio, list(parameters)
        sizes = [parameter.numel() for parameter in parameters]
        first = parameters[0]
        self.flat = nn.Parameter(torch.empty(sum(sizes), dtype=first.dtype, device=first.device))
        self.flat.grad = torch.zeros_like(self.flat)
        pieces = zip(
            parameters, self.flat.data.split(sizes), self.flat.grad.split(sizes), strict=True
        )
        for parameter, data, grad in pieces:
            data.copy_(parameter.data.reshape(-1))
            parameter.data = data.view(parameter.shape)
            parameter.grad = grad.view(parameter.shape)
        self.copy: Tensor | None = None
        self._copies: list[Tensor] = []
        if compute not in (None, first.dtype):
            self.copy = torch.empty_like(self.flat, dtype=compute, requires_grad=False)
            shapes = zip(parameters, self.copy.split(sizes), strict=True)
            self._copies = [
                piece.view(parameter.shape).detach().requires_grad_() for parameter, piece in shapes
            ]

    @property
    def grad(self) -> Tensor:
        assert self.flat.grad is not None
        return self.flat.grad

    @property
    def tensors(self) -> list[Tensor]:
        return [self.flat.detach()]

    @property
    def grads(self) -> list[Tensor]:
        return [self.grad]

    @property
    def size(self) -> int:
        return self.flat.numel()

    @property
    def spare(self) -> torch.device:
        return self.flat.device

    @property
    def held(self) -> list[Tensor]:
        return [self.flat, self.grad, *([] if self.copy is None else [self.copy])]

    @property
    def passing_bytes(self) -> int:
        return 0

    @property
    def stepping_bytes(self) -> int:
        return 0

    def for_optimizer(self, *, elementwise: bool) -> list[nn.Parameter]:
        return [self.flat] if elementwise else self.members

    def zero_grad(self) -> None:
        self.grad.zero_()

    def complete_grads(self) -> None:
        """Nothing: they are all there."""

    def gradient_norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.grad)

    def scale_gradients(self, factor: Tensor) -> None:
        self.grad.mul_(factor)

    @torch.no_grad()
    def take(self, values: Iterable[Tensor]) -> None:
        (value,) = values
        self.flat.copy_(value)

    @torch.no_grad()
    def cast(self) -> None:
        """Let the parameters' copies, as the weights are now, stand for them."""
        if self.copy is not None:
            self.copy.copy_(self.flat)
            for parameter, copy in zip(self.members, self._copies, strict=True):
                parameter.low_precision = copy  # type: ignore[attr-defined]

    @torch.no_grad()
    def collect(self) -> None:
        """Add the copies' gradients to :attr:`grad`; a further :meth:`cast` has to follow."""
        grads = [copy.grad for copy in self._copies]
        if self.copy is None or all(grad is None for grad in grads):
            return
        none = self.copy.new_zeros(1)
        pieces = [
            none.expand(copy.numel()) if grad is None else grad.reshape(-1)
            for copy, grad in zip(self._copies, grads, strict=True)
        ]
        torch.cat(pieces, out=self.copy)  # Its numbers have done their work.
        self.grad.add_(self.copy)

    def release(self) -> None:
        """Let the parameters stand for themselves again."""
        for parameter, copy in zip(self.members, self._copies, strict=False):
            copy.grad = None
            parameter.low_precision = None  # type: ignore[attr-defined]


@contextlib.contextmanager
def cast_at_once(groups: Sequence[Group]) -> Iterator[None]:
    """For one forward and backward pass: the parameters in the precision that it computes in."""
    try:
        for group in groups:
            group.cast()
        yield
        for group in groups:
            group.collect()
    finally:
        for group in groups:
            group.release()


def flat_groups(
    optimizer: str,
    pieces: Iterable[tuple[str, Sequence[nn.Parameter], float]],
    compute: torch.dtype | None = None,
) -> list[FlatGroup]:
    """Groups for the optimizer of that name, from (name, parameters, learning rate), for a model
    that computes in ``compute``."""
    pieces = list(pieces)
    rates = shared_rates(optimizer, [lr for _, _, lr in pieces])
    return [
        FlatGroup(name, parameters, lr, ratio, compute=compute)
        for (name, parameters, _), (lr, ratio) in zip(pieces, rates, strict=True)
    ]


def shared_rates(optimizer: str, lrs: Sequence[float]) -> list[tuple[float, float]]:
    """Learning rate and ratio of groups with these learning rates, for the optimizer of that name.

    Adaptive optimizers have one step size ``d`` and take one lr for all groups; the groups' own
    rates then say which share of the change each group makes, none of it for an lr of 0.
    """
    if not optimizer_facts(optimizer).adaptive:
        return [(lr, 1.0) for lr in lrs]
    top = max(lrs, default=0.0)
    return [(top, lr / top if top else 1.0) for lr in lrs]


def find_optimizer(name: str) -> Callable[..., torch.optim.Optimizer]:
    """The class of an optimizer of the settings.

    Raises:
        SettingsError: its library is missing or has no such class; says how to mend it.
    """
    facts = optimizer_facts(name)
    path, _, attribute = facts.path.rpartition(".")
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        package = facts.package.replace("_", "-")
        hint = f"{package_line(package)}, or choose AdamW"
        if package == "bitsandbytes":
            hint += f"; {DOCTOR}"
        raise SettingsError(
            Problem(
                "optimizer.name",
                f"{name} needs the package {package}, which cannot be imported: {error}",
                hint,
            )
        ) from error
    cls = getattr(module, attribute, None)
    if not _is_optimizer(cls):
        names = [name for name, value in vars(module).items() if _is_optimizer(value)]
        raise SettingsError(
            Problem(
                "optimizer.name",
                f"{path} has no optimizer {attribute}",
                did_you_mean(attribute, names, "write it as module.Class", form=f"{path}.{{}}"),
            )
        )
    return cls


def _is_optimizer(value: object) -> TypeGuard[type[torch.optim.Optimizer]]:
    return isinstance(value, type) and issubclass(value, torch.optim.Optimizer)


def build_optimizer(
    name: str, groups: Sequence[Group], args: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimizer ``name`` over ``groups``, ready to step.

    Its ``param_groups`` are in the order of ``groups`` and carry their ``name`` and ``ratio``.

    Raises:
        SettingsError: its library is missing, or an argument is not one of its own.
    """
    facts = optimizer_facts(name)
    param_groups: list[dict[str, Any]] = [
        {
            "params": group.for_optimizer(elementwise=facts.elementwise),
            "lr": group.lr,
            "name": group.name,
            "ratio": group.ratio,
        }
        for group in groups
    ]
    optimizer = one_optimizer(name, param_groups, args)
    if any(group.ratio != 1.0 for group in groups):
        scale_changes(optimizer, groups)
    return optimizer


def one_optimizer(
    name: str, param_groups: Sequence[dict[str, Any]], args: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """As :func:`build_optimizer`, over PyTorch's own groups: each has its ``params`` and ``lr``.

    Raises:
        SettingsError: as there.
    """
    cls, facts = find_optimizer(name), optimizer_facts(name)
    if name.partition(".")[0] == CATALOGUE:
        # Its Muon family asks which groups are matrices; others do not look.
        for group in param_groups:
            group["use_muon"] = all(member.ndim >= 2 for member in group["params"])
    arguments = {"lr": max(group["lr"] for group in param_groups), **facts.defaults, **args}
    if facts.sets_its_own_lr(args):
        arguments["lr"] = None  # It refuses one that it would not use.
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Some tell there of their weight decay.
            optimizer = cls(list(param_groups), **arguments)
    except REFUSALS as error:
        raise SettingsError(
            Problem("optimizer.args", f"{name} does not take these arguments: {error}", "mend them")
        ) from error
    to_training(optimizer)
    return optimizer


def to_training(optimizer: torch.optim.Optimizer) -> None:
    """Schedule-free optimizers rest at the average of the weights and train away from it."""
    train = getattr(optimizer, "train", None)
    if callable(train):
        train()


def scale_changes(optimizer: torch.optim.Optimizer, groups: Sequence[Group]) -> None:
    """Let each group make only its ``ratio`` of the change that the optimizer makes."""
    before: list[tuple[Group, list[Tensor]]] = []

    def keep(*_: Any) -> None:
        scaled = [group for group in groups if group.ratio != 1.0]
        before[:] = [(group, [tensor.clone() for tensor in group.tensors]) for group in scaled]
        for param_group, group in zip(optimizer.param_groups, groups, strict=True):
            param_group["ratio"] = group.ratio  # A loaded state may say what it was then.

    def scale(*_: Any) -> None:
        for group, old in before:
            pairs = zip(old, group.tensors, strict=True)
            group.take([torch.lerp(then, now, group.ratio) for then, now in pairs])
        before.clear()

    optimizer.register_step_pre_hook(keep)
    optimizer.register_step_post_hook(scale)


def clip_gradients(groups: Sequence[Group], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint L2 norm is at most ``max_norm``; 0 only measures.

    Returns:
        The norm before clipping, a scalar tensor on the parameters' device (not read here: that
        would wait for the device).
    """
    norm = torch.linalg.vector_norm(torch.stack([group.gradient_norm() for group in groups]))
    if max_norm > 0:
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for group in groups:
            group.scale_gradients(factor)
    return norm


def adaptive_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The learning rate in effect per group, of optimizers that find it; empty for others.

    ``d * lr`` for those that estimate ``d``; the mean over the tensors for AdaFactor with
    ``relative_step``, as ``transformers.optimization.AdafactorSchedule`` reads it. Waits for the
    device.
    """
    rates = {}
    for group in optimizer.param_groups:
        if "d" in group and "beta2_decay" not in group:  # torch's Adafactor means its clipping.
            rates[group["name"]] = float(group["d"]) * float(group["lr"]) * group.get("ratio", 1.0)
        elif group.get("relative_step") and hasattr(optimizer, "_get_lr"):
            states = [optimizer.state[p] for p in group["params"] if p in optimizer.state]
            tensor_rates = [float(optimizer._get_lr(group, state)) for state in states]
            if tensor_rates:
                rates[group["name"]] = sum(tensor_rates) / len(tensor_rates)
    return rates
