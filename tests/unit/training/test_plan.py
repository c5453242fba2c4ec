"""The plan against what a run then does."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings, load_with_origins
from lorasmith.core.errors import UserError
from lorasmith.demo.character import write_training_set
from lorasmith.tensors.device import choose_precision
from lorasmith.training.memory.estimates import Speed, Work, step_seconds
from lorasmith.training.memory.simulate import SimulatedRun, Workload
from lorasmith.training.plan import duration, graph, make_plan, show_plan, validation_seconds
from lorasmith.training.run import train
from lorasmith.training.setup.preflight import preflight


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_training_set(tmp_path / "data", images=3, regularisation=2, repeats=2)
    return tmp_path / "data"


def overrides(data: Path, **more: str) -> dict[str, str]:
    chosen = {key.replace("__", "."): value for key, value in more.items()}
    return {
        "data.path": str(data),
        "save.output": str(data.parent / "out"),
        "save.name": "run",
        "train.batch": "2",
        "performance.threads": "1",
        "sample.every_epochs": "0",
        "sample.at_start": "false",
        "log.tensorboard": "false",
        **chosen,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {"train__epochs": "3"},
        {"train__epochs": "3", "save__keep_last": "1"},
        {"train__steps": "5", "save__every_steps": "2"},
        {"train__epochs": "2", "adapter__text_encoder": "false", "adapter__conv_rank": "2"},
        {"train__epochs": "1", "adapter__type": "loha", "adapter__targets": "full"},
        {"train__epochs": "1", "adapter__blocks": "rest=0.5 IN=0", "adapter__type": "lokr"},
        {"train__epochs": "1", "optimizer__loraplus_ratio": "4", "adapter__targets": "attn"},
    ],
)
def test_planned_steps_files_and_weights_are_those_of_the_run(
    data: Path, more: dict[str, str]
) -> None:
    settings = load_settings(None, overrides(data, **more))
    plan = make_plan(settings)
    run = train(settings)
    assert run == plan.folder.path
    assert sorted(run.glob("*.safetensors")) == sorted(plan.files)
    content = torch.load(max((run / "state").glob("*.state")), weights_only=True)
    assert content["step"] == plan.run_plan.steps
    sizes = {name: flat.numel() for name, flat in content["parameters"].items()}
    assert sizes == {rate.name: rate.weights for rate in plan.rates}
    written = sum(path.stat().st_size for path in plan.files)
    assert plan.disk["LoRA files"] == pytest.approx(written, rel=0.5)


@pytest.mark.parametrize("layout", ["folder", "flat"])
def test_the_lora_that_is_extracted_is_among_the_files(data: Path, layout: str) -> None:
    chosen = {"train__kind": "full", "full__extract_rank": "4", "save__layout": layout}
    plan = make_plan(load_settings(None, overrides(data, train__steps="2", **chosen)))
    console = Console(file=io.StringIO(), width=80, record=True)
    show_plan(plan, console)
    assert "\n  run-rank4.safetensors\n" in console.export_text().split("will be written")[1]


@pytest.mark.slow_but_first
@pytest.mark.parametrize("layout", ["folder", "flat"])
def test_the_files_that_are_printed_are_those_of_the_run(data: Path, layout: str) -> None:
    """Also for a name that is taken, which is said."""
    chosen = {"train__steps": "2", "save__every_steps": "1", "save__layout": layout}
    chosen |= {"sample__at_start": "true", "sample__steps": "1", "log__tensorboard": "true"}
    (data.parent / "out").mkdir()
    (data.parent / "out" / ("run.safetensors" if layout == "flat" else "run")).touch()
    if layout == "folder":
        (data.parent / "out" / "run").unlink()
        (data.parent / "out" / "run").mkdir()
        (data.parent / "out" / "run" / "run.safetensors").touch()
    before = set(data.parent.glob("out/**/*"))
    settings = load_settings(None, overrides(data, **chosen))
    plan = make_plan(settings)
    console = Console(file=io.StringIO(), width=80, record=True)
    show_plan(plan, console)
    text = console.export_text()
    assert "this run and its files are called run-2" in text.replace("\n", " ")
    printed, place = set(), Path()
    for line in text.split("will be written")[1].split("worth a look")[0].splitlines()[1:]:
        if line.startswith("  "):
            printed |= {place / name.strip() for name in line.split(",")}
        elif line.endswith("/"):
            place = Path(line)
    train(settings)
    there = set(data.parent.glob("out/**/*")) - before
    top = {path for path in there if path.parent in {p.parent for p in printed}}
    beside = {plan.folder.path, plan.folder.path / "run.lock"}
    assert {path for path in printed if not path.exists()} <= {
        plan.folder.result.with_suffix(".png")
    }
    assert top - beside <= printed


@pytest.mark.slow
def test_a_plan_takes_no_longer_than_it_must(data: Path) -> None:
    """It imports nothing that runs models: that would be most of its seconds."""
    heavy = ("diffusers", "transformers", "accelerate", "huggingface_hub", "torch._dynamo", "sympy")
    program = f"""
import sys
from lorasmith.cli.main import main
sys.argv = ["lorasmith", "train", "--data", {str(data)!r}, "--plan"]
sys.argv += ["--output", {str(data.parent)!r}]
try:
    main()
finally:
    assert not sys.modules.keys() & {set(heavy)}, sys.modules.keys() & {set(heavy)}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory of a step" in done.stdout


@pytest.mark.slow_but_first
@pytest.mark.parametrize("batch", ["1", "4"])
@pytest.mark.parametrize("text", ["true", "false"])
def test_a_small_models_memory_is_about_that_of_its_step(data: Path, batch: str, text: str) -> None:
    more = {"train__batch": batch, "adapter__text_encoder": text}
    settings = load_settings(None, overrides(data, **more))
    plan = make_plan(settings)
    architecture = plan.run_plan.architecture
    use = Workload(64, 64, (64, 64, int(batch)), None, text=True, vae=True, channels_last=False)
    exact = SimulatedRun(plan.run_plan.settings, architecture, torch.float32, use).step()
    rough = plan.memory.step
    assert rough.weights == pytest.approx(exact.weights, rel=0.01)
    assert (rough.adapter, rough.optimizer) == (exact.adapter, exact.optimizer)
    assert exact.activations / 2 < rough.activations < 2 * exact.activations


def test_plan_is_printed_without_loading_a_model(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorasmith.training.setup.build.Loading", None)
    arguments = ["train", "--plan"]
    for key, value in overrides(data, optimizer__unet_lr="1e-3").items():
        arguments += ["--set", f"{key}={value}"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    for text in ("learning rate", "0.001", "memory of a step", "run.safetensors", "64x64"):
        assert text in result.output
    assert not (data.parent / "out").exists()


@pytest.mark.slow
def test_plan_says_what_each_block_learns_with(data: Path) -> None:
    chosen = {"adapter__blocks": "rest=0 OUT02=0.5 OUT03-OUT05=1", "optimizer__lr": "1e-3"}
    chosen |= {"optimizer__loraplus_ratio": "1"}
    plan = make_plan(load_settings(None, overrides(data, **chosen)))
    assert [(rate.name, rate.blocks, rate.lr) for rate in plan.rates] == [
        ("unet x0.5", "OUT02", 5e-4),
        ("unet", "OUT03-OUT05", 1e-3),
    ]


def test_layers_that_do_not_exist_are_named_before_anything_is_loaded(data: Path) -> None:
    chosen = {"adapter__include": "to_kk", "adapter__exclude": "lora_unet_upblocks_*"}
    with pytest.raises(UserError, match=r"to_kk.*did you mean to_k") as error:
        make_plan(load_settings(None, overrides(data, **chosen)))
    assert len(error.value.problems) == 2


def test_nothing_left_to_train_is_said(data: Path) -> None:
    with pytest.raises(UserError, match="leave no layer to train"):
        make_plan(load_settings(None, overrides(data, adapter__blocks="OUT09")))


def test_graph_falls_with_the_rate(data: Path) -> None:
    plan = make_plan(load_settings(None, overrides(data, train__epochs="9")))
    lines = graph(plan.rates[0], plan.run_plan.steps)
    assert "█" in lines[0][10:20]
    assert "█" not in lines[0][-10:]


def test_one_second_is_not_several() -> None:
    told = [duration(seconds) for seconds in (0.2, 1.2, 2, 100, 6000)]
    assert told == ["1 second", "1 second", "2 seconds", "2 minutes", "1.7 hours"]


def test_time_grows_with_samples_and_checkpointing() -> None:
    cpu, dtype = torch.device("cpu"), torch.float32
    work, speed = Work(10**9, 10**8, 10**6, 10), Speed(1e10, 1e9, 1e9)
    one = step_seconds(work, 1, 1, speed, cpu, dtype, checkpointing=False)
    four = step_seconds(work, 4, 1, speed, cpu, dtype, checkpointing=False)
    saving = step_seconds(work, 1, 1, speed, cpu, dtype, checkpointing=True)
    assert one < saving < four < 4 * one


def test_a_step_takes_what_its_parts_take() -> None:
    """Forward and backward of each; convolutions' weights once for all samples that go together."""
    cpu, dtype = torch.device("cpu"), torch.bfloat16

    def seconds(work: Work, samples: int, micro_batches: int) -> float:
        speed = Speed(products=100.0, attention=20.0, kernels=10.0)
        return step_seconds(work, samples, micro_batches, speed, cpu, dtype, checkpointing=False)

    assert seconds(Work(1000, 0, 0, 0), 3, 1) == pytest.approx(2 * 3 * 10)
    assert seconds(Work(0, 1000, 0, 0), 3, 1) == pytest.approx(2 * 3 * 50)
    assert seconds(Work(0, 0, 1000, 0), 6, 2) == pytest.approx(2 * 2 * 200)


def test_measuring_takes_time_by_images_timesteps_and_how_often(data: Path) -> None:
    device = torch.device("cpu")
    precision = choose_precision("fp32", device, 0)

    def seconds(**more: str) -> float:
        settings = load_settings(None, overrides(data, train__epochs="6", **more))
        speed = Speed(1e3, 1e3, 1e3)
        return validation_seconds(preflight(settings), speed, precision, device)

    usual = seconds(validation__split="0.4")  # The base model, step 0 and six epochs.
    assert usual > 0
    assert seconds() == 0
    assert seconds(validation__split="0.4", validation__every_epochs="0") == 0
    assert seconds(validation__split="0.4", validation__every_epochs="2") == pytest.approx(
        usual * 5 / 8
    )
    assert seconds(validation__split="0.4", validation__timesteps="16") == pytest.approx(2 * usual)


def test_what_nobody_chose_is_said_with_where_it_comes_from(data: Path) -> None:
    loaded = load_with_origins(
        None, {"data.path": str(data), "save.output": str(data.parent / "out"), "save.name": "x"}
    )
    plan = make_plan(loaded.settings, origins=loaded.origins)
    console = Console(file=io.StringIO(), width=999, record=True)
    show_plan(plan, console)
    text = console.export_text()
    assert f"Length  {plan.run_plan.length and plan.run_plan.length.explanation}" in text
    assert "Trigger  zorp (the first tag of all" in text
    (of_base,) = [line for line in text.splitlines() if "from the base model: " in line]
    assert "optimizer.lr = 0.002" in of_base
    assert "sample.cfg = 3.0" in of_base
    (worked_out,) = [line for line in text.splitlines() if "from the number of pictures: " in line]
    assert f"train.epochs = {plan.run_plan.epochs}" in worked_out
    assert "from the command line: " not in of_base + worked_out
    assert 'save.name = "x"' in text
