"""``lorasmith dataset caption`` from the outside: tiny models from folders, and a server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tests.openai_stub import Server, says, serving
from tests.tiny_captioners import tiny_blip, tiny_florence2, tiny_llava

from lorasmith.cli.main import cli
from lorasmith.curation.captioner import local

MAKERS = {"blip": tiny_blip, "florence2": tiny_florence2, "llava": tiny_llava}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: make(folder / name) for name, make in MAKERS.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "set" / "10_zorp"
    folder.mkdir(parents=True)
    for number, name in enumerate("abc"):
        Image.new("RGB", (40 + number, 30), ("red", "blue", "white")[number]).save(
            folder / f"{name}.png"
        )
    (folder / "b.txt").write_bytes(b"mine\r\n")
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as stub:
        yield stub


def caption(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["dataset", "caption", *map(str, arguments)])
    assert "Traceback" not in result.output, result.output
    return result


def captions(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_bytes().decode() for path in sorted(folder.glob("*.txt"))}


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", MAKERS)
def test_through_the_verb_and_back(models, folder: Path, name: str) -> None:
    before = captions(folder)
    options = ["--model", models[name], "--max-tokens", 9, "--prefix", "zorp,", "--batch", 2]
    result = caption("set", *options, "--yes")
    assert result.exit_code == 0, result.output
    after = captions(folder)
    assert set(after) == {"a", "b", "c"}
    assert after["b"] == "mine\r\n"
    assert after["a"].startswith("zorp, ")
    assert len(after["a"]) > len("zorp, \n")
    assert "2 files new" in result.output
    assert CliRunner().invoke(cli, ["dataset", "undo", "set"]).exit_code == 0
    assert captions(folder) == before


@pytest.mark.slow
def test_nothing_is_written_unasked_and_nothing_is_asked_twice(models, folder, monkeypatch) -> None:
    options = ["set", "--model", models["blip"], "--max-tokens", 5]
    result = caption(*options)
    assert result.exit_code == 2
    assert "add --yes" in result.output
    assert caption(*options, "--dry-run").exit_code == 0
    assert set(captions(folder)) == {"b"}

    def fail(*arguments: object) -> None:
        raise AssertionError("the model was asked again")

    monkeypatch.setattr(local.LocalCaptioner, "_generate", fail)
    assert caption(*options, "--yes", "--suffix", "on a wall").exit_code == 0
    assert captions(folder)["a"].endswith(" on a wall\n")


@pytest.mark.slow
def test_a_filter_and_a_table(models, folder: Path) -> None:
    options = ["--model", models["florence2"], "--where", "name:a*", "--max-tokens", 5]
    result = caption("set", *options, "--jsonl", "set/metadata.jsonl", "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert set(captions(folder)) == {"a", "b"}
    rows = [json.loads(line) for line in Path("set/metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == ["10_zorp/a.png", "10_zorp/b.png"]
    assert rows[0]["text"] == captions(folder)["a"].strip()
    changes = json.loads(result.stdout)["changes"]
    assert {Path(change["path"]).name for change in changes} == {"a.txt", "metadata.jsonl"}


def test_a_server_captions(server: Server, folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", "hunter2")
    server.replies = [says("<think>hm</think>1girl, red hat, black hair\nred hat")]
    options: list[object] = [
        "--endpoint",
        server.address,
        "--model",
        "llava",
        "--key-env",
        "MY_KEY",
    ]
    options += ["--style", "tags", "--blacklist", "black hair", "--mode", "append", "--batch", 3]
    result = caption("set", *options, "--yes")
    assert result.exit_code == 0, result.output
    assert captions(folder) == {
        "a": "1girl, red hat\n",
        "b": "mine, 1girl, red hat\r\n",
        "c": "1girl, red hat\n",
    }
    assert {request["headers"]["Authorization"] for request in server.requests} == {
        "Bearer hunter2"
    }
    assert "tags" in server.requests[0]["body"]["messages"][0]["content"][0]["text"]
    written = [path for path in Path("set").rglob("*") if path.is_file()]
    assert not [path for path in written if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in result.output


def test_a_server_that_fails_midway_loses_nothing(server: Server, folder: Path) -> None:
    server.replies = [says("one"), (401, {}, {})]
    options = ["set", "--endpoint", server.address, "--model", "m"]
    result = caption(*options, "--yes")
    assert result.exit_code == 2
    assert "answers 401" in " ".join(result.output.split())
    assert set(captions(folder)) == {"b"}
    server.replies, asked = [says("two")], len(server.requests)
    assert caption(*options, "--yes").exit_code == 0
    assert captions(folder) == {"a": "one\n", "b": "mine\r\n", "c": "two\n"}
    assert len(server.requests) == asked + 1


def test_pictures_stay_here_unless_they_may_go(folder: Path) -> None:
    result = caption("set", "--endpoint", "https://api.example.com/v1", "--model", "m")
    assert result.exit_code == 2
    text = " ".join(result.output.split())
    assert "--endpoint: api.example.com is another machine" in text
    assert "--allow-upload" in text


def test_empty_captions_are_listed(server: Server, folder: Path) -> None:
    server.replies = [says("a cat"), says("  ")]
    result = caption("set", "--endpoint", server.address, "--model", "m", "--yes")
    assert result.exit_code == 2
    assert "c.png: the captioner wrote nothing" in " ".join(result.output.split())
    assert set(captions(folder)) == {"a", "b"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "--model: there is no captioning model"),
        (["--model", "blop"], "did you mean blip?"),
        (["--model", "m", "--timeout", "3"], "--timeout: does nothing without --endpoint"),
        (["--endpoint", "http://localhost", "--beams", "3"], "--beams: does nothing with"),
        (["--model", "m", "--min-tokens", "300"], "--min-tokens: 300 is more than"),
        (["--endpoint", "http://localhost", "--key-env", "NOT_SET"], "NOT_SET is not set"),
        (["--model", "m", "--max-tokens", "0"], "--max-tokens"),
        (["--endpoint", "localhost"], "--endpoint: 'localhost' is not the address"),
    ],
)
def test_mistakes(folder: Path, options: list[str], text: str) -> None:
    result = caption("set", *options)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


@pytest.mark.slow
def test_tags_need_a_model_that_is_talked_to(models, folder: Path) -> None:
    result = caption("set", "--model", models["blip"], "--style", "tags")
    assert result.exit_code == 2
    assert "--style" in result.output
    assert caption("set", "--model", models["llava"], "--style", "tags", "--yes").exit_code == 0


def test_float16_on_a_processor_is_told(models, folder: Path) -> None:
    result = caption("set", "--model", models["blip"], "--precision", "fp16", "--device", "cpu")
    assert result.exit_code == 2
    assert "--precision: fp16" in " ".join(result.output.split())


def test_a_folder_that_is_broken(models, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models["blip"], tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"no")
    result = caption("set", "--model", "m", "--yes")
    assert result.exit_code == 2
    assert "cannot be used" in " ".join(result.output.split())
