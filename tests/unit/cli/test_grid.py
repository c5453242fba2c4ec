"""``lorasmith grid`` from the outside: files, messages, exit statuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.made_up_runs import write_run

from lorasmith.adapters.file import save_lora
from lorasmith.adapters.network import AdapterNetwork
from lorasmith.cli.main import cli
from lorasmith.config.dump import dump_toml
from lorasmith.config.load import load_settings
from lorasmith.core.files import read_safetensors_header
from lorasmith.formats.embedding_keys import WORD, bundled
from lorasmith.models.embedding_file import save_embedding
from lorasmith.models.load import load_model
from lorasmith.models.open import locate
from lorasmith.prompts.infotext import Infotext
from lorasmith.sampling.infotext import read_infotext
from lorasmith.tensors.rng import normal

FAST = ("--steps", "1", "--cfg", "1", "--size", "32x32")


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["grid", *args])
    assert "Traceback" not in result.output, result.output
    return result


def write_settings(folder: Path, **more: str) -> None:
    prompts = ["red body, star", "zorp, star", "zorp, smile"]
    overrides = {
        "data.path": "pictures",
        "captions.trigger": "zorp",
        "sample.prompts": json.dumps(prompts),
        "sample.seed": "40",
        "sample.steps": "1",
        "sample.cfg": "2",
        "sample.size": "32",
    }
    text = dump_toml(load_settings(None, {**overrides, **more}))
    (folder / "settings.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run of two epochs, as far as a grid looks at it."""
    folder = tmp_path / "runs" / "zorp"
    folder.mkdir(parents=True)
    write_settings(folder)
    network = AdapterNetwork.create(load_model("demo").adapter_roots(), rank=1)
    for name in ("zorp-000001", "zorp"):
        save_lora(folder / f"{name}.safetensors", network.state_dict(), {"name": name})
    return folder


def infos(folder: Path) -> list[Infotext]:
    found = [read_infotext(path) for path in sorted((folder / "cells").iterdir())]
    return [info for info in found if info is not None]


@pytest.mark.slow
def test_a_grid_and_its_files(tmp_path) -> None:
    result = run("red body", "--x", "seed=1-2", "--y", "sr=red,green", *FAST)
    assert result.exit_code == 0, result.output
    assert "4 pictures drawn" in result.output
    names = {path.name for path in (tmp_path / "grid").iterdir()}
    files = {"grid.html", "grid.json", "grid.png", "grid.webp", "grid-small.jpg"}
    assert names == {"cells", *files}
    assert {info.prompt for info in infos(tmp_path / "grid")} == {"red body", "green body"}
    again = run("red body", "--x", "seed=1-2", "--y", "sr=red,green", *FAST)
    assert "0 pictures drawn" in again.output
    assert "4 were there already" in again.output


@pytest.mark.slow
def test_prompts_may_be_an_axis_in_any_spelling(tmp_path) -> None:
    result = run("--x", "Prompt=red body,blue body", "--prediction", "v", *FAST)
    assert result.exit_code == 0, result.output
    assert {info.settings["Prediction"] for info in infos(tmp_path / "grid")} == {"v"}
    assert {info.prompt for info in infos(tmp_path / "grid")} == {"red body", "blue body"}


@pytest.mark.slow
def test_a_second_pass_by_how_much_it_draws_anew(tmp_path) -> None:
    result = run("red body", "--x", "denoise=0.2,0.7", "--hires", "2", "--hires-steps", "2", *FAST)
    assert result.exit_code == 0, result.output
    found = infos(tmp_path / "grid")
    assert {info.settings["Denoising strength"] for info in found} == {"0.2", "0.7"}
    assert {info.settings["Hires upscale"] for info in found} == {"2"}
    sizes = {Image.open(path).size for path in (tmp_path / "grid" / "cells").iterdir()}
    assert sizes == {(64, 64)}


@pytest.mark.slow
def test_the_grid_of_a_run_in_one_word(trained: Path) -> None:
    result = run("--epochs", "zorp", "--strengths", "0.5,1")
    assert result.exit_code == 0, result.output
    found = infos(trained / "grid")
    assert len(found) == 4
    assert {info.prompt for info in found} == {
        f"zorp, star <lora:{name}:{strength}>"
        for name in ("zorp-000001", "zorp")
        for strength in (0.5, 1.0)
    }
    # The second of its sample prompts is the first with the trigger, and has the second seed.
    wanted = {"Seed": "41", "Steps": "1", "CFG scale": "2", "Size": "32x32", "Model": "demo"}
    assert all(wanted.items() <= info.settings.items() for info in found)
    record = json.loads((trained / "grid" / "grid.json").read_text())
    assert [axis["values"] for axis in record["axes"]] == [["epoch 1", "epoch 2"], ["0.5", "1"]]


def test_a_dry_run_says_what_would_be_drawn(trained: Path) -> None:
    result = run("--epochs", "zorp", "--strengths", "0.5,1", "--z", "seed=1,2", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("2 by 2, 2 pages: 8 pictures to draw\n")
    assert not (trained / "grid").exists()


@pytest.mark.slow
def test_options_win_over_the_runs_own_words(trained: Path, tmp_path: Path) -> None:
    args = ("--epochs", "runs/zorp:last", "--strengths", "1", "--seed", "7", "--out", "here")
    result = run("a zorp", *args, "--z", "negative=none,dark")
    assert result.exit_code == 0, result.output
    found = infos(tmp_path / "here")
    assert {(info.prompt, info.negative) for info in found} == {
        ("a zorp <lora:zorp:1.0>", ""), ("a zorp <lora:zorp:1.0>", "dark"),
    }  # fmt: skip
    assert {info.settings["Seed"] for info in found} == {"7"}


@pytest.mark.slow
def test_another_programs_run_needs_a_prompt(trained: Path) -> None:
    (trained / "settings.toml").unlink()
    result = run("--epochs", "zorp")
    assert result.exit_code == 2
    assert "PROMPT: is missing" in result.output
    assert run("zorp", "--epochs", "zorp:1", "--strengths", "1", *FAST).exit_code == 0


@pytest.fixture
def of_embedding(trained: Path) -> Path:
    """A run of two epochs of an embedding."""
    for path in trained.glob("*.safetensors"):
        path.unlink()
    write_settings(trained, **{"train.kind": "embedding", "embedding.names": "zorp"})
    for name, seed in (("zorp-000001", 1), ("zorp", 2)):
        vectors = normal((2, 64), seed, name)
        save_embedding(trained / f"{name}.safetensors", {"emb_params": vectors}, {WORD: "zorp"})
    return trained


def one_picture(out: str, seed: int, *args: str) -> np.ndarray:
    """What `lorasmith generate` draws."""
    shown = ("--seed", str(seed), "--steps", "1", "--cfg", "2", "--size", "32x32", "--out", out)
    result = CliRunner().invoke(cli, ["generate", *args, *shown])
    assert result.exit_code == 0, result.output
    (path,) = Path(out).glob("*.png")
    return pixels(path)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def cells(folder: Path) -> list[np.ndarray]:
    """The pictures of a grid's only row."""
    record = json.loads((folder / "grid.json").read_text())
    return [pixels(folder / one["file"]) for one in record["cells"]]


def test_an_embeddings_epochs_are_drawn_by_their_files(of_embedding: Path, tmp_path: Path) -> None:
    result = run("(zorp:1.2), star", "--epochs", "zorp")
    assert result.exit_code == 0, result.output
    found = infos(of_embedding / "grid")
    assert {info.prompt for info in found} == {"(zorp-000001:1.2), star", "(zorp:1.2), star"}
    first, second = cells(of_embedding / "grid")
    assert (first != second).any()
    # The same files elsewhere, under the word that they were trained as.
    for name, cell in (("zorp-000001", first), ("zorp", second)):
        alone = tmp_path / f"only {name}"
        alone.mkdir()
        shutil.copy(of_embedding / f"{name}.safetensors", alone / "zorp.safetensors")
        drawn = one_picture(f"by {name}", 40, "(zorp:1.2), star", "--embedding-dir", str(alone))
        assert np.array_equal(drawn, cell)


def test_what_is_to_be_avoided_stands_in_the_negative_prompt(of_embedding: Path) -> None:
    of_pairs = {"train.kind": "embedding", "embedding.negative": "true", "embedding.names": "zorp"}
    write_settings(of_embedding, **of_pairs, **{"sample.negative": "dark", "captions.trigger": ""})
    assert run("a star", "--epochs", "zorp").exit_code == 0
    found = {(info.prompt, info.negative) for info in infos(of_embedding / "grid")}
    assert found == {("a star", "zorp-000001, dark"), ("a star", "zorp, dark")}


def test_a_checkpoints_epochs_each_draw_as_a_model(trained: Path) -> None:
    for path in trained.glob("*.safetensors"):
        path.unlink()
    write_settings(trained, **{"train.kind": "full"})
    demo, metadata = load_file(locate("demo")), read_safetensors_header(locate("demo")).metadata
    first, second = (trained / f"{name}.safetensors" for name in ("zorp-000001", "zorp"))
    for path, factor in ((first, 1.1), (second, 1.4)):
        changed = {name: tensor * factor for name, tensor in demo.items() if ".out." in name}
        save_file({**demo, **changed}, path, metadata)
    result = run("--epochs", "zorp:0-2")
    assert result.exit_code == 0, result.output
    assert "base models 3" in result.output
    assert {info.prompt for info in infos(trained / "grid")} == {"zorp, star"}
    drawn = cells(trained / "grid")
    record = json.loads((trained / "grid" / "grid.json").read_text())
    assert record["axes"][0]["values"] == ["base model", "epoch 1", "epoch 2"]
    for number, model in enumerate(("demo", str(first), str(second))):
        alone = one_picture(f"by {number}", 41, "zorp, star", "--model", model)
        assert np.array_equal(alone, drawn[number])
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[1] != drawn[2]).any()
    clash = run("--epochs", "zorp", "--z", "checkpoint=demo", "--dry-run")
    assert "both change the same thing (checkpoint and epoch)" in " ".join(clash.output.split())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--epochs", "zorp", "--strengths", "1"), "what it trained has no strength"),
        (("--epochs", "zorp:0"), "the base model alone, which has no such word"),
        (("a star", "--epochs", "zorp"), "does not name the embedding"),
        (("zorp", "--x", "epoch@zorp=zorp"), "@zorp names a LoRA"),
    ],
)
def test_what_an_embeddings_grid_cannot_have(
    of_embedding: Path, args: tuple[str, ...], said: str
) -> None:
    result = run(*args, "--dry-run", "--lora-dir", "runs")
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_words_of_one_file_are_not_told_apart(of_embedding: Path) -> None:
    vectors = {bundled(name, "emb_params"): normal((1, 64), 1, name) for name in ("zorp", "hat")}
    for path in of_embedding.glob("*.safetensors"):
        save_embedding(path, vectors, {})
    result = run("--epochs", "zorp")
    assert result.exit_code == 2
    assert "has several words" in " ".join(result.output.split())


def test_pick_refuses_what_is_to_be_avoided_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "zorp"
    chosen = {"train.kind": "embedding", "embedding.negative": "true", "embedding.names": "zorp"}
    write_run(folder, **chosen)
    result = CliRunner().invoke(cli, ["pick", str(folder)])
    assert result.exit_code == 2
    text = " ".join(result.stderr.split())
    assert "pick does not judge it: it is an embedding to be avoided" in text
    assert "grid --epochs" in text
    assert "measuring" not in result.output


def test_a_run_without_prompts_is_told_once(trained: Path) -> None:
    (trained / "settings.toml").write_text("[sample]\nprompts = []\n", encoding="utf-8")
    (trained / "events.jsonl").unlink(missing_ok=True)
    result = run("--epochs", "zorp")
    assert result.exit_code == 2
    assert "has no sample prompts" in result.output
    assert "PROMPT: is missing" not in result.output


def test_all_mistakes_are_told_at_once(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "grid.html").write_text("mine")
    result = run(
        "star",
        *("--x", "strength=1", "--y", "sampler=eulr", "--z", "steps=0,20"),
        *("--cfg=-1", "--device=toaster", "--model", "nowhere.safetensors", "--out", "out"),
    )
    assert result.exit_code == 2
    for part in (
        "has no LoRA to change",
        "did you mean euler?",
        "toaster",
        "nowhere.safetensors",
        "grid.html would be overwritten",
    ):
        assert part in result.output, (part, result.output)
    assert not list((tmp_path / "out").glob("cells*"))


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("star",), "nothing varies"),
        (("star", "--x", "sede=1"), "did you mean seed?"),
        (("star", "--x", "seed=1", "--strengths", "1"), "--strengths: belongs to --epochs"),
        (("--epochs", "nowhere"), "no such run"),
        (("--x", "negative prompt=none,blurry"), "PROMPT: is missing"),
        (("--epochs", "a", "--x", "seed=1"), "only --z"),
        (("star", "--x", "seed=1", "--cfg", "-1"), "--cfg: -1"),
        (("star", "--x", "clip skip=1,99"), "99 is no CLIP skip"),
        (("star", "--x", "seed=1", "--size", "big"), '--size: "big"'),
        (("star", "--x", "seed=1", "--lora-dir", "nowhere"), "--lora-dir"),
        (("star", "--x", "checkpoint=demo,nowhere.ckpt"), "nowhere.ckpt"),
        (("star", "--x", "vae=own,nowhere.vae.pt"), "nowhere.vae.pt"),
        (("star", "--x", "seed=1", "--hires-steps", "4"), "--hires-steps: does nothing without"),
        (("star", "--x", "seed=1", "--hires", "20"), "--hires: 20.0 is out of range"),
        (("star", "--x", "denoise=0.2"), "add --init or --hires"),
    ],
)
def test_single_mistakes(args: tuple[str, ...], part: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert part in result.output, result.output
