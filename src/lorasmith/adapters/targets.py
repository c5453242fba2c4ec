"""Which layers adapters attach to: by presets, patterns and sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from lorasmith.adapters.base import AdaptedLayer, Layer, Norm
from lorasmith.formats.adapter_roots import AdapterRoot
from lorasmith.formats.block_weights import BlockMap


@dataclass(frozen=True, slots=True)
class Target:
    """One layer that can be adapted: ``root.module`` at ``path``, called ``key`` in files."""

    root: AdapterRoot
    path: str
    key: str

    @property
    def part(self) -> str:
        return self.root.part

    @property
    def parent(self) -> nn.Module:
        return self.root.module.get_submodule(self.path.rpartition(".")[0])

    @property
    def attribute(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def slot(self) -> nn.Module:
        """What stands at the path now: the layer, or the :class:`AdaptedLayer` around it."""
        slot: nn.Module = getattr(self.parent, self.attribute)
        return slot

    @property
    def layer(self) -> Layer:
        """The frozen layer itself, whether wrapped or not."""
        module = self.module
        assert isinstance(module, nn.Linear | nn.Conv2d), f"{self.path} is {type(module).__name__}"
        return module

    @property
    def module(self) -> Layer | Norm:
        """As :attr:`layer`, or the norm that a file changes."""
        slot = self.slot
        module = slot.layer if isinstance(slot, AdaptedLayer) else slot
        assert isinstance(module, nn.Linear | nn.Conv2d | Norm), self.path
        return module

    @property
    def is_spatial(self) -> bool:
        """A convolution larger than 1 x 1: what ``conv_rank`` and ``conv_alpha`` are for."""
        module = self.module
        return isinstance(module, nn.Conv2d) and tuple(module.kernel_size) != (1, 1)


@dataclass(frozen=True, slots=True)
class Size:
    """Rank of an adapter and its alpha; alpha of None or 0 means ``rank``."""

    rank: int
    alpha: float | None = None


# Which size a layer's adapter gets; None leaves the layer alone.
SizeRule = Callable[[Target], Size | None]
# What multiplies the learning rate of a layer's adapter.
RateRule = Callable[[Target], float]


@dataclass(frozen=True, slots=True)
class UniformSizes:
    """One size for Linear layers and 1 x 1 convolutions, one for larger convolutions."""

    linear: Size
    conv: Size | None = None

    def __call__(self, target: Target) -> Size | None:
        return self.conv if target.is_spatial else self.linear


@dataclass(frozen=True, slots=True)
class BlockSizes:
    """Rank, alpha and learning rate of each layer's adapter, as a size rule and as a rate rule.

    A block of weight 0 gets no adapter at all: nothing of it is trained, saved, or passed through
    in the backward pass where no gradient has to go on below it.

    Args:
        linear: of Linear layers and 1 x 1 convolutions.
        conv: of larger convolutions; None leaves them alone.
        weights: learning rates by block, relative; blocks that are not named have 1.
        ranks, alphas, conv_ranks, conv_alphas: by block, in place of ``linear`` and ``conv``; a
            rank of 0 leaves the block's layers alone.
    """

    blocks: BlockMap
    linear: Size
    conv: Size | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    ranks: Mapping[str, float] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    conv_ranks: Mapping[str, float] = field(default_factory=dict)
    conv_alphas: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, target: Target) -> Size | None:
        block = self.blocks.block(target)
        if self.weights.get(block, 1.0) == 0.0:
            return None
        if target.is_spatial:
            return _size(self.conv, self.conv_ranks.get(block), self.conv_alphas.get(block))
        return _size(self.linear, self.ranks.get(block), self.alphas.get(block))

    def rate(self, target: Target) -> float:
        """What multiplies the layer's learning rate."""
        return self.weights.get(self.blocks.block(target), 1.0)


def _size(usual: Size | None, rank: float | None, alpha: float | None) -> Size | None:
    """``usual`` with the rank and alpha of a block in place of its own."""
    if rank is None:
        return usual if usual is None or alpha is None else Size(usual.rank, alpha)
    if rank == 0:
        return None
    return Size(int(rank), usual.alpha if alpha is None and usual is not None else alpha)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which layers get an adapter: those of ``targets`` and ``include``, without ``exclude``.

    Args:
        targets: names of :data:`PRESETS` and patterns; each adds layers. ``unet-only`` and
            ``te-only`` add none but leave the other part out; alone they stand beside attn-mlp.
        include, exclude: patterns, see :func:`matches`.
        conv: ``attn-mlp`` takes the roots' ``conv_targets`` too, as kohya's conv_dim does.
    """

    targets: tuple[str, ...] = ("attn-mlp",)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    conv: bool = False

    @property
    def parts(self) -> frozenset[str]:
        """The parts that may get adapters."""
        only = {part for name, part in ONLY.items() if name in self.targets}
        return frozenset(only or ONLY.values())

    @property
    def presets(self) -> tuple[str, ...]:
        preset_names = tuple(name for name in self.targets if name in PRESETS)
        return preset_names or (() if self.patterns else ("attn-mlp",))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The members of ``targets`` that are patterns."""
        return tuple(name for name in self.targets if name not in PRESETS and name not in ONLY)


PRESETS = ("attn", "attn-mlp", "full", "ia3")
"""``attn``: attention alone. ``attn-mlp``: kohya's choice, attention and feed-forward layers with
what is around them in a transformer. ``full``: LyCORIS' preset of that name: residual blocks, what
halves and doubles, the first and last convolution and the time embedding too. ``ia3``: LyCORIS'
preset for (IA)^3: keys, values, and the second layer of the feed-forward."""

ONLY = {"unet-only": "unet", "te-only": "text_encoder"}

_IA3 = ("to_k", "to_v", "ff.net.2", "k_proj", "v_proj", "mlp.fc2")


def layers_of(root: AdapterRoot) -> list[Target]:
    """Every Linear and Conv2d layer of a root, in the order of its modules."""
    return [target for target, _ in _walked(root)]


def modules_of(root: AdapterRoot) -> list[Target]:
    """What files may change: :func:`layers_of`, and norms, in the order of the root's modules."""
    return [Target(root, path, root.key(path)) for path, _, _ in _walk(root.module, "", _NOWHERE)]


def targets_of(root: AdapterRoot, *, conv: bool = False) -> list[Target]:
    """The layers that kohya's LoRA adapts: those inside the root's target blocks.

    Args:
        conv: those inside its ``conv_targets`` too.
    """
    return select([root], Selection(conv=conv))


def select(roots: Sequence[AdapterRoot], selection: Selection) -> list[Target]:
    """The layers that ``selection`` chooses, in the order of the roots' modules."""
    targets = []
    for root in roots:
        if root.part not in selection.parts:
            continue
        for target, inside in _walked(root):
            is_match = any(
                _in_preset(name, target, inside, selection.conv) for name in selection.presets
            ) or any(
                matches(pattern, target) for pattern in (*selection.patterns, *selection.include)
            )
            if is_match and not any(matches(pattern, target) for pattern in selection.exclude):
                targets.append(target)
    return targets


def find_targets(
    roots: Sequence[AdapterRoot], sizes: SizeRule, selection: Selection | None = None
) -> list[tuple[Target, Size]]:
    """The selected layers that ``sizes`` gives an adapter, each with its size."""
    sized = ((target, sizes(target)) for target in select(roots, selection or Selection()))
    return [(target, size) for target, size in sized if size is not None]


def matches(pattern: str, target: Target) -> bool:
    """Whether a pattern names a layer.

    A pattern is a glob (``*`` any characters, ``?`` one, ``[01]`` one of these) for a layer's path
    (``down_blocks.0.attentions.0.proj_in``), for the end of it after a dot (``to_k``,
    ``ff.net.2``, ``attn2.*``), for its long name (``text_encoder.text_model.…``) or for kohya's key
    (``lora_unet_up_blocks_1_*``); or ``re:`` and a regular expression that is found in one of
    these.
    """
    names = (target.path, target.key, *target.root.long_names(target.path))
    if pattern.startswith("re:"):
        regex = re.compile(pattern.removeprefix("re:"))
        return any(regex.search(name) for name in names)
    return any(fnmatchcase(name, pattern) for name in names) or fnmatchcase(
        target.path, f"*.{pattern}"
    )


def unmatched(
    roots: Sequence[AdapterRoot], patterns: Sequence[str], *, norms: bool = False
) -> dict[str, list[str]]:
    """Patterns that name no layer at all, each with names that are near.

    Args:
        norms: they may name norms, which a file that is gone on with may hold.
    """
    layers = [t for root in roots for t in (modules_of(root) if norms else layers_of(root))]
    missing = [p for p in patterns if not any(matches(p, target) for target in layers)]
    if not missing:
        return {}
    candidates: dict[str, None] = {}
    for target in layers:
        steps = target.path.split(".")
        candidates.update(dict.fromkeys(".".join(steps[n:]) for n in reversed(range(len(steps)))))
        candidates[target.key] = None
    near = list(candidates)
    return {p: get_close_matches(p.removeprefix("re:"), near, n=3, cutoff=0.5) for p in missing}


def _in_preset(name: str, target: Target, inside: frozenset[str], conv: bool) -> bool:
    root = target.root
    if name == "attn":
        return not inside.isdisjoint(root.attention) and not inside.isdisjoint(root.targets)
    if name == "attn-mlp":
        blocks = (*root.targets, *root.conv_targets) if conv else root.targets
        return not inside.isdisjoint(blocks)
    if name == "full":
        blocks = (*root.targets, *root.conv_targets)
        return not inside.isdisjoint(blocks) or target.path in root.ends
    assert name == "ia3", name
    return any(matches(ending, target) for ending in _IA3)


_NOWHERE: frozenset[str] = frozenset()


def _walked(root: AdapterRoot) -> Iterator[tuple[Target, frozenset[str]]]:
    """Every Linear and Conv2d layer, with the class names of the modules that it lies in."""
    for path, inside, module in _walk(root.module, "", _NOWHERE):
        if not isinstance(module, Norm):
            yield Target(root, path, root.key(path)), inside


def _walk(
    module: nn.Module, path: str, inside: frozenset[str]
) -> Iterator[tuple[str, frozenset[str], nn.Module]]:
    """Paths of layers and norms, what they lie in, and the layers and norms themselves."""
    layer = module.layer if isinstance(module, AdaptedLayer) else module
    if isinstance(layer, nn.Linear | nn.Conv2d | Norm):
        yield path, inside, layer
        return
    inside |= {type(module).__name__}
    for name, child in module.named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, inside)
