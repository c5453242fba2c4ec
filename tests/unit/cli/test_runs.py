"""``lorasmith runs``: what is typed, and what is answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import save_file
from tests.made_up_runs import safetensors, write_run

from lorasmith.cli.main import cli
from lorasmith.formats.embedding_keys import WORD
from lorasmith.jobs.queue.ledger import Ledger


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_run(tmp_path / "runs" / "zorp")


def runs(*words: str) -> Result:
    return CliRunner().invoke(cli, ["runs", *words])


def test_runs_are_listed_renamed_removed_and_brought_back(run: Path) -> None:
    assert "20 of 40" in runs("list").stdout
    (listed,) = json.loads(runs("list", "runs", "--json").stdout)
    assert (listed["name"], listed["kind"], listed["picked"]) == ("zorp", "lora", "")
    assert runs("rename", "runs/zorp", "blarg").stdout == f"is now {run.with_name('blarg')}\n"
    (removed,) = json.loads(runs("remove", "runs/blarg", "--json").stdout)
    assert runs("list").stdout.startswith("There are no runs here")
    (kept,) = json.loads(runs("list", "--removed", "--json").stdout)
    assert kept["name"] == "blarg"
    assert str(Path(kept["kept"]).absolute()) == removed["kept"]
    assert "blarg, lora, step 20: lorasmith runs restore " in runs("list", "--removed").stdout
    assert runs("restore", removed["kept"]).exit_code == 0
    assert runs("remove", "runs/blarg", "--for-good").stdout == "runs/blarg is deleted\n"
    assert list(Path("runs").rglob("*.safetensors")) == []


def test_an_embedding_is_renamed_and_its_word_told(run: Path) -> None:
    save_file({"emb_params": torch.ones(1, 4)}, run / "zorp.safetensors", {WORD: "zorp"})
    said = runs("rename", "runs/zorp", "hello").stdout.splitlines()
    assert said[0] == f"is now {run.with_name('hello')}"
    assert said[1].startswith("its word in web UIs is now hello; ")
    assert "`lorasmith generate --embedding-dir" in said[1]
    assert len(runs("rename", "runs/hello", "zorp").stdout.splitlines()) == 1


def test_a_lora_file_is_renamed(run: Path) -> None:
    other = run.parent.parent / "other.safetensors"
    other.write_bytes(b"")
    assert runs("rename", "other.safetensors", "new").stdout == "is now new.safetensors\n"
    assert json.loads(runs("rename", "new.safetensors", "x", "--json").stdout) == {
        "lora": "x.safetensors"
    }


@pytest.mark.parametrize("named", ["zorp", "runs/zorp", "runs/.lorasmith/trash/zorp"])
def test_a_removed_run_is_found_by_its_name_or_the_path_it_had(run: Path, named: str) -> None:
    runs("remove", "runs/zorp")
    assert runs("restore", named).exit_code == 0
    assert run.is_dir()


def test_of_two_removed_runs_of_one_name_one_is_chosen(run: Path) -> None:
    runs("remove", "runs/zorp")
    missing = runs("restore", "blarg")
    assert "lorasmith runs list --removed" in missing.output
    write_run(run)
    runs("remove", "runs/zorp")
    told = " ".join(runs("restore", "zorp").output.split())
    assert "is in the trash more than once" in told
    assert "runs/.lorasmith/trash/zorp-2" in told


def test_none_is_removed_where_one_cannot_be(run: Path) -> None:
    other = write_run(run.with_name("blarg"))
    words = ("remove", "runs/zorp/zorp.safetensors", "runs/nosuch", "runs/blarg", "runs/neither")
    refused = runs(*words)
    assert refused.exit_code == 2
    assert "runs/nosuch" in refused.stderr
    assert "runs/neither" in refused.stderr
    assert run.is_dir()
    assert other.is_dir()
    # The same run by two of its names goes once.
    twice = json.loads(runs("remove", "runs/zorp", "./runs/zorp", "runs/blarg", "--json").stdout)
    assert [Path(each["run"]).name for each in twice] == ["zorp", "blarg"]
    assert not run.is_dir()
    assert not other.is_dir()


def test_a_drawing_becomes_a_loras_preview(run: Path) -> None:
    Image.new("RGB", (8, 8)).save("drawn.png")
    Image.new("RGB", (8, 8)).save("photo.jpg")
    (run / "zorp.safetensors").write_bytes(safetensors(40))
    place = run / "zorp.png"
    assert runs("preview", "runs/zorp", "drawn.png").stdout == f"is its preview now: {place}\n"
    assert place.read_bytes() == Path("drawn.png").read_bytes()
    answer = runs("preview", "runs/zorp/zorp-000001.safetensors", "drawn.png", "--json")
    assert json.loads(answer.stdout)["preview"] == "runs/zorp/zorp-000001.png"
    for words in (("runs/zorp", "photo.jpg"), ("runs/zorp", "none.png"), ("none", "drawn.png")):
        assert runs("preview", *words).exit_code == 2


def test_what_the_queue_needs_stays(run: Path) -> None:
    ledger = Ledger(Path())
    ledger.add(["pick", str(run)], "pick zorp", Path())
    for words in (("rename", "runs/zorp", "blarg"), ("remove", "runs/zorp")):
        refused = runs(*words)
        assert refused.exit_code == 2
        assert "job 1 (pick zorp) is queued and needs it" in refused.stderr
    assert run.is_dir()
