"""Settings that a machine lacks: replaced or refused, with the reason, before a model is loaded."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tests.unit.training.machines import Bench, bench

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.config.schema import all_settings
from lorasmith.core.errors import UserError
from lorasmith.demo.character import write_training_set
from lorasmith.tensors.device import LARGE_FOR_CPU, describe_machine
from lorasmith.training.run import resume, train
from lorasmith.training.setup import hardware as device_rules
from lorasmith.training.setup.hardware import RULES, adapt_to_hardware, eight_bit_fails, slow_device

__all__ = ["bench"]

Place = Callable[[Bench], torch.device]


def rtx_2080(b: Bench) -> torch.device:
    return b.nvidia("GeForce RTX 2080", (7, 5))


def rtx_4090(b: Bench) -> torch.device:
    return b.nvidia("GeForce RTX 4090", (8, 9))


def mac(b: Bench) -> torch.device:
    return b.mac(macos=(13, 6))


def new_mac(b: Bench) -> torch.device:
    return b.mac(macos=(15, 0))


def arc(b: Bench) -> torch.device:
    return b.intel("Arc A770", fp64=False)


def rx_6800(b: Bench) -> torch.device:
    return b.amd("RX 6800", "gfx1030")


def cpu(b: Bench) -> torch.device:
    return b.cpu(avx2=True)


REPLACED: list[tuple[Place, str, str, str]] = [
    (rtx_2080, "train.precision=bf16", "auto", "RTX 30 or newer"),
    (rx_6800, "train.precision=bf16", "auto", "RX 6800"),
    (mac, "train.precision=bf16", "auto", "macOS 14"),
    (arc, "train.precision=fp16", "auto", "fp64"),
    (new_mac, "optimizer.name=AdamW8bit", "AdamW", "runs on mps"),
    (new_mac, "optimizer.name=Lion8bit", "Lion", "runs on mps"),
    (new_mac, "optimizer.name=SGDNesterov8bit", "SGDNesterov", "runs on mps"),
    (new_mac, "optimizer.name=bitsandbytes.optim.Adam8bit", "torch.optim.Adam", "runs on mps"),
    (new_mac, "performance.compile=true", "False", "unfinished"),
    (new_mac, "performance.channels_last=true", "False", "slower"),
    (arc, "optimizer.name=PagedAdamW8bit", "AdamW8bit", "CUDA alone"),
]


@pytest.fixture
def eight_bits_not_on_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As bitsandbytes is, but without a step on a device that is not here."""

    def fails(name: str, args: object, device: torch.device) -> str:
        known = device.type in ("cuda", "xpu")
        return "" if known else f"has nothing that runs on {device.type}"

    monkeypatch.setattr(device_rules, "eight_bit_fails", fails)


@pytest.mark.usefixtures("eight_bits_not_on_macs")
@pytest.mark.parametrize(("place", "given", "taken", "reason"), REPLACED)
def test_what_a_machine_lacks_is_replaced_with_the_reason(
    bench: Bench, place: Place, given: str, taken: str, reason: str
) -> None:
    place(bench)
    path = given.partition("=")[0]
    before = load_settings(None, [given])
    adapted = adapt_to_hardware(before)
    section, _, name = path.partition(".")
    assert str(getattr(getattr(adapted.settings, section), name)) == taken
    assert path in adapted.replaced
    (notice,) = adapted.warnings
    assert notice.where == path
    assert reason in notice.what
    assert f"; {taken.lower() if taken == 'False' else taken} is taken instead" in notice.what
    assert before == load_settings(None, [given]), "the given settings stay as they are"


@pytest.mark.usefixtures("eight_bits_not_on_macs")
@pytest.mark.parametrize("place", [rtx_2080, rtx_4090, mac, new_mac, arc, rx_6800, cpu])
def test_the_defaults_suit_every_machine(bench: Bench, place: Place) -> None:
    place(bench)
    settings = load_settings(None)
    adapted = adapt_to_hardware(settings)
    assert (adapted.settings, adapted.warnings) == (settings, ())


@pytest.mark.usefixtures("eight_bits_not_on_macs")
def test_a_new_card_does_all_that_guides_set(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    rtx_4090(bench)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    given = ["train.precision=bf16", "optimizer.name=PagedAdamW8bit", "performance.compile=true"]
    settings = load_settings(None, [*given, "performance.channels_last=true"])
    assert adapt_to_hardware(settings).settings == settings


def test_compiling_needs_triton_on_gpus(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(None, ["performance.compile=true"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rtx_4090(bench)
    assert "triton" in adapt_to_hardware(settings).warnings[0].what
    bench.nvidia("GTX 1080", (6, 1))
    assert "7.0, and GTX 1080 has 6.1" in adapt_to_hardware(settings).warnings[0].what


def test_compiling_needs_a_compiler_on_cpus(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(None, ["performance.compile=true"])
    cpu(bench)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    assert adapt_to_hardware(settings).warnings == ()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "C++ compiler" in adapt_to_hardware(settings).warnings[0].what


def test_fp16_is_replaced_on_a_cpu(bench: Bench) -> None:
    cpu(bench)
    adapted = adapt_to_hardware(load_settings(None, ["train.precision=fp16"]))
    assert adapted.settings.train.precision == "auto"
    assert "auto is taken instead" in adapted.warnings[0].what


@pytest.mark.parametrize(
    ("place", "given", "reason", "hint"),
    [
        (lambda b: b.nvidia("GTX 1660", (7, 5)), "train.precision=fp16", "NaN", "auto"),
        (new_mac, "train.precision=fp16", "little tried", "auto"),
        (cpu, "train.precision=bf16", "slower than fp32", "auto"),
        (cpu, "optimizer.name=AdamW8bit", "tens of times", "AdamW"),
    ],
)
def test_what_works_badly_is_kept_and_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: Place, given: str, reason: str, hint: str
) -> None:
    monkeypatch.setattr(device_rules, "eight_bit_fails", lambda name, args, device: "")
    place(bench)
    settings = load_settings(None, [given])
    adapted = adapt_to_hardware(settings)
    assert (adapted.settings, adapted.replaced) == (settings, frozenset())
    (notice,) = adapted.warnings
    assert reason in notice.what
    assert hint in notice.hint


@pytest.mark.usefixtures("eight_bits_not_on_macs")
def test_one_replacement_leads_to_the_next(bench: Bench) -> None:
    new_mac(bench)
    args = 'optimizer.args=["is_paged=True", "min_8bit_size=1024", "weight_decay=0.1"]'
    adapted = adapt_to_hardware(load_settings(None, ["optimizer.name=AdamW8bit", args]))
    assert adapted.settings.optimizer.name == "AdamW"
    assert adapted.settings.optimizer.args == {"weight_decay": 0.1}, "what AdamW takes"
    assert len(adapted.warnings) == 2


def test_bitsandbytes_is_asked_by_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    device = torch.device("cpu")

    def refuse(*given: object, **named: object) -> None:
        raise NotImplementedError("no kernel")

    monkeypatch.setattr(bitsandbytes.optim.AdamW8bit, "step", refuse)
    assert "nothing in this version" in eight_bit_fails("AdamW8bit", {}, device)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim", None)
    assert "pip install bitsandbytes" in eight_bit_fails("AdamW8bit", {}, device)


@pytest.mark.usefixtures("eight_bits_not_on_macs")
def test_what_has_no_like_is_refused(bench: Bench) -> None:
    new_mac(bench)
    settings = load_settings(None, ["optimizer.name=bitsandbytes.optim.AdEMAMix8bit"])
    with pytest.raises(UserError, match=r"AdEMAMix8bit has nothing that runs on mps.*AdamW"):
        adapt_to_hardware(settings)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        *((name, {}) for name in ("AdamW8bit", "Lion8bit", "SGDNesterov8bit")),
        ("AdamW8bit", {"no_such": 1}),  # Said by the check of its arguments.
    ],
)
def test_8_bit_optimizers_that_step_here_are_kept(name: str, args: dict[str, int]) -> None:
    pytest.importorskip("bitsandbytes")
    assert eight_bit_fails(name, args, torch.device("cpu")) == ""


def test_each_process_asks_its_own_card(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    rtx_4090(bench)
    assert adapt_to_hardware(load_settings(None)).machine.device == torch.device("cuda", 3)
    cpu(bench)
    assert adapt_to_hardware(load_settings(None)).machine.device == torch.device("cpu")


def test_every_rule_is_of_a_setting_and_every_refusal_says_what_to_do() -> None:
    for rule in RULES:
        assert rule.setting in all_settings()
        assert rule.replacement is not None or rule.hint


def test_a_cpu_that_nobody_asked_for_is_told(bench: Bench) -> None:
    machine = describe_machine(cpu(bench))
    asked = load_settings(None, ["performance.device=cpu"])
    assert slow_device(load_settings(None), machine, LARGE_FOR_CPU)
    assert not slow_device(load_settings(None), machine, LARGE_FOR_CPU - 1)
    assert not slow_device(asked, machine, LARGE_FOR_CPU)
    assert not slow_device(load_settings(None), describe_machine(mac(bench)), LARGE_FOR_CPU)


# In a run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_training_set(tmp_path / "data", images=2, regularisation=0, repeats=1)
    return tmp_path / "data"


def chosen(data: Path, *more: str) -> list[str]:
    return [
        *(f"data.path={data}", f"save.output={data.parent / 'out'}", "save.name=run"),
        *("train.steps=2", "sample.every_epochs=0", "sample.at_start=false"),
        *("log.tensorboard=false", "save.state_every_steps=1", *more),
    ]


@pytest.mark.slow
def test_the_plan_and_the_run_folder_tell_what_was_replaced(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_rules, "eight_bit_fails", lambda name, args, device: "fails here")
    given = chosen(data, "optimizer.name=AdamW8bit")
    arguments = ["train", "--plan", *(word for text in given for word in ("--set", text))]
    planned = CliRunner().invoke(cli, arguments)
    assert planned.exit_code == 0, planned.output
    told = "optimizer.name: AdamW8bit fails here; AdamW is taken instead"
    assert told in " ".join(planned.output.split())
    assert "lr for AdamW " in planned.output
    run = train(load_settings(None, given))
    assert told in (run / "dataset.txt").read_text()
    assert json.loads((run / "run.json").read_text())["replaced"] == [told]
    assert 'name = "AdamW"' in (run / "settings.toml").read_text(), "what it was trained with"


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_optimizer(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    given = chosen(data, "optimizer.name=AdamW8bit")
    run = train(load_settings(None, given))
    monkeypatch.setattr(device_rules, "eight_bit_fails", lambda name, args, device: "fails here")
    with pytest.raises(UserError, match="go on with it where it was begun"):
        resume(run, [])


def test_a_refusal_is_said_with_everything_else_and_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    cpu(bench)
    monkeypatch.setattr("lorasmith.training.setup.build.Loading", None)
    monkeypatch.setattr(device_rules, "eight_bit_fails", lambda name, args, device: "fails here")
    given = [
        "optimizer.name=bitsandbytes.optim.AdEMAMix8bit",
        f"data.path={tmp_path / 'nothing'}",
    ]
    with pytest.raises(UserError) as error:
        train(load_settings(None, given))
    assert {problem.where for problem in error.value.problems} >= {"optimizer.name"}
    assert len(error.value.problems) > 1


def test_the_same_bits_each_time_are_no_setting_for_every_device(bench: Bench) -> None:
    settings = load_settings(None, ["performance.deterministic=true"])
    rtx_4090(bench)
    assert adapt_to_hardware(settings).warnings == ()
    for place, message in ((cpu, "in any case"), (arc, "CUDA alone"), (new_mac, "CUDA alone")):
        place(bench)
        adapted = adapt_to_hardware(settings)
        assert adapted.settings == settings
        assert message in adapted.warnings[0].what
