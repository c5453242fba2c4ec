"""From the tensors of a file to adapters, with everything that does not fit named at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lorasmith.adapters.algorithms import algorithm_of
from lorasmith.adapters.base import Adapter
from lorasmith.adapters.names import NamedTensors, match_names
from lorasmith.adapters.targets import AdapterRoot, Target, layers_of, targets_of
from lorasmith.errors import LoraFileError, Problem

# A LoRA of another family misses hundreds of layers; a few say as much.
_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What did not fit when a file was loaded; all empty for a complete file of this family.

    Args:
        unmatched: names in the file that belong to no layer of the model.
        missing: keys of layers that kohya's LoRA adapts and the file does not, in the parts
            that the file adapts at all.
    """

    unmatched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def build_adapters(
    tensors: Mapping[str, Tensor], roots: Sequence[AdapterRoot], where: str
) -> tuple[list[tuple[Target, Adapter]], LoadReport]:
    """The adapters that a file holds, in the order of the model's layers.

    Raises:
        LoraFileError: see :meth:`AdapterNetwork.load`.
    """
    found = match_names(tensors, roots)
    problems: list[Problem] = []
    modules: list[tuple[Target, Adapter]] = []
    for target in (target for root in roots for target in layers_of(root)):
        if target.key not in found.modules:
            continue
        try:
            modules.append((target, _build(target, found.modules[target.key])))
        except ValueError as error:
            todo = "use a LoRA of the base model's family"
            problems.append(Problem(where, f"{target.key}: {error}", todo))
    if not modules and not problems:
        first = next(iter(tensors), "nothing")
        what = f"none of its {len(tensors)} tensors belongs to this model (the first is {first})"
        problems.append(Problem(where, what, "use a LoRA of the base model's family"))
    if problems:
        raise LoraFileError(_shortened(problems, where))
    return modules, LoadReport(tuple(found.unmatched), _missing(found, roots))


def _build(target: Target, tensors: Mapping[str, Tensor]) -> Adapter:
    kind = algorithm_of(tensors)
    if kind is None:
        raise ValueError(f"the tensors {', '.join(sorted(tensors))} make no known adapter type")
    return kind.from_tensors(target.layer, tensors)


def _missing(found: NamedTensors, roots: Sequence[AdapterRoot]) -> tuple[str, ...]:
    parts = {target.part for target in found.layers.values()}
    usual = [target for root in roots if root.part in parts for target in targets_of(root)]
    return tuple(target.key for target in usual if target.key not in found.modules)


def _shortened(problems: list[Problem], where: str) -> list[Problem]:
    rest = len(problems) - _SHOWN_PROBLEMS
    if rest <= 0:
        return problems
    return [*problems[:_SHOWN_PROBLEMS], Problem(where, f"{rest} more modules do not fit")]
