"""The table of optimizers against the libraries, names as people write them, and the checks."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence

import pytest
from torch.optim import Optimizer

from lorasmith.config import optimizers
from lorasmith.config.checks import table as checks
from lorasmith.config.load import load_settings
from lorasmith.config.optimizers import (
    ALIASES,
    OPTIMIZERS,
    catalogue,
    optimizer_facts,
    optimizer_name,
)
from lorasmith.core.errors import SettingsError

GUIDES_TABLE = (
    *("AdamW", "AdamW8bit", "Lion", "Lion8bit", "SGDNesterov", "SGDNesterov8bit", "AdaFactor"),
    *("DAdaptAdam", "DAdaptLion", "DAdaptation", "Prodigy"),
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_class_and_args_exist_in_the_library(name: str) -> None:
    facts = OPTIMIZERS[name]
    module, _, attribute = facts.path.rpartition(".")
    if facts.package == "bitsandbytes":
        pytest.importorskip("bitsandbytes")
    cls = getattr(importlib.import_module(module), attribute)
    assert issubclass(cls, Optimizer)
    taken = inspect.signature(cls).parameters
    assert set(facts.args or ()) <= set(taken)
    assert set(facts.defaults) <= set(taken)


@pytest.mark.parametrize("name", ALIASES)
def test_further_names_are_of_rows_or_classes(name: str) -> None:
    right = ALIASES[name]
    if right not in OPTIMIZERS:
        module, _, attribute = right.rpartition(".")
        assert issubclass(getattr(pytest.importorskip(module), attribute), Optimizer)


@pytest.mark.parametrize("name", GUIDES_TABLE)
def test_names_of_the_guides_are_known(name: str) -> None:
    assert optimizer_name(name) in OPTIMIZERS
    assert optimizer_name(name.lower()) == optimizer_name(name.upper()) == optimizer_name(name)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("adamw8bit", "AdamW8bit"),
        ("AdamW_8bit", "AdamW8bit"),
        ("SDGNesterov8bit", "SGDNesterov8bit"),
        ("DAdaptation", "DAdaptAdam"),
        ("adafactor", "AdaFactor"),
        ("PagedAdamW", "bitsandbytes.optim.PagedAdamW"),
        ("dadaptadampreprint", ALIASES["DAdaptAdamPreprint"]),
        ("AdamWScheduleFree", "AdamWScheduleFree"),
        (" torch.optim.RMSprop ", "torch.optim.RMSprop"),
    ],
)
def test_spellings(written: str, meant: str) -> None:
    assert load_settings(None, [f"optimizer.name={written}"]).optimizer.name == meant


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("Prodgy", "did you mean Prodigy?"),
        ("SGDNestrov8bit", "did you mean SGDNesterov8bit?"),
        ("Q", "choose from AdamW"),
        ("torch.optim.", "module.Class"),
    ],
)
def test_unknown_names_show_what_is_near(written: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [f"optimizer.name={written}"])
    assert hint in str(caught.value)


def test_the_catalogue_is_that_of_the_library() -> None:
    library = pytest.importorskip("pytorch_optimizer")
    plain = [name for name in library.get_supported_optimizers() if not name.startswith("bnb")]
    assert len(catalogue()) > 100
    assert {name.lower() for name in catalogue()} <= set(plain)
    assert optimizer_name("came") == "pytorch_optimizer.CAME"
    assert optimizer_name("Lion") == "Lion"  # Ours come first.


def test_without_the_catalogue_its_names_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "catalogue", lambda: ())
    with pytest.raises(ValueError, match="CAME"):
        optimizer_name("CAME")


def test_a_class_by_its_path_is_known_by_its_name() -> None:
    assert optimizer_facts("somewhere.ProdigyPlus").adaptive
    assert not optimizer_facts("torch.optim.RMSprop").adaptive
    assert optimizer_facts("torch.optim.RMSprop").args is None


def test_args_exactly_as_guides_write_them() -> None:
    plain = (
        "decouple=True weight_decay=0.01 d_coef=2 use_bias_correction=True safeguard_warmup=True "
        "betas=0.9,0.99"
    )
    quoted = " ".join(f'"{text}"' for text in plain.split())
    for text in (plain, quoted):
        args = load_settings(None, {"optimizer.name": "Prodigy", "optimizer.args": text})
        assert args.optimizer.args == {
            "decouple": True,
            "weight_decay": 0.01,
            "d_coef": 2,
            "use_bias_correction": True,
            "safeguard_warmup": True,
            "betas": (0.9, 0.99),
        }


PRODIGY = ["optimizer.name=Prodigy", "optimizer.lr=1", "schedule.name=constant"]
DADAPT = ["optimizer.name=DAdaptAdam", "optimizer.lr=1", "schedule.name=constant"]
ADAFACTOR = ["optimizer.name=AdaFactor", "schedule.name=constant"]
GOOD_ARGS = "decouple=True weight_decay=0.01 betas=0.9,0.99"

QUIET = [
    [*PRODIGY, f"optimizer.args={GOOD_ARGS} d_coef=2 use_bias_correction=True"],
    [*PRODIGY, "optimizer.args=betas=0.9,0.99"],
    [*DADAPT, f"optimizer.args={GOOD_ARGS}"],
    ADAFACTOR,
    [*ADAFACTOR, "optimizer.args=relative_step=True scale_parameter=True warmup_init=True"],
    ["optimizer.name=AdaFactor", "optimizer.args=relative_step=False scale_parameter=False"],
    ["optimizer.name=Lion", "optimizer.lr=2e-5"],
    ["optimizer.name=SGDNesterov", "optimizer.lr=0.1"],
    ["optimizer.name=AdamWScheduleFree", "schedule.name=constant_with_warmup", "schedule.warmup=5"],
    ["optimizer.name=torch.optim.RMSprop", "optimizer.args=anything=1"],
    ["schedule.name=polynomial", "schedule.power=3"],
    ["schedule.name=inverse_sqrt", "schedule.warmup=5%"],
    ["schedule.name=rex"],
    ["optimizer.lr=find"],
    ["optimizer.name=SGDNesterov", "optimizer.lr=find"],
    ["optimizer.lr=find", "optimizer.unet_lr=1e-4", "optimizer.text_encoder_lr=5e-5"],
    ["optimizer.lr=FIND", "optimizer.unet_lr=1e-4", "adapter.text_encoder=false"],
]


@pytest.mark.parametrize("assignments", QUIET, ids=" ".join)
def test_recommended_settings_are_not_odd(assignments: list[str]) -> None:
    settings = load_settings(None, assignments)
    odd = [p for p in checks.warnings(settings) if p.where.startswith(("optimizer", "schedule"))]
    assert not odd


ODD: list[tuple[Sequence[str], str, str]] = [
    (PRODIGY, "optimizer.args", "overshoots"),
    ([*DADAPT, "optimizer.args=weight_decay=0.1 betas=0.9,0.99"], "optimizer.args", "decouple"),
    ([*PRODIGY, "optimizer.args=d_coef=20 betas=0.9,0.99"], "optimizer.args", "d_coef of 20"),
    ([*PRODIGY, "schedule.warmup=5%"], "optimizer.args", "safeguard_warmup"),
    ([*PRODIGY, "optimizer.text_encoder_lr=0.5"], "optimizer", "one step size for all parts"),
    (["optimizer.name=DAdaptLion", "optimizer.lr=1"], "schedule.name", "use constant"),
    (["optimizer.name=DAdaptLion", "optimizer.lr=3"], "optimizer.lr", "3 times as large"),
    (["optimizer.name=Lion"], "optimizer.lr", "3 to 10 times lower"),
    (["optimizer.name=SGDNesterov8bit"], "optimizer.lr", "hardly learn"),
    (["optimizer.name=AdaFactor"], "schedule", "relative_step"),
    ([*ADAFACTOR, "optimizer.unet_lr=1e-3"], "optimizer.unet_lr", "has no effect"),
    ([*ADAFACTOR, "optimizer.args=relative_step=False"], "optimizer.args", "scale_parameter"),
    (["optimizer.name=AdamWScheduleFree"], "schedule.name", "averages"),
    (["schedule.power=3"], "schedule.power", "no effect"),
    (["schedule.timescale=30"], "schedule.timescale", "no effect"),
    (["schedule.name=inverse_sqrt"], "schedule", "10000 steps"),
]


@pytest.mark.parametrize(("assignments", "where", "what"), ODD)
def test_oddities(assignments: Sequence[str], where: str, what: str) -> None:
    warnings = checks.warnings(load_settings(None, list(assignments)))
    found = [notice for notice in warnings if notice.where == where and what in str(notice)]
    assert len(found) == 1, warnings
    assert found[0].hint


@pytest.mark.parametrize(
    ("assignments", "what"),
    [
        ((*ADAFACTOR, "optimizer.args=relative_step=False warmup_init=True"), "warmup_init"),
        ((*DADAPT, "optimizer.args=d_coef=2"), "has no argument d_coef"),
        ((*PRODIGY, "optimizer.args=lr=1"), "set optimizer.lr"),
        (("optimizer.name=Lion", "optimizer.args=weigth_decay=1"), "did you mean weight_decay?"),
        ((*PRODIGY, "optimizer.lr=find"), "finds the size of its steps by itself"),
        ((*ADAFACTOR, "optimizer.lr=find"), "relative_step=False"),
        (("optimizer.lr=find", "optimizer.unet_lr=1e-4"), "give text_encoder_lr too"),
    ],
)
def test_contradictions(assignments: Sequence[str], what: str) -> None:
    with pytest.raises(SettingsError, match=what.replace("?", r"\?")):
        load_settings(None, list(assignments))


def test_rates_that_are_found_keep_the_ratio_of_the_parts() -> None:
    given = {"optimizer.lr": "4e-3", "optimizer.text_encoder_lr": "1e-3"}
    optimizer = load_settings(None, given).optimizer.seeking()
    assert optimizer.seeks_lr
    assert {"unet": 4e-3, "text_encoder": 1e-3}.items() <= optimizer.lrs.items()
    found = optimizer.times(0.5)
    assert not found.seeks_lr
    assert {"unet": 2e-3, "text_encoder": 5e-4}.items() <= found.lrs.items()
    assert load_settings(None, {"optimizer.lr": "find"}).optimizer.times(3).lr == pytest.approx(
        3e-4
    )
