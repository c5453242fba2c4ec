"""Every kind of training step stays on its device: whole runs on the meta device.

Quick, at the layers of SD1.5: each type with all dropouts, the rest of the settings in turns. In
``make test-all`` the whole of it, at full-size SD1.5 and SDXL: each option of each type with each
dropout, and every pair of the rest.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from tests.meta_runs import MetaRun, elsewhere, meta_model, on_meta
from tests.one_device import META, OneDevice, strays
from tests.published import PUBLISHED, SD15
from tests.tiny_models import tiny_architecture, tiny_model
from torch import nn

from lorasmith.adapters.dropout import Dropout
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.config.adapter_types import ADAPTERS
from lorasmith.config.optimizers import OPTIMIZERS, optimizer_facts
from lorasmith.diffusion.schedule import DDPMSchedule
from lorasmith.measures.features import FeatureExtractor, MiddleBlock
from lorasmith.measures.noise_probe import Probe, Row
from lorasmith.models.families.table import Architecture
from lorasmith.tensors.files import PRECISIONS
from lorasmith.training.ema import Ema
from lorasmith.training.eval_weights import eval_weights
from lorasmith.training.interventions import Interventions
from lorasmith.training.monitoring.diagnosis import NanFinder
from lorasmith.training.optim import build_optimizer, flat_groups
from lorasmith.training.runs.state import Position, content_of, put_back
from lorasmith.training.setup.upcast import compute_in_fp32

Settings = dict[str, str]

ON_OUTPUT = {"weight_decompose": "true", "decompose_on_output": "true"}
OPTIONS: dict[str, list[Settings]] = {
    "rs_lora": [{"rs_lora": "true"}],
    "weight_decompose": [{"weight_decompose": "true"}],
    "decompose_on_output": [ON_OUTPUT],
    "tucker": [{"tucker": "true"}, {"tucker": "true", **ON_OUTPUT}],
    "factor": [{"factor": "8"}],
    "full_matrix": [{"full_matrix": "true"}],
    "decompose_both": [{"decompose_both": "true", "factor": "4"}],
    "train_on_input": [{"train_on_input": "true"}, {"train_on_input": "false"}],
    "unit": [{"unit": "4"}],
    "min_rank": [{"min_rank": "2"}],
    "rank_power": [{"rank_power": "2"}],
    "orthogonal": [{"orthogonal": "false"}],
    "constraint": [{"constraint": "0.01"}],
    "rescaled": [{"rescaled": "true"}, {"rescaled": "true", "constraint": "0.01"}],
}
"""Values of what only some types have."""

ALL_DROPOUTS = {"dropout": "0.1", "rank_dropout": "0.1", "module_dropout": "0.1"}
DROPOUTS: list[Settings] = [{}, *({name: value} for name, value in ALL_DROPOUTS.items()),
                            ALL_DROPOUTS]  # fmt: skip
IN_THE_REST = {"rank", "alpha", "conv_rank", "conv_alpha", "scale_weight_norms"}

REST: dict[str, list[Settings]] = {
    "norms": [{}, {"adapter.scale_weight_norms": "1"}],
    "ema": [{}, {"train.ema": "0.99"}],
    "storage": [
        {},
        {"train.base_precision": "fp8"},
        {"train.base_precision": "nf4"},
        {"performance.offload_blocks": "64"},
        {"train.base_precision": "fp8", "performance.offload_blocks": "3"},
        {"train.base_precision": "nf4", "performance.offload_blocks": "64"},
    ],
    "checkpointing": [{}, {"train.gradient_checkpointing": "true"},
                      {"train.gradient_checkpointing": "2"}],
    "precision": [{"train.precision": name} for name in PRECISIONS],
    "parts": [{}, {"adapter.text_encoder": "false"}, {"adapter.unet": "false"}],
    "layers": [{}, {"adapter.targets": "full", "adapter.conv_rank": "4"},
               {"adapter.blocks": "rest=0.5 IN04=0 OUT05=1", "optimizer.loraplus_ratio": "4"}],
    "batch": [{"train.batch": "1"}, {"train.batch": "3", "model.max_tokens": "150"}],
    "layout": [{}, {"performance.channels_last": "true"}],
    "loss": [{}, {"loss.masked": "alpha", "loss.type": "huber", "loss.noise_offset": "0.05"},
             {"loss.multires_iterations": "2", "loss.input_perturbation": "0.1",
              "loss.min_snr_gamma": "5"}],
}  # fmt: skip
"""What any type is trained with; the first of each is the usual."""


def variants() -> Iterator[Settings]:
    """Each type alone, and with each of its options."""
    for name, facts in ADAPTERS.items():
        yield {"type": name}
        for option in facts.options:
            for values in OPTIONS.get(option, []):
                yield {"type": name, **values}


def fits(row: Mapping[str, str]) -> bool:
    """Whether such a run can be asked for."""
    known = ADAPTERS[row["adapter.type"]].options
    return "adapter.scale_weight_norms" not in row or "scale_weight_norms" in known


def covering(
    adapters: list[Settings], rest: dict[str, list[Settings]], seed: int
) -> Iterator[Settings]:
    """A run for each of ``adapters``, with the rest so chosen that as few runs as possible have
    every pair of two of its values."""
    draw = random.Random(seed)
    done: set[frozenset[tuple[str, int]]] = set()
    for adapter in adapters:
        own = {f"adapter.{name}": value for name, value in adapter.items()}
        best: tuple[int, dict[str, int]] = (-1, {})
        for _ in range(60):
            chosen = {name: draw.randrange(len(values)) for name, values in rest.items()}
            if not fits(own | merged(rest, chosen)):
                chosen["norms"] = 0
            new = len(pairs(chosen) - done)
            best = max(best, (new, chosen), key=lambda item: item[0])
        done |= pairs(best[1])
        yield own | merged(rest, best[1])


def merged(rest: dict[str, list[Settings]], chosen: Mapping[str, int]) -> Settings:
    row: Settings = {}
    for name, number in chosen.items():
        row |= rest[name][number]
    return row


def pairs(chosen: Mapping[str, int]) -> set[frozenset[tuple[str, int]]]:
    return {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)}


def run_of(row: Settings, architecture: Architecture) -> MetaRun:
    settings = {"adapter.rank": "8", **row}
    if "adapter.targets" not in row or "conv_rank" not in ADAPTERS[row["adapter.type"]].options:
        settings.pop("adapter.conv_rank", None)
    if row["adapter.type"] == "ia3":
        settings.pop("adapter.rank")
    return MetaRun(
        settings,
        architecture,
        PRECISIONS[row["train.precision"]],
        channels_last="performance.channels_last" in row,
    )


def check(row: Settings, architecture: Architecture, *, steps: int) -> None:
    """``steps``: from the second one on, masks of neurons are made beforehand."""
    run = run_of(row, architecture)
    for step in range(steps):
        assert not elsewhere(run, run.step(step)), step


def label(row: Settings) -> str:
    own = [f"{k.partition('.')[2]}={v}" for k, v in row.items() if k.startswith("adapter.")]
    return " ".join(own)


TOGETHER: dict[str, Settings] = {
    "lora": {},
    "c3lier": {"rs_lora": "true"},
    "locon": {"tucker": "true", "weight_decompose": "true"},
    "loha": {"tucker": "true"},
    "lokr": {"decompose_both": "true", "tucker": "true", "factor": "4"},
    "ia3": {},
    "dylora": {"unit": "4"},
    "tlora": {"min_rank": "2", "rank_power": "2"},
    "dora": {"decompose_on_output": "true"},
    "oft": {"constraint": "0.01", "rescaled": "true"},
    "boft": {"rescaled": "true"},
}
"""Options that go together, for the quick part."""

QUICK = list(
    covering(
        [{"type": name, **TOGETHER[name], **ALL_DROPOUTS} for name in ADAPTERS],
        # Where the UNet is not trained, there are no convolutions; and what takes longest is left.
        {
            **REST,
            "parts": REST["parts"][:2],
            "layers": [REST["layers"][0], REST["layers"][2]],
            "checkpointing": [REST["checkpointing"][0], REST["checkpointing"][2]],
        },
        seed=1,
    )
)
WHOLE = list(covering([{**own, **drop} for own in variants() for drop in DROPOUTS], REST, seed=2))


@pytest.mark.broad_beyond(5)
@pytest.mark.slow_but_first
@pytest.mark.parametrize("row", QUICK, ids=label)
def test_a_step_stays_on_its_device(row: Settings) -> None:
    # The others with a residual block and a transformer where SD1.5 has two of the same size.
    whole, unet = row["adapter.type"] == "lora", {**SD15.denoiser, "layers_per_block": 1}
    check(row, SD15 if whole else replace(SD15, denoiser=unet), steps=2 if whole else 1)


@pytest.mark.broad  # A part of it is above.
@pytest.mark.parametrize("model", ["sd15", "sdxl"])
@pytest.mark.parametrize("row", WHOLE, ids=label)
def test_every_step_stays_on_its_device(row: Settings, model: str) -> None:
    check(row, PUBLISHED[model], steps=2 if "adapter.dropout" in row else 1)


def test_the_whole_is_the_whole() -> None:
    """Every option of every type, and every pair of the rest."""
    for name, facts in ADAPTERS.items():
        rows = [row for row in WHOLE if row["adapter.type"] == name]
        given = {key.removeprefix("adapter.") for row in rows for key in row}
        assert set(facts.options) - IN_THE_REST <= given
        assert "scale_weight_norms" in given or "scale_weight_norms" not in facts.options
    for (one, ours), (other, theirs) in itertools.combinations(REST.items(), 2):
        for a, b in itertools.product(ours, theirs):
            assert any({**a, **b}.items() <= row.items() for row in WHOLE), (one, other, a, b)


NEEDS_A_KIND = {"DAdaptAdan", "DAdaptAdanIP"}
"""These ask for the name of a tensor's type, and meta's has none that they know."""

FROM_THE_CATALOGUE = [f"pytorch_optimizer.{name}" for name in (
    "Prodigy", "DAdaptAdaGrad", "DAdaptAdam", "DAdaptAdan", "DAdaptLion", "DAdaptSGD", "AdEMAMix",
    "ScheduleFreeAdamW",
)]  # fmt: skip
"""What keeps numbers for a whole group, and some that do not."""


@pytest.mark.parametrize("name", [*sorted(OPTIMIZERS.keys() - NEEDS_A_KIND), *FROM_THE_CATALOGUE])
def test_an_optimizer_goes_on_where_its_parameters_are(name: str) -> None:
    """After a resume or a rollback, whose numbers come from main memory."""
    pytest.importorskip(optimizer_facts(name).path.partition(".")[0])
    shapes = ((8, 64), (64, 8), (8, 64, 3, 3), (640,))
    parameters = [nn.Parameter(torch.empty(shape, device=META)) for shape in shapes]
    groups = flat_groups(name, [("unet", parameters[:2], 1e-4), ("te", parameters[2:], 5e-5)])
    with on_meta():
        optimizer = build_optimizer(name, groups, {})
        trainer: Any = SimpleNamespace(
            groups=groups, optimizer=optimizer, scaler=None, ema=Ema(groups, 0.9),
            interventions=Interventions(), trained=AdapterNetwork([], []),
        )  # fmt: skip
        assert not one_step(trainer).mixed
        put_back(in_main_memory(content_of(trainer, Position(1))), trainer, Path())
        assert not list(strays((optimizer.state, optimizer.param_groups, trainer.ema)))
        seen = one_step(trainer)
    assert not seen.mixed
    assert not seen.scalars


def one_step(trainer: Any) -> OneDevice:
    with OneDevice() as seen:
        trainer.optimizer.step()
        trainer.ema.update(1)
        with eval_weights(trainer):
            pass
    return seen


def in_main_memory(value: Any) -> Any:
    """What a state file holds, with other numbers."""
    if isinstance(value, torch.Tensor):
        return torch.ones(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return {key: in_main_memory(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(in_main_memory(inner) for inner in value)
    return value


def test_adapters_move_as_a_whole() -> None:
    """As the library's users move them."""
    model = tiny_model()
    network = AdapterNetwork.create(model.adapter_roots(), algorithm="dora", conv_rank=2)
    network.dropout = Dropout(0.1, 0.1, 0.1)
    network.to(META)
    assert set(strays(network.adapters)) == set()
    network.begin_step(0, 0, [1, 2])
    assert set(strays(network.adapters)) == set()


@pytest.mark.slow_but_first
@pytest.mark.parametrize("storage", [REST["storage"][0], REST["storage"][-1]])
def test_trouble_is_looked_for_on_the_device(storage: Settings) -> None:
    """Every module's output is read, which waits; a module that computes in float32 takes weights
    however they are stored."""
    settings = {"train.precision": "fp16", "adapter.text_encoder": "false"}
    run = MetaRun({**settings, **storage}, tiny_architecture(), torch.float16)
    undo = compute_in_fp32(run.model.denoiser.mid_block, torch.float16)
    inspector = NanFinder(run.model, run.trained)
    with OneDevice() as seen, on_meta(), inspector.watching():
        run.trainer(0, inspector.feed([run.batch(0)]), 1)
    undo()
    assert inspector.site is None
    assert not (*seen.mixed, *seen.scalars)
    reading = {place.partition(":")[0] for place in seen.read}
    assert reading == {"lorasmith/training/monitoring/diagnosis.py"}


@pytest.mark.slow
def test_snapshots_are_looked_at_on_the_device() -> None:
    """What ``pick`` measures, and held-out loss with it."""
    model = meta_model(tiny_architecture())
    schedule = DDPMSchedule()
    row = Row(torch.zeros(4, 8, 8), "a", 1, torch.zeros(1, 6))
    image = Image.new("RGB", (64, 64))
    with OneDevice() as seen:
        probe = Probe(model, schedule, [row], 0, 8)
        probe.losses(probe.predict())
        FeatureExtractor(model, MiddleBlock(model, schedule)).look([image])
    assert not (*seen.mixed, *seen.scalars)
    assert {place.partition(":")[0] for place in seen.read} == {
        "lorasmith/measures/features.py", "lorasmith/measures/noise_probe.py"
    }  # fmt: skip


class Stray(nn.Module):
    """A layer whose faults are those that are looked for."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, device=META)
        self.fault = fault
        self.alpha = torch.tensor(2.0)
        self.places = torch.arange(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        match self.fault:
            case "a number on the CPU":
                return y * self.alpha
            case "places on the CPU":
                return y[self.places]
            case "read":
                return y * float(y.detach().sum())
            case "fetched":
                return y * y.detach().sum().cpu().to(META)
            case "made on the CPU":
                return y * torch.tensor([1.0, 2.0, 3.0, 4.0], device=META)
            case "computed on the CPU":
                return y * (self.alpha + 1.0).to(META)
        return y


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        ("none", ()),
        ("a number on the CPU", ("scalars",)),
        ("places on the CPU", ("mixed",)),
        ("read", ("read",)),
        ("fetched", ("read", "uploads")),
        ("made on the CPU", ("uploads",)),
        ("computed on the CPU", ("on_cpu", "uploads")),
    ],
)
def test_what_is_looked_for_would_be_found(fault: str, where: tuple[str, ...]) -> None:
    stray = Stray(fault)
    assert sorted(strays(stray)) == [".alpha", ".places"]
    with OneDevice() as seen:
        stray(torch.empty(2, 4, device=META)).sum().backward()
    kinds = ("mixed", "scalars", "read", "on_cpu", "uploads")
    found = {name for name in kinds if getattr(seen, name)}
    assert found == set(where)


@pytest.mark.slow
def test_a_tensor_that_is_left_behind_would_be_found() -> None:
    run = MetaRun({"train.ema": "0.9"}, tiny_architecture())
    assert not elsewhere(run, run.step(0))
    adapter = next(iter(run.trained.holders().values()))
    adapter.alpha = torch.tensor(1.0)
    name = next(iter(run.trainer.ema.averages))
    run.trainer.ema.averages[name] = [torch.zeros(3)]
    state = next(iter(run.trainer.optimizer.state.values()))
    state["exp_avg"] = torch.zeros(3)
    found = elsewhere(run, OneDevice()).tensors
    assert len(found) == 3, found
    assert any("alpha" in path for path in found)
