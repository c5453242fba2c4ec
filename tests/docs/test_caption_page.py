"""The commands of docs/dataset-caption.md run, with tiny models under the names of real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.docs.test_docs import ROOT, command_lines
from tests.openai_stub import Server, says, serving
from tests.recipes.runs import small_dataset
from tests.tiny_captioners import tiny_blip, tiny_florence2, tiny_llava

from lorasmith.cli.main import cli
from lorasmith.core.errors import CheckpointError
from lorasmith.curation.captioner.conventions import KNOWN, convention_of, read_model_folder
from lorasmith.curation.captioner.repair import cut_loops, without_words
from lorasmith.jobs.dataset import captioning

PAGE = ROOT / "docs" / "dataset-caption.md"
SERVERS = ("http://localhost:11434", "http://localhost:1234", "https://api.example.com")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In a folder with all that the page names; the models are never fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_KEY", "secret")
    small_dataset(tmp_path / "pictures")
    for path in (tmp_path / "pictures").rglob("*_001.txt"):
        path.unlink()
    tiny_blip(tmp_path / "models" / "blip")
    folders = {
        "florence2": tiny_florence2(tmp_path / "hub" / "florence2"),
        "joycaption": tiny_llava(tmp_path / "hub" / "joycaption", width=64),
    }
    (tmp_path / "run.toml").write_text("[train]\nseed = 3\n")

    def find(name: str, check: object):
        return read_model_folder(folders.get(name, Path(name)), name)

    monkeypatch.setattr("lorasmith.curation.captioner.conventions.find_model", find)
    with serving() as stub:
        stub.answer = lambda request: (
            says("a star") if request["body"] else (200, {"data": [{"id": "cats"}]}, {})
        )
        yield stub


@pytest.mark.slow
def test_every_command_runs(server: Server) -> None:
    lines = list(command_lines(PAGE.read_text(encoding="utf-8")))
    assert len(lines) >= 12
    for line in lines:
        for address in SERVERS:
            line = line.replace(address, server.address)
        words = shlex.split(line)[1:]
        if words[1] == "caption":
            next(Path("pictures/img").rglob("*.txt")).unlink()
            words += [] if "--max-tokens" in words else ["--max-tokens", "6"]
            words += [] if "--yes" in words else ["--yes"]
        if words[1] == "regularize":
            words += ["--steps", "1"]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert any(Path("other-reg").rglob("*.png"))
    assert Path("pictures/metadata.jsonl").exists()
    assert len(server.requests) > 2


@pytest.mark.slow
def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_dataset(tmp_path / "pictures")
    next((tmp_path / "pictures" / "img").rglob("*.txt")).unlink()
    tiny_blip(tmp_path / "models" / "blip")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["report"].applied.counts == {"new": 1}
    assert names["plan"].counts() == {"write": 5}


def test_the_table_names_the_models_that_are_known() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| name |")[2].partition("\n\n")[0]
    for name, known in KNOWN.items():
        assert f"`{name}`" in table
        assert known.repository in table or known.repository.rpartition("-")[0] in table
    field = captioning.CaptionRequest.model_fields["model"].description or ""
    assert all(name in field for name in KNOWN)


def test_what_it_says_of_models_is_so() -> None:
    assert convention_of("florence2").prompts == {"descriptive": "<MORE_DETAILED_CAPTION>"}
    assert {convention_of(kind).manner for kind in ("blip", "git")} == {"continues"}
    assert convention_of("qwen3_vl").manner == "chat"


def test_what_it_says_of_repair_is_so() -> None:
    assert cut_loops("a cat on a mat on a mat on a mat on a") == "a cat on a mat"
    text = "a girl with black hair and blue eyes"
    assert without_words(text, ["black hair"]) == "a girl with blue eyes"


def test_a_real_name_needs_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lorasmith.curation.captioner.conventions import find_model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(CheckpointError, match="hub"):
        find_model("blip")


def test_what_caption_generator_forbids_leaves_a_sentence() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("\n", " ")
    before, theirs, ours = re.findall(
        r'"(a girl with [^"]+)"', text.split("draws its words by lot")[1]
    )
    # As its clean_caption does it: the phrase goes, then doubled spaces.
    assert re.sub(r"\s+", " ", before.replace("black hair", "")) == theirs
    assert without_words(before, ["black hair"], "descriptive") == ours
