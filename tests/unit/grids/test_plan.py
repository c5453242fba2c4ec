"""Axes to images: what varies, what is refused, and the order of the work."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from lorasmith.core.errors import PromptError
from lorasmith.grids.axes import CellSpec
from lorasmith.grids.axis_types import AXIS_TYPES, parse_axis
from lorasmith.grids.plan import (
    Grid,
    Identity,
    SwapCost,
    count_switches,
    lay_out,
    state,
    work_order,
)
from lorasmith.models.reference import ModelReference
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.lora_library import LoraLibrary
from lorasmith.sampling.request import ImageRequest
from lorasmith.sampling.sources import Sources, find_sources

BASE = CellSpec(ImageRequest("a cat <lora:cat:1>", "blurry", steps=4))


@pytest.fixture
def sources(lora_folder: Path) -> Sources:
    return Sources(LoraLibrary(lora_folder), folders=[lora_folder])


def grid_of(sources: Sources, *texts: str, base: CellSpec = BASE) -> Grid:
    options = ("--x", "--y", "--z")
    axes = [parse_axis(o, text, sources) for o, text in zip(options, texts, strict=False)]
    return lay_out(base, axes, sources)


def requests(grid: Grid) -> list[ImageRequest]:
    return [cell.spec.request for cell in grid.cells]


@pytest.mark.parametrize(
    ("axis", "field", "expected"),
    [
        ("seed=1-3", "seed", [1, 2, 3]),
        ("Steps=10,20", "steps", [10, 20]),
        ("CFG Scale=3-7 (+2)", "cfg", [3.0, 5.0, 7.0]),
        ("Sampler=Euler a,DDIM", "sampler", ["euler_a", "ddim"]),
        ("sampler=DPM++ 2M SDE Karras", "sampler", ["DPM++ 2M SDE Karras"]),
        ("sampler=DPM++ 2M Karras,DPM++ 2M", "sampler", ["DPM++ 2M Karras", "dpmpp_2m"]),
        ("Clip skip=1,2", "clip_skip", [1, 2]),
        ("eta=0,1", "eta", [0.0, 1.0]),
        ("cfg_rescale=0,0.7", "cfg_rescale", [0.0, 0.7]),
        ('prompt="a dog, asleep",a bird', "prompt", ["a dog, asleep", "a bird"]),
        ("negative=none,dark", "negative", ["", "dark"]),
        ("Prompt S/R=cat <,dog <", "prompt", ["a cat <lora:cat:1>", "a dog <lora:cat:1>"]),
        ("strength=0.5,1", "prompt", ["a cat <lora:cat:0.5>", "a cat <lora:cat:1.0>"]),
        ("unet=0", "prompt", ["a cat <lora:cat:unet=0.0:te=1.0>"]),
        ("te=0", "prompt", ["a cat <lora:cat:unet=1.0:te=0.0>"]),
        ("lbw=OUTALL", "prompt", ["a cat <lora:cat:1.0:lbw=OUTALL>"]),
        ("lora=dog v1.5,none", "prompt", ["a cat <lora:dog v1.5:1.0>", "a cat"]),
    ],
)
def test_what_an_axis_changes(
    sources: Sources, axis: str, field: str, expected: list[object]
) -> None:
    found = requests(grid_of(sources, axis))
    assert [getattr(request, field) for request in found] == expected
    untouched = replace(BASE.request, **{field: None})
    assert all(replace(request, **{field: None}) == untouched for request in found)


def test_schedule_size_model_and_vae(sources: Sources) -> None:
    base = replace(BASE, request=replace(BASE.request, sampler="euler"))
    grid = grid_of(sources, "schedule=Karras,automatic", "size=64x32,32x64", base=base)
    assert [(r.schedule, r.width, r.height) for r in requests(grid)] == [
        ("karras", 64, 32), ("automatic", 64, 32), ("karras", 32, 64), ("automatic", 32, 64),
    ]  # fmt: skip
    grid = grid_of(sources, "checkpoint=demo,other/demo", "vae=own,a.vae.pt")
    assert [(cell.spec.model.path, cell.spec.model.vae) for cell in grid.cells] == [
        ("demo", None), ("other/demo", None), ("demo", "a.vae.pt"), ("other/demo", "a.vae.pt"),
    ]  # fmt: skip
    assert [value.label for value in grid.axes[0].values] == ["demo", "other/demo"]


def test_the_documented_search_and_replace(sources: Sources) -> None:
    base = CellSpec(ImageRequest("a man holding an apple, 8k clean"))
    grid = grid_of(sources, "sr=an apple, a watermelon, a gun", base=base)
    assert [request.prompt for request in requests(grid)] == [
        "a man holding an apple, 8k clean",
        "a man holding a watermelon, 8k clean",
        "a man holding a gun, 8k clean",
    ]


def test_the_triggers_of_a_dataset(sources: Sources, tmp_path: Path) -> None:
    """Each in the place of the longest that is in the prompt."""
    for name, caption in {"a": "zorp, hat", "b": "zorp, red hat", "c": "zorp, hat, dog"}.items():
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(caption, encoding="utf-8")
    base = CellSpec(ImageRequest("a zorp, red hat, smile"))
    grid = grid_of(sources, f"triggers={tmp_path},1:2", base=base)
    assert [request.prompt for request in requests(grid)] == [
        "a zorp, hat, smile", "a zorp, red hat, smile",
    ]  # fmt: skip
    (value,) = parse_axis("--x", f"trigger={tmp_path}", sources).values
    assert value.label == "zorp"
    with pytest.raises(PromptError, match="the prompt has none of zorp"):
        grid_of(sources, f"triggers={tmp_path}")
    with pytest.raises(PromptError, match="has tags there"):
        grid_of(sources, f"triggers={tmp_path},7:8")


def test_the_guides_way_to_compare_epochs_by_search_and_replace(sources: Sources) -> None:
    grid = grid_of(sources, "sr=cat:1,dog v1.5:1", "strength=0.6,1")
    tags = [parse_prompt(request.prompt).loras[0] for request in requests(grid)]
    assert [(tag.name, tag.unet) for tag in tags] == [
        ("cat", 0.6), ("dog v1.5", 0.6), ("cat", 1.0), ("dog v1.5", 1.0),
    ]  # fmt: skip


@pytest.fixture
def run(model, tmp_path: Path) -> Path:
    from tests.unit.conftest import write_lora

    for epoch in (1, 2):
        write_lora(tmp_path / "bear" / f"bear-{epoch:06d}.safetensors", model, epoch)
    write_lora(tmp_path / "bear" / "bear.safetensors", model, 3)
    return tmp_path / "bear"


def test_epochs_by_strengths_with_the_base_model(sources: Sources, run: Path) -> None:
    base = CellSpec(ImageRequest("a bear <lora:cat:0.5>"))
    grid = grid_of(sources, f"epoch={run}:0-3", "strength=0.5,1", base=base)
    assert [value.label for value in grid.axes[0].values] == [
        "no LoRA", "epoch 1", "epoch 2", "epoch 3",
    ]  # fmt: skip
    # Another LoRA of the prompt stays; the base model is one image, whatever the strength.
    first, *_ = requests(grid)
    assert first.prompt == "a bear <lora:cat:0.5>"
    assert len({cell.spec for cell in grid.cells}) == 7
    names = {tag.name for request in requests(grid) for tag in parse_prompt(request.prompt).loras}
    assert names == {"cat", "bear-000001", "bear-000002", "bear"}
    assert sources.library.find("bear") == run / "bear.safetensors"


def test_parts_after_a_run_are_of_the_same_run(sources: Sources, run: Path) -> None:
    grid = grid_of(sources, f"epoch={run}:1,2-3,last")
    assert [value.label for value in grid.axes[0].values] == ["epoch 1", "epoch 2", "epoch 3"]


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        (["sede=1"], "did you mean seed?"),
        (["seed"], "no values"),
        (["seed=a"], "'a' is not a whole number"),
        (["seed=-1"], "--x seed"),
        (["steps=0,20"], "--x steps: 0 is out of range"),
        (["sampler=eulr"], "did you mean euler?"),
        (["schedule=karass"], "did you mean karras?"),
        (["size=big"], "is not a size"),
        (["lora=bat"], "did you mean cat?"),
        (["lora=twin"], "2 files have this name"),
        (["epoch=nowhere:1-3"], "no such run"),
        (["lbw=OUTAL"], "OUTAL"),
        (["sr=dog,bird"], "neither in the prompt"),
        (["seed@cat=1"], "does not change"),
        (["strength@dog=1"], "its LoRAs: cat"),
        (["denoise=0.5"], "no picture to begin with"),
        (["seed=1-2", "seed=3"], "both change the same thing"),
        (["strength=1", "unet=0.5"], "both change the same thing"),
        (["prompt=<lora:bat:1>"], "no such LoRA"),
        (["seed=1-1000", "steps=1-1000"], "more than"),
    ],
)
def test_what_is_wrong_is_told(sources: Sources, texts: list[str], part: str) -> None:
    with pytest.raises(PromptError) as error:
        grid_of(sources, *texts)
    assert part in str(error.value), str(error.value)


@pytest.mark.parametrize("kind", AXIS_TYPES, ids=lambda kind: kind.name)
def test_every_example_is_a_list_of_its_kind(kind) -> None:
    if kind.name not in ("lora", "epoch", "triggers"):  # Theirs name files.
        assert len(
            parse_axis("--x", f"{kind.name}={kind.example}", Sources(LoraLibrary(None))).values
        )


def test_all_axes_of_the_web_ui_that_we_have_are_known_by_its_names() -> None:
    titles = ("Seed", "Steps", "CFG Scale", "Prompt S/R", "Sampler", "Schedule type", "Size",
              "Checkpoint name", "VAE", "Clip skip", "Denoising", "Eta")  # fmt: skip
    known = {
        "".join(filter(str.isalnum, n.lower())) for k in AXIS_TYPES for n in (k.name, *k.aliases)
    }
    assert {"".join(filter(str.isalnum, title.lower())) for title in titles} <= known


def test_a_digest_changes_with_everything_that_the_image_is_made_from(
    lora_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "cat.safetensors"
    copy.write_bytes((lora_folder / "cat.safetensors").read_bytes())

    def digest(spec: CellSpec = BASE, precision: str = "float32") -> str:
        sources = find_sources(tmp_path)
        return Identity(sources, {"demo": precision}).digest(spec)

    first = digest()
    assert digest() == first
    others = [digest(BASE.asking(seed=1)), digest(precision="bfloat16")]
    copy.write_bytes((lora_folder / "deep" / "dog v1.5.safetensors").read_bytes())
    others.append(digest())
    # The name of an embedding in a tag is none in the text.
    save_file({"emb_params": torch.ones(1, 8)}, tmp_path / "zorp.safetensors")
    assert digest(BASE.asking(prompt="a <lora:zorp:1>")) != digest(BASE.asking(prompt="a zorp"))
    of_word = digest(BASE.asking(prompt="a zorp"))
    save_file({"emb_params": torch.zeros(1, 8)}, tmp_path / "zorp.safetensors")
    others += [of_word, digest(BASE.asking(prompt="a zorp"))]
    assert len({first, *others}) == 6


def setup_of(model: str, vae: str, lora: str, seed: int) -> CellSpec:
    prompt = f"a cat <lora:{lora}:1>" if lora else "a cat"
    return CellSpec(ImageRequest(prompt, seed=seed), ModelReference(model, vae=vae or None))


def cost(order: Sequence[CellSpec]) -> tuple[int, int, int]:
    switches = count_switches(order)
    return switches.models, switches.vaes, switches.loras


@given(
    models=st.integers(1, 2),
    vaes=st.integers(1, 2),
    loras=st.integers(1, 3),
    seeds=st.integers(1, 2),
    data=st.data(),
)
def test_no_order_of_a_grid_switches_less(
    models: int, vaes: int, loras: int, seeds: int, data: st.DataObject
) -> None:
    """Against every order of the states; images of one state cost nothing more."""
    parts = ("ab"[:models], "vw"[:vaes], "xyz"[:loras], range(seeds))
    specs = [setup_of(*place) for place in itertools.product(*parts)]
    order = work_order(data.draw(st.permutations(specs)))
    assert sorted(map(repr, order)) == sorted(map(repr, specs))
    states = {state(spec): spec for spec in specs}
    if len(states) <= 6:
        assert cost(order) == min(cost(o) for o in itertools.permutations(states.values()))
    # And by counting: each model once, each of its VAEs once, LoRAs carried over between VAEs.
    within = vaes * (loras - 1) + 1 if loras > 1 else 1
    assert cost(order) == (models, models * (vaes - 1), models * within)


def test_row_by_row_would_switch_at_each_image(sources: Sources) -> None:
    grid = grid_of(sources, "lora=cat,dog v1.5,none", "seed=1-4")
    specs = [cell.spec for cell in grid.cells]
    assert count_switches(specs) == SwapCost(1, 0, 8)
    assert count_switches(work_order(specs)) == SwapCost(1, 0, 2)
