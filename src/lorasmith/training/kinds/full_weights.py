"""A base model's own weights as what is trained: which they are, and how the model gets others."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lorasmith.adapters.targets import PRESETS, Selection, Target, matches, select
from lorasmith.config.sections.full import FullSettings
from lorasmith.core.errors import Problem, RunError, SettingsError
from lorasmith.core.events import Notice, Observer, ignore
from lorasmith.core.text import did_you_mean, quantity
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.tensors.rounding import StochasticRounding
from lorasmith.tensors.transfer import pinned
from lorasmith.training.kinds.full_checkpoint import FullCheckpoint, Place
from lorasmith.training.kinds.trained import NothingDrawn

ALL = "all"
"""Every weight of a part: embeddings, norms and biases too."""

CPU = torch.device("cpu")
NEAR = 3


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """One trained tensor.

    Args:
        target: the layer that it is of.
        name: its canonical name in the network, "conv_in.weight".
        parameter: what the model computes with.
        master: the numbers in float32, where the model has them rounded.
    """

    target: Target
    name: str
    parameter: nn.Parameter
    master: nn.Parameter | None = None

    @property
    def place(self) -> Place:
        return self.target.root.folder, self.name

    @property
    def member(self) -> nn.Parameter:
        """What an optimizer changes."""
        return self.parameter if self.master is None else self.master


@dataclass(frozen=True, slots=True)
class PartWeights:
    """The trained weights of a part: the UNet, or all text encoders."""

    part: str
    weights: list[Weight]
    rate: float = 1.0

    @property
    def name(self) -> str:
        return self.part

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [weight.member for weight in self.weights]

    @property
    def targets(self) -> list[Target]:
        return list({weight.target.key: weight.target for weight in self.weights}.values())

    @property
    def size(self) -> int:
        return sum(weight.member.numel() for weight in self.weights)


def choose_weights(
    full: FullSettings, roots: Sequence[AdapterRoot], names: Mapping[str, Iterable[str]]
) -> list[tuple[Target, str]]:
    """The weights that the settings choose, in the order of ``names``.

    Args:
        names: of all weights of each network, by its folder's name.

    Raises:
        SettingsError: a pattern names nothing of the model, or no weight is left.
    """
    trains = {"unet": full.unet, "text_encoder": full.text_encoder}
    presets = tuple(name for name in full.layers if name in PRESETS)
    patterns = [name for name in full.layers if name not in (ALL, *PRESETS)]
    known, chosen = [], []
    for root in roots:
        in_preset: set[str] = set()
        if presets:
            in_preset = {target.path for target in select([root], Selection(presets, conv=True))}
        for name in names[root.folder]:
            path = name.rpartition(".")[0]
            target = Target(root, path, root.key(path))
            known.append(target)
            if not trains[root.part] or any(matches(one, target) for one in full.exclude):
                continue
            if (
                ALL in full.layers
                or path in in_preset
                or any(matches(one, target) for one in patterns)
            ):
                chosen.append((target, name))
    problems = [
        *_without_match("full.layers", patterns, known, (ALL, *PRESETS)),
        *_without_match("full.exclude", full.exclude, known),
    ]
    if not (problems or chosen):
        what = "layers and exclude leave no weight to train"
        problems.append(Problem("full.layers", what, 'say "all", or exclude less'))
    if problems:
        raise SettingsError(problems)
    return chosen


def _without_match(
    where: str, patterns: Sequence[str], known: Sequence[Target], presets: Sequence[str] = ()
) -> Iterator[Problem]:
    ends: dict[str, None] = {}
    for pattern in patterns:
        if any(matches(pattern, target) for target in known):
            continue
        if not ends:
            for target in known:
                steps = target.path.split(".")
                ends |= {".".join(steps[n:]): None for n in reversed(range(len(steps)))}
        what = f"{pattern!r} names no layer of this model"
        near = get_close_matches(pattern, list(ends), n=NEAR)
        hint = f"did you mean {' or '.join(near)}?" if near else "use a layer's name, as attn2.*"
        if presets:
            what += " and is no preset"
            hint = did_you_mean(pattern, presets) or hint
        yield Problem(where, what, hint)


class FullWeights(NothingDrawn):
    """Weights of a model that are trained as they are.

    The base's own numbers are read from its file again where they are asked for; where every step
    needs them, as output preservation does, they stay in main memory from then on.

    Args:
        networks: the model's, by their folder's name; empty where only sizes are asked for.
        checkpoint: where the base's numbers are, and what is saved; ``None`` on the meta device.
        rounding: is told each step.
        observe: is told of what is odd about a file.
        stand_ins: for each weight the numbers that the model has while this is attached; ``None``
            for those that are trained.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        weights: Sequence[Weight],
        checkpoint: FullCheckpoint | None,
        rounding: StochasticRounding,
        observe: Observer = ignore,
        *,
        stand_ins: Sequence[Tensor] | None = None,
    ) -> None:
        self.networks, self.weights = dict(networks), list(weights)
        self.checkpoint, self.rounding = checkpoint, rounding
        self._observe, self._stand_ins = observe, stand_ins
        self._base: list[Tensor] | None = None

    def __str__(self) -> str:
        return f"{quantity(len(self.weights), 'tensor')} of the base's own"

    def attach(self) -> None:
        for network in self.networks.values():
            network.requires_grad_(False)
        for weight in self.weights:
            weight.parameter.requires_grad_(True)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        if self._stand_ins is not None:
            with holding(self._parameters, self._stand_ins, park=True):
                yield
            return
        self.attach()
        yield
        for weight in self.weights:
            weight.parameter.requires_grad_(False)

    @contextlib.contextmanager
    def detached(self) -> Iterator[None]:
        """As of all: those that are trained wait in main memory."""
        with holding(self._parameters, self._base or self._read_base(), park=True):
            yield

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """As of all: the base's numbers are on the device beside those that are trained."""
        if self._base is None:
            device = self.weights[0].parameter.device
            self._base = [pinned(tensor, device) for tensor in self._read_base()]
        with holding(self._parameters, self._base, park=False):
            yield

    @contextlib.contextmanager
    def replaced_by(self, saved: FullWeights) -> Iterator[None]:
        with saved.attached():
            yield

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [weight.parameter for weight in self.weights]

    def _read_base(self) -> list[Tensor]:
        """The base's numbers as the model has them before it is trained, on the CPU."""
        assert self.checkpoint is not None
        dtype = self.weights[0].parameter.dtype
        by_place = dict(self.checkpoint.read(dtype, CPU))
        return [by_place[weight.place] for weight in self.weights]

    def parameter_groups(self) -> list[PartWeights]:
        parts: dict[str, PartWeights] = {}
        for weight in self.weights:
            part = weight.target.part
            parts.setdefault(part, PartWeights(part, [])).weights.append(weight)
        return list(parts.values())

    def holders(self) -> dict[str, nn.Module]:
        """The layers themselves."""
        return {
            f"{weight.target.root.folder}.{weight.target.path}": self.networks[
                weight.target.root.folder
            ].get_submodule(weight.target.path)
            for weight in self.weights
        }

    def layers(self) -> dict[str, nn.Module]:
        return self.holders()

    def begin_update(self, step: int) -> None:
        """Roundings are named by the step, so that all processes make the same."""
        self.rounding.step = step

    def end_update(self) -> None:
        """Weights may be what they like."""

    def state_dict(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        return {
            ".".join(weight.place): weight.member.detach().to(CPU, dtype, copy=True)
            for weight in self.weights
        }

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        for weight in self.weights:
            weight.member.copy_(tensors[".".join(weight.place)])
            if weight.master is not None:
                weight.parameter.copy_(weight.master)

    def save(self, path: Path, metadata: Mapping[str, str], dtype: torch.dtype) -> None:
        """Write the checkpoint; its types are the base's own, whatever ``dtype``, but for weights
        that have grown beyond them.

        Raises:
            CheckpointError: the base is gone.
            RunError: weights are no numbers, or the file cannot be written.
        """
        assert self.checkpoint is not None
        largest = self._largest()
        for place, value in largest.items():
            if not math.isfinite(value):
                what = f"the numbers of {'.'.join(place)} are none; not written"
                raise RunError.of(path, what, "lower optimizer.lr")
        widened = self.checkpoint.too_narrow(largest)
        if widened:
            what = f"{path}: {max(largest.values()):.3g} is the largest weight, too large for the "
            what += f"base's own number format: {quantity(len(widened), 'tensor')} are in fp32. "
            what += "Programs that compute in fp16 cannot use it; lower optimizer.lr"
            self._observe(Notice("warning", what))
        values = {weight.place: partial(_on_cpu, weight.member) for weight in self.weights}
        self.checkpoint.write(path, values, metadata, widened)

    def as_saved(self, dtype: torch.dtype) -> FullWeights:
        """As :meth:`save` writes them, in main memory."""
        assert self.checkpoint is not None
        widened, saved_dtype = (
            self.checkpoint.too_narrow(self._largest()),
            self.checkpoint.saved_dtype,
        )
        saved = [
            weight.member.detach().to(CPU, saved_dtype(weight.place, widened), copy=True)
            for weight in self.weights
        ]
        return FullWeights(
            self.networks, self.weights, self.checkpoint, self.rounding, stand_ins=saved
        )

    @torch.no_grad()
    def _largest(self) -> dict[Place, float]:
        """The absolute value of each weight; NaN where there is one."""
        largest = torch.stack([weight.member.abs().max().float() for weight in self.weights])
        places = (weight.place for weight in self.weights)
        return dict(zip(places, largest.tolist(), strict=True))


@contextlib.contextmanager
def holding(
    parameters: Sequence[nn.Parameter], values: Sequence[Tensor], *, park: bool
) -> Iterator[None]:
    """A model's ``parameters`` with ``values`` within the block, whatever it is in the midst of.

    Args:
        park: keep their own numbers in main memory meanwhile.
    """
    own: list[Tensor] = []
    device = parameters[0].device
    try:
        # Of no inference mode: a parameter must not become its tensor.
        with torch.inference_mode(False), torch.no_grad():
            for parameter, value in zip(parameters, values, strict=True):
                data = parameter.data
                own.append(data.to(CPU) if park else data)
                held = torch.empty_like(data)  # As the model lays it out.
                held.copy_(value, non_blocking=True)
                parameter.data = held
        yield
    finally:
        for parameter, data in zip(parameters, own, strict=False):
            parameter.data = data.to(device)


def _on_cpu(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().to(CPU, torch.float32)
