"""What went wrong in a run, by doing its steps again and looking closely.

A step is a function of the seed and its number, so what happened happens again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lorasmith.data.dataset import SampleRef
from lorasmith.models.diffusion_model import Conditioning, DiffusionModel
from lorasmith.training.batches import step_input
from lorasmith.training.kinds.trained import Trained
from lorasmith.training.objective import MicroBatch
from lorasmith.training.runs.state import Position
from lorasmith.training.setup.build import Run
from lorasmith.training.setup.upcast import compute_in_fp32, find_module

# Images that a message names; it says how many more there are.
NAMED = 4
# How far up from the layer that overflowed a module is tried in float32: a transformer block.
LEVELS_UP = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """The first trouble of a run.

    Args:
        step: from 1.
        what: the symptom: "the loss became nan".
        where: the place in words.
        module: adapter key or layer, empty where it is no module's doing.
        items: indices of the dataset items that it came from.
        images: their files, within the data folder.
        in_fp32: modules that would have computed it in float32 without trouble.
    """

    step: int
    what: str
    where: str
    phase: Phase = "unknown"
    module: str = ""
    items: tuple[int, ...] = ()
    images: tuple[str, ...] = ()
    in_fp32: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f" and {len(self.images) - NAMED} more" if len(self.images) > NAMED else ""
        names = ", ".join(self.images[:NAMED])
        which = f", with {names}{more}" if names else ""
        return f"{self.what} at step {self.step}: {self.where}{which}"


def diagnose(
    run: Run, back: Callable[[], Position], step: int, what: str, *, exploded: bool
) -> Finding:
    """Do the steps from ``back()`` to ``step`` (from 1) again, the last one under inspection.

    The trainer is left wherever that ends.

    Args:
        back: puts good numbers from before ``step`` back.
        exploded: look for the module whose weights grew most, not for a number that is none.
    """
    with _plainly(run):
        position = back()
        before = {key: _norm(holder) for key, holder in run.trained.holders().items()}
        for earlier in range(position.step, step - 1):
            run.trainer(earlier, *step_input(run.batches, earlier, run.trainer.interventions))
        spot = _inspected(run, step - 1)
        if exploded:
            growth = {
                key: _norm(holder) / max(before[key], 1e-6)
                for key, holder in run.trained.holders().items()
            }
            key = max(growth, key=growth.__getitem__)
            place = f"most in {key}, {growth[key]:.3g} times since step {position.step}"
            return _finding(run, step, what, NanSite("weights", place, key))
        in_fp32: tuple[str, ...] = ()
        if spot.phase == "forward" and run.precision.dtype == torch.float16:
            in_fp32 = _helps_in_fp32(run, back, step - 1, spot)
    return _finding(run, step, what, spot, in_fp32)


def name_of(run: Run, item: int) -> str:
    """A dataset item's image as people know it: its path within the data folder."""
    path = run.run_plan.dataset.items[item].image.path
    folder = Path(run.settings.data.path or run.run_plan.data_folder).absolute()
    path = path.absolute()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


@contextlib.contextmanager
def _plainly(run: Run) -> Iterator[None]:
    """Without compiled code, which does not call hooks."""
    if not run.settings.performance.compile:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _inspected(run: Run, step: int) -> NanSite:
    """Do ``step`` (from 0) and say where its first number that is none was, of all processes."""
    batches, total = step_input(run.batches, step, run.trainer.interventions)
    inspector = NanFinder(run.model, run.trained)
    with inspector.watching():
        run.trainer(step, inspector.feed(batches), total)
    if inspector.site is None:
        inspector.check_weights()
    spots = [spot for spot in run.processes.gather(inspector.site) if spot is not None]
    if not spots:
        return NanSite("unknown", "it did not come back when the step was done again")
    return min(spots, key=lambda spot: ORDER.index(spot.phase))


def _helps_in_fp32(
    run: Run, back: Callable[[], Position], step: int, spot: NanSite
) -> tuple[str, ...]:
    """The smallest module around ``spot`` in which float32 keeps ``step`` free of trouble."""
    path = spot.path
    for _ in range(LEVELS_UP + 1):
        if "." not in path:
            break
        module = find_module(run.model, path)
        position = back()
        for earlier in range(position.step, step):
            run.trainer(earlier, *step_input(run.batches, earlier, run.trainer.interventions))
        undo = compute_in_fp32(module, run.precision.dtype)
        again = _inspected(run, step)
        undo()
        if again.phase == "unknown":
            return (path,)
        path = path.rpartition(".")[0]
    return ()


def _finding(
    run: Run, step: int, what: str, spot: NanSite, in_fp32: tuple[str, ...] = ()
) -> Finding:
    samples = [sample for group in run.batches.samples(step - 1) for sample in group]
    guilty: list[SampleRef] = [s for s in samples if not spot.samples or s.id in spot.samples]
    items = tuple(dict.fromkeys(sample.item for sample in guilty))
    return Finding(
        step,
        what,
        spot.what,
        spot.phase,
        spot.module,
        items,
        tuple(name_of(run, item) for item in items),
        in_fp32,
    )


def _norm(holder: nn.Module) -> float:
    squares = [float(p.detach().float().square().sum()) for p in holder.parameters()]
    return sum(squares) ** 0.5


# Where in a step the first number that is none comes up: images, module, direction

Phase = Literal["input", "weights", "forward", "backward", "unknown"]
ORDER: tuple[Phase, ...] = ("weights", "input", "forward", "backward", "unknown")


@dataclass(frozen=True, slots=True)
class NanSite:
    """Where it was.

    Args:
        module: the name of what is trained there, or the part and path of a layer
            ("unet.conv_in"); empty for input.
        samples: ids of the samples that it came from; empty where all of the step share it.
        what: the place in words.
        path: part and path of the module, for adapted layers too.
    """

    phase: Phase
    what: str
    module: str = ""
    samples: tuple[int, ...] = ()
    path: str = ""


class NanFinder:
    """Checks every tensor of a step; slow, as each check waits for the device.

    :attr:`site` is the first spot, ``None`` while all is well.
    """

    def __init__(self, model: DiffusionModel, trained: Trained) -> None:
        self._model, self._trained = model, trained
        self._batch: MicroBatch | None = None
        # Lists of modules compute nothing themselves.
        self._passed: set[str] = set()
        self.site: NanSite | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every module of the model within the block."""
        handles = [
            module.register_forward_hook(self._hook(name, path, around), with_kwargs=True)
            for name, path, around, module in self._modules()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def feed(self, batches: Iterable[MicroBatch]) -> Iterator[MicroBatch]:
        """``batches``, each checked before the step gets it and after the step is done with it."""
        self.check_weights()
        for batch in batches:
            self._batch = batch
            self._check_input(batch)
            yield replace(batch, condition=self._checked_condition(batch.condition))
            self._check_gradients()

    def check_weights(self) -> None:
        for key, holder in self._trained.holders().items():
            for name, parameter in holder.named_parameters():
                if not _finite(parameter.detach()):
                    self._note("weights", f"the weights of {key} ({name})", key)

    def _check_gradients(self) -> None:
        for key, holder in self._trained.holders().items():
            for name, parameter in holder.named_parameters():
                if parameter.grad is not None and not _finite(parameter.grad):
                    self._note("backward", f"the gradient of {key} ({name})", key)

    def _check_input(self, batch: MicroBatch) -> None:
        bad = ~(_finite_rows(batch.mean) & _finite_rows(batch.std))
        if bad.any():
            self._note("input", "the latents themselves", rows=bad)

    def _checked_condition(self, condition: Callable[[], Conditioning]) -> Callable[[], Any]:
        def checked() -> Conditioning:
            result = condition()
            if not _finite(result.prompt_embeds):
                self._note(
                    "input", "the caption's text features", rows=~_finite_rows(result.prompt_embeds)
                )
            return result

        return checked

    def _hook(self, name: str, path: str, around: str) -> Callable[..., None]:
        def check(
            module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], output: Any
        ) -> None:
            if self.site is not None:
                return
            outputs = _tensors(output)
            for tensor in outputs:
                if not _finite(tensor.detach()):
                    # A layer that was given such numbers is not where they began. No module's
                    # output showed them: it was in the one around it, between its layers.
                    inputs = _tensors([*args, *kwargs.values()])
                    if all(_finite(each) for each in inputs):
                        place = (f"the output of {name}", name, path)
                    else:
                        place = (f"{around}, between its layers", around, around)
                    self._note("forward", *place, rows=~_finite_rows(tensor.detach()))
            for tensor in outputs:
                if tensor.requires_grad:
                    tensor.register_hook(lambda grad: self._check_backward(name, path, grad))

        return check

    def _check_backward(self, name: str, path: str, grad: Tensor) -> None:
        if self.site is None and not _finite(grad):
            what = f"the gradient at the output of {name}"
            self._note("backward", what, name, path, rows=~_finite_rows(grad))

    def _note(
        self, phase: Phase, what: str, module: str = "", path: str = "", rows: Tensor | None = None
    ) -> None:
        if self.site is not None:
            return
        samples: tuple[int, ...] = ()
        if self._batch is not None:
            samples = tuple(self._batch.samples)
            if rows is not None and len(rows) == len(samples):
                flags = zip(samples, rows.tolist(), strict=True)
                samples = tuple(sample for sample, bad in flags if bad)
        self.site = NanSite(phase, what, module, samples, path)

    def _modules(self) -> Iterator[tuple[str, str, str, nn.Module]]:
        """Every module of the model with its name, its part and path, and the path of the module
        that computes with it; what is in an adapted layer has that layer's key and surroundings."""
        slots = {id(layer): key for key, layer in self._trained.layers().items()}
        for part, root in {"unet": self._model.denoiser, **self._model.text_encoders}.items():
            keys: dict[str, str] = {}
            arounds: dict[str, str] = {}
            for path, module in root.named_modules():
                full = f"{part}.{path}" if path else part
                parent = full.rpartition(".")[0]
                inside = keys.get(parent)
                key = slots.get(id(module), inside)
                if key is not None:
                    keys[full] = key
                lists = isinstance(module, nn.ModuleList | nn.Sequential)
                passed = inside is not None or parent in self._passed
                arounds[full] = arounds.get(parent, parent) if passed else parent or full
                if lists:
                    self._passed.add(full)
                yield (key or full, full, arounds[full], module)


def _tensors(value: Any) -> list[Tensor]:
    """The floating-point tensors in a module's input or output."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for inner in value for tensor in _tensors(inner)]
    return []


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _finite_rows(tensor: Tensor) -> Tensor:
    """(B,) on the CPU: which rows are finite; one row for a scalar."""
    return tensor.isfinite().reshape(tensor.shape[0] if tensor.ndim else 1, -1).all(1).cpu()
