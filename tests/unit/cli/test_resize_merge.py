"""``lorasmith resize`` and ``lorasmith merge`` from the outside."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tests.unit.lora_tools.changes import lora_tensors, write

from lorasmith.cli.main import cli

LAYERS = {
    "lora_unet_mid_block_attentions_0_proj_in": (24, 20, 1, 1),
    "lora_te_text_model_encoder_layers_0_mlp_fc1": (32, 16),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.safetensors", lora_tensors(LAYERS, 8, seed=1))
    write(tmp_path / "b.safetensors", lora_tensors(LAYERS, 4, seed=2))
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, list(arguments))
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_resize(folder: Path) -> None:
    status, text = run("resize", "a.safetensors", "out.safetensors", "--rank", "2")
    assert status == 0, text
    assert "rank       8 -> 2" in text
    assert "M00" in text
    assert "BASE" in text
    assert "result     out.safetensors" in text
    assert load_file("out.safetensors")[f"{next(iter(LAYERS))}.lora_down.weight"].shape[0] == 2


def test_resize_dry(folder: Path) -> None:
    arguments = ("resize", "a.safetensors", "out.safetensors", "--retain", "0.9")
    status, dry = run(*arguments, "--dry-run", "--modules")
    assert status == 0, dry
    assert "out.safetensors not written" in dry
    assert not Path("out.safetensors").exists()
    _, text = run(*arguments)
    size = next(line for line in dry.splitlines() if line.startswith("size"))
    assert size in text


def test_resize_says_what_was_asked_for(folder: Path) -> None:
    """The share of the norm that --retain means, which numpy's singular values have too."""
    _, text = run("resize", "a.safetensors", "out.safetensors", "--retain", "0.98", "--dry-run")
    words = r"retain +0\.98 asked for; the modules have ([\d.]+)(?: to [\d.]+)? of their norm"
    said = re.search(words, text)
    assert said is not None, text
    tensors = load_file(folder / "a.safetensors")
    shares = []
    for name, down in tensors.items():
        if name.endswith("lora_down.weight"):
            up = tensors[name.replace("lora_down", "lora_up")]
            change = (up.flatten(1) @ down.flatten(1)).double().numpy()
            values = np.linalg.svd(change, compute_uv=False)
            kept = np.sqrt(np.cumsum(values**2) / np.sum(values**2))
            shares.append(float(kept[kept >= 0.98][0]))
    assert float(said[1]) == pytest.approx(min(shares), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "none of --rank"),
        (["--rank", "4", "--size", "2"], "--rank, --size: 2 of"),
        (["--rank", "0"], "--rank: 0 is not a rank"),
    ],
)
def test_resize_told_wrongly(folder: Path, options: list[str], said: str) -> None:
    status, text = run("resize", "a.safetensors", "out.safetensors", *options)
    assert status == 2
    assert said in text


def test_merge(folder: Path) -> None:
    arguments = ("merge", "a.safetensors:0.8", "b.safetensors:unet=1:te=0", "--out")
    status, text = run(*arguments, "out.safetensors")
    assert status == 0, text
    assert "a (0.8), b (unet 1, te 0)" in text
    assert "rank       8 to 12" in text
    status, text = run(*arguments, "small.safetensors", "--rank", "3", "--precision", "fp16")
    assert status == 0, text
    assert "rank       3\n" in text
    status, text = run(*arguments, "dry.safetensors", "--method", "dare", "--dry-run")
    assert status == 0, text
    assert not Path("dry.safetensors").exists()


def with_word(path: str, word: str, value: float) -> dict[str, torch.Tensor]:
    """The LoRA ``path`` with a word in it, written over it. Returns the word's tensor by name."""
    added = {f"bundle_emb.{word}.string_to_param.*": torch.full((2, 32), value)}
    tensors = load_file(path)
    write(Path(path), {**tensors, **added})
    return added


@pytest.mark.parametrize("rule", [("--rank", "2"), ("--size", "0.004")])
def test_resize_keeps_words_as_they_are(folder: Path, rule: tuple[str, str]) -> None:
    ((name, vectors),) = with_word("a.safetensors", "zorp", 0.123456789).items()
    arguments = ("resize", "a.safetensors", "out.safetensors", *rule, "--precision", "fp16")
    status, text = run(*arguments)
    assert status == 0, text
    assert "words      zorp, as they were" in text
    assert "dropped" not in text
    kept = load_file("out.safetensors")[name]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, vectors)
    if rule[0] == "--size":
        assert Path("out.safetensors").stat().st_size <= 4000


def test_merge_keeps_words_that_one_file_has(folder: Path) -> None:
    ((name, vectors),) = with_word("a.safetensors", "zorp", 0.25).items()
    status, text = run("merge", "a.safetensors:0.5", "b.safetensors", "--out", "one.safetensors")
    assert status == 0, text
    assert "words      zorp, as they were" in text
    assert torch.equal(load_file("one.safetensors")[name], vectors)
    with_word("b.safetensors", "zorp", 0.25)
    status, text = run("merge", "a.safetensors", "b.safetensors", "--out", "same.safetensors")
    assert name in load_file("same.safetensors"), text
    with_word("b.safetensors", "zorp", 0.5)
    status, text = run("merge", "a.safetensors", "b.safetensors", "--out", "two.safetensors")
    assert status == 0, text
    assert "dropped    the word zorp: a.safetensors and b.safetensors have it" in text
    assert name not in load_file("two.safetensors")
    # Of a file that has no weight nothing comes in.
    status, text = run("merge", "a.safetensors:0", "b.safetensors", "--out", "b2.safetensors")
    assert status == 0, text
    assert float(load_file("b2.safetensors")[name].max()) == 0.5


def test_nothing_is_overwritten(folder: Path) -> None:
    before = Path("a.safetensors").read_bytes()
    for arguments in (
        ("resize", "b.safetensors", "a.safetensors", "--rank", "2"),
        ("resize", "a.safetensors", "a.safetensors", "--rank", "2"),
        ("merge", "a.safetensors", "b.safetensors", "--out", "a.safetensors"),
        ("merge", "a.safetensors", "b.safetensors", "--out", "new.txt"),
    ):
        status, text = run(*arguments)
        assert status == 2, text
    assert Path("a.safetensors").read_bytes() == before


def test_all_that_is_wrong_at_once(folder: Path) -> None:
    status, text = run("merge", "a.safetensors:1:2:3", "b.safetensors:unet=x", "--out", "o.x")
    assert status == 2
    assert "2 errors" in text


def test_names_are_whole_however_narrow_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lorasmith.cli import console

    monkeypatch.setattr(console.console, "width", 50)
    for words in (
        ("resize", "a.safetensors", "o.safetensors", "--rank", "2"),
        ("merge", "a.safetensors", "b.safetensors", "--out", "o.safetensors"),
    ):
        _, text = run(*words, "--modules", "--dry-run")
        joined = "".join(line.split(" ")[0] for line in text.splitlines())
        assert all(key in joined for key in LAYERS)
