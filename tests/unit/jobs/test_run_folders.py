"""Runs renamed, put into the trash and brought back; LoRA files copied."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.made_up_runs import write_run

from lorasmith.core.errors import RunError, UserError
from lorasmith.core.locks import lock_file
from lorasmith.formats.embedding_keys import WORD
from lorasmith.jobs.queue.ledger import Ledger
from lorasmith.jobs.runs.folders import (
    copy_lora,
    remove_run,
    removed_runs,
    rename_lora,
    rename_run,
    restore_run,
)
from lorasmith.jobs.runs.reader import RunReader, find_runs
from lorasmith.training.runs.folder import RunFolder, write_info


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def flat_run(place: Path) -> Path:
    """A run whose files lie among those of ``other``."""
    run = write_run(place / "zorp")
    hidden = run.rename(place / ".zorp.lorasmith")
    (place / "sample").mkdir()
    for lora in hidden.glob("*.safetensors"):
        lora.rename(place / lora.name)
    (place / "zorp.safetensors").write_bytes(b"")
    (place / "zorp.json").write_text("{}", "utf-8")
    (place / "sample" / "zorp_000010_00_7.png").write_bytes(b"png")
    (place / "zorp-other.safetensors").write_bytes(b"another LoRA")
    return hidden


def test_files_of_its_words_go_with_a_run_that_is_removed(tmp_path: Path) -> None:
    place = tmp_path / "runs"
    place.mkdir()
    hidden = flat_run(place)
    folder = place / "embeddings"
    folder.mkdir()
    for word in ("murk", "another's"):
        (folder / f"{word}.safetensors").write_bytes(word.encode())
    (place / "murk.safetensors").write_bytes(b"a LoRA of that name")
    write_info(RunFolder(hidden), further_files=["embeddings/murk.safetensors"])
    before = files(place)
    kept = remove_run(hidden)
    assert kept is not None
    assert list(removed_runs(tmp_path)) == [kept]
    assert [path.name for path in folder.iterdir()] == ["another's.safetensors"]
    assert (place / "murk.safetensors").is_file()
    restore_run(kept)
    assert {name: data for name, data in files(place).items() if ".trash" not in name} == before
    assert RunFolder(place / ".." / "runs" / hidden.name).further_files
    new = rename_run(hidden, "blarg")
    assert RunFolder(new).further_files == [folder / "murk.safetensors"]
    assert (folder / "murk.safetensors").is_file()


@pytest.mark.parametrize("name", ["../../precious.txt", "x/../../../precious.txt", "/precious.txt"])
def test_no_file_outside_goes_with_a_run(tmp_path: Path, name: str) -> None:
    """Whoever wrote the run.json of a folder that was unpacked here may have named anything."""
    precious = tmp_path / "precious.txt"
    precious.write_text("x")
    run = write_run(tmp_path / "a" / "runs" / ".zorp.lorasmith")
    write_info(RunFolder(run), further_files=[name if name[0] != "/" else str(precious)])
    assert remove_run(run) is not None
    assert precious.is_file()


def test_a_lora_file_gets_another_name_with_what_lies_beside_it(tmp_path: Path) -> None:
    moved = {"a.safetensors", "a.png", "a.preview.png", "a.json"}
    for name in (*moved, "a.v2.safetensors", "a.v2.json", "ab.png"):
        (tmp_path / name).write_bytes(name.encode())
    before = files(tmp_path)
    (tmp_path / "c.json").write_bytes(b"another's card")
    with pytest.raises(RunError, match="is there already"):
        rename_lora(tmp_path / "a.safetensors", "c")
    (tmp_path / "c.json").unlink()
    assert files(tmp_path) == before
    assert rename_lora(tmp_path / "a.safetensors", "c") == tmp_path / "c.safetensors"
    assert files(tmp_path) == {
        f"c{name[1:]}" if name in moved else name: data for name, data in before.items()
    }
    for name in ("", ".c", "x/y", "a<b", "a:b", "con", "x" * 200):
        with pytest.raises(RunError, match="cannot name a LoRA"):
            rename_lora(tmp_path / "c.safetensors", name)
    with pytest.raises(UserError, match="is no LoRA file"):
        rename_lora(tmp_path / "c.png", "d")
    loud = tmp_path / "c.safetensors"
    loud = loud.rename(tmp_path / "c.SAFETENSORS")
    assert rename_lora(loud, "d").read_bytes() == b"a.safetensors"


def test_a_file_of_a_run_or_that_a_job_needs_keeps_its_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "zorp")
    (run / "zorp-merged.safetensors").write_bytes(b"made of it")
    with pytest.raises(RunError, match="is a file of a run"):
        rename_lora(run / "zorp-000001.safetensors", "other")
    ledger = Ledger(tmp_path)
    file = run / "zorp-merged.safetensors"
    job = ledger.add(["bake", "--lora=runs/zorp/zorp-merged.safetensors:0.8"], "bake", tmp_path)
    with pytest.raises(RunError, match=f"job {job.id} .* needs it"):
        rename_lora(file, "other", ledger)
    ledger.cancel(job.id)
    assert rename_lora(file, "other", ledger) == run / "other.safetensors"


def test_a_run_gets_another_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "zorp")
    (run / "zorp.json").write_text("{}", "utf-8")
    new = rename_run(run, "zorp, better")
    assert new == tmp_path / "runs" / "zorp, better"
    assert not run.exists()
    detail = RunReader().run(new)
    assert [lora.name for lora in detail.loras] == [
        "zorp, better-000001.safetensors",
        "zorp, better-000002.safetensors",
    ]
    assert (new / "zorp, better.json").is_file()
    assert (new / "samples").is_dir()
    assert rename_run(new, "zorp, better") == new


def test_the_cards_of_an_embedding_have_the_word_that_its_name_makes(tmp_path: Path) -> None:
    run = write_run(tmp_path / "zorp-2")
    save_file({"emb_params": torch.ones(1, 4)}, run / "zorp-2.safetensors", {WORD: "zorp"})
    card = {"activation text": "zorp-2, red", "notes": "é"}
    (run / "zorp-2.json").write_text(json.dumps(card), "utf-8")
    (run / "zorp-2.md").write_text("# zorp-2\n\n| trigger | `zorp-2, red` |\n| a | b |\n", "utf-8")
    new = rename_run(run, "hello")
    card = json.loads((new / "hello.json").read_text("utf-8"))
    assert card == {"activation text": "hello, red", "notes": "é"}
    page = (new / "hello.md").read_text("utf-8")
    assert page == "# zorp-2\n\n| trigger | `hello, red` |\n| a | b |\n"
    (new / "hello.json").write_text("somebody's", "utf-8")
    assert (rename_run(new, "zorp") / "zorp.json").read_text("utf-8") == "somebody's"
    assert "| trigger | `zorp, red` |" in (tmp_path / "zorp" / "zorp.md").read_text("utf-8")
    # What is to be avoided stands elsewhere.
    again = tmp_path / "zorp"
    avoided = {"activation text": "", "negative text": "zorp, ugly"}
    (again / "zorp.json").write_text(json.dumps(avoided), "utf-8")
    (again / "zorp.md").write_text("| trigger | `zorp`, for negative prompts |\n", "utf-8")
    awful = rename_run(again, "awful")
    card = json.loads((awful / "awful.json").read_text("utf-8"))
    assert card == {"activation text": "", "negative text": "awful, ugly"}
    page = (awful / "awful.md").read_text("utf-8")
    assert page == "| trigger | `awful`, for negative prompts |\n"
    # The trigger of a LoRA stays what it is, whatever its file is called.
    lora = write_run(tmp_path / "murk")
    (lora / "murk.json").write_text('{"activation text": "murk"}', "utf-8")
    assert (rename_run(lora, "b") / "b.json").read_text("utf-8") == '{"activation text": "murk"}'


def test_only_what_is_called_like_the_run_gets_its_new_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "zorp")
    write_info(RunFolder(run), further_files=["-rank16.safetensors"])
    for name in ("zorp", "zorp-rank16", "best", "a", "zorp-rank4"):
        (run / f"{name}.safetensors").write_text(name, "utf-8")
    for name in ("zorp.preview.png", "zorp-000001.png", "best.png"):
        (run / name).write_text(name, "utf-8")
    before = files(run)
    new = files(rename_run(run, "new"))
    renamed = (".safetensors", "-000001.safetensors", "-000002.safetensors", "-rank16.safetensors",
               ".preview.png", "-000001.png")  # fmt: skip
    assert new == {
        f"new{name[4:]}" if name in {f"zorp{end}" for end in renamed} else name: content
        for name, content in before.items()
    }


def test_no_file_is_written_over_by_a_renamed_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "zorp")
    (run / "zorp.safetensors").write_bytes(b"the result")
    (run / "new.safetensors").write_bytes(b"a merge")
    (run / "zorp.json").write_text("{}", "utf-8")
    before = files(tmp_path)
    with pytest.raises(RunError, match=r"new\.safetensors is there already"):
        rename_run(run, "new")
    for name in ("run", "dataset", "Settings"):
        with pytest.raises(RunError, match="files that every run has are called that"):
            rename_run(run, name)
    for name in ("new-000001", "new-step00000010"):
        with pytest.raises(RunError, match="ends as the names of files do"):
            rename_run(run, name)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "other", ["blarg-000009.safetensors", "blarg.json", "sample/blarg_000010_03_7.png"]
)
def test_a_flat_run_takes_no_name_that_others_files_have(tmp_path: Path, other: str) -> None:
    run = flat_run(tmp_path)
    (tmp_path / other).write_bytes(b"somebody else's")
    before = files(tmp_path)
    with pytest.raises(RunError, match="is there already"):
        rename_run(run, "blarg")
    assert files(tmp_path) == before


def test_a_flat_runs_samples_go_with_it(tmp_path: Path) -> None:
    run = flat_run(tmp_path)
    others = ("zorp.v2.safetensors", "zorp.v2.png", "zorp-rank16.safetensors")
    for name in others:
        (tmp_path / name).write_bytes(b"another LoRA")
    new = rename_run(run, "blarg")
    drawn = [(number, image.name) for number, image in RunFolder(new).drawn_samples()]
    assert drawn == [(0, "blarg_000010_00_7.png")]
    assert remove_run(new, for_good=True) is None
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*others, "zorp-other.safetensors"}


@pytest.mark.parametrize("is_late", [False, True])
def test_ctrl_c_leaves_nothing_half_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    run, calls = flat_run(tmp_path), []

    def interrupted(old: Path, new: Path) -> None:
        calls.append(new)
        if len(calls) != 3 or is_late:
            old.rename(new)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("lorasmith.jobs.runs.folders.rename", interrupted)
    before = files(tmp_path)
    for change in (remove_run, lambda path: rename_run(path, "blarg")):
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            change(run)
        assert files(tmp_path) == before


def test_what_could_not_be_deleted_is_not_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("lorasmith.core.disk.shutil.rmtree", refused)
    run = write_run(tmp_path / "zorp")
    with pytest.raises(RunError, match="could not be deleted whole: Permission denied") as error:
        remove_run(run, for_good=True)
    assert Path(error.value.problems[0].where).is_dir()


def test_no_training_begins_while_a_run_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "zorp")
    (run / "run.lock").touch()
    busy = []

    def seen(old: Path, new: Path) -> None:
        busy.append(RunFolder(run).busy)
        old.rename(new)

    monkeypatch.setattr("lorasmith.jobs.runs.folders.rename", seen)
    new = rename_run(run, "other")
    assert set(busy) == {sys.platform != "win32"}
    assert not RunFolder(new).busy


def test_jobs_follow_their_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "zorp-2")
    ledger = Ledger(tmp_path)
    number = ledger.add(["train", "s.toml"], "train zorp", tmp_path).id
    ledger.claim("auto")
    assert ledger.set_run(number, str(run)).title == "train zorp-2"
    ledger.end(number, "paused", 0, "")
    with pytest.raises(RunError, match="is paused and needs it"):
        rename_run(run, "other", ledger)
    with pytest.raises(RunError, match=f"lorasmith queue cancel {number}"):
        remove_run(run, ledger)
    ledger.cancel(number)
    new = rename_run(run, "other", ledger)
    assert (ledger.job(number).run, ledger.job(number).title) == (str(new), "train other")


@pytest.mark.parametrize(
    ("command", "is_flat", "needs"),
    [
        ("train --resume runs/zorp", False, True),
        ("train --resume=./runs/../runs/zorp/", False, True),
        ("train --resume zorp", False, True),
        ("grid runs/zorp/zorp-000001.safetensors", False, True),
        ("generate --lora-dir runs/zorp -- zorpish", False, True),
        ("train --resume runs/zorp-2", False, False),
        ("generate --out runs -- a,=\0", False, False),
        ("train --resume runs/zorp", True, True),
        ("grid runs/zorp-000001.safetensors", True, True),
        ("grid runs/zorp-other.safetensors", True, False),
    ],
)
def test_a_run_stays_while_a_job_waits_that_names_it(
    tmp_path: Path, command: str, is_flat: bool, needs: bool
) -> None:
    run = flat_run(tmp_path / "runs") if is_flat else write_run(tmp_path / "runs" / "zorp")
    ledger = Ledger(tmp_path)
    ledger.add(command.split(" "), "a job", tmp_path)
    if needs:
        with pytest.raises(RunError, match="is queued and needs it"):
            remove_run(run, ledger)
    else:
        assert remove_run(run, ledger)


def test_a_run_stays_for_the_job_after_its_training(tmp_path: Path) -> None:
    run = write_run(tmp_path / "zorp")
    ledger = Ledger(tmp_path)
    number = ledger.add(["train", "s.toml"], "train zorp", tmp_path).id
    ledger.add(["pick", "{run}"], "pick", tmp_path, after=number)
    ledger.claim("auto")
    ledger.set_run(number, str(run))
    ledger.end(number, "done", 0, "")
    with pytest.raises(RunError, match=r"job 2 \(pick\) is queued and needs it"):
        rename_run(run, "other", ledger)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "other", "x" * 200, "con\n"])
def test_not_every_name_is_one(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "other")
    run = write_run(tmp_path / "zorp")
    before = files(tmp_path)
    with pytest.raises(RunError, match="name"):
        rename_run(run, name)
    assert files(tmp_path) == before


def test_a_run_goes_into_the_trash_and_comes_back(tmp_path: Path) -> None:
    run = write_run(tmp_path / "zorp")
    before = files(run)
    kept = remove_run(run)
    assert kept is not None
    assert not run.exists()
    assert find_runs(tmp_path) == []
    again = write_run(tmp_path / "zorp")
    with pytest.raises(RunError, match="is there again"):
        restore_run(kept)
    other = remove_run(again)
    assert other is not None
    assert other.name == "zorp-2"
    assert restore_run(kept) == run
    assert files(run) == before
    assert remove_run(run, for_good=True) is None
    assert not run.exists()
    assert other.exists()


def test_only_a_flat_runs_own_files_go(tmp_path: Path) -> None:
    run = flat_run(tmp_path)
    before = files(tmp_path)
    kept = remove_run(run)
    assert kept is not None
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [
        "zorp-other.safetensors"
    ]
    assert restore_run(kept) == run
    assert files(tmp_path) == before
    new = rename_run(tmp_path / "zorp", "blarg")
    assert new.name == ".blarg.lorasmith"
    assert {path.name for path in tmp_path.glob("*.*") if path.is_file()} == {
        "blarg-000001.safetensors",
        "blarg-000002.safetensors",
        "blarg.json",
        "blarg.safetensors",
        "zorp-other.safetensors",
    }


def test_a_run_that_is_trained_stays(tmp_path: Path) -> None:
    run = write_run(tmp_path / "zorp")
    with open(run / "run.lock", "a", encoding="utf-8") as lock:
        assert lock_file(lock)
        assert RunFolder(run).busy
        for change in (remove_run, lambda path: rename_run(path, "other")):
            with pytest.raises(RunError, match="a training runs in it"):
                change(run)
    assert run.is_dir()


@pytest.mark.parametrize("where", ["zorp", "no/zorp", ".lorasmith/trash/none"])
def test_only_what_was_put_into_the_trash_comes_back(tmp_path: Path, where: str) -> None:
    write_run(tmp_path / "zorp")
    with pytest.raises(RunError, match="is no run in the trash"):
        restore_run(tmp_path / where)


def test_a_lora_is_copied_where_a_web_ui_looks(tmp_path: Path) -> None:
    run = write_run(tmp_path / "zorp")
    lora, place = run / "zorp-000002.safetensors", tmp_path / "Lora"
    with pytest.raises(RunError, match="is no folder"):
        copy_lora(lora, place)
    place.mkdir()
    assert copy_lora(lora, place).read_bytes() == lora.read_bytes()
    assert [path.name for path in place.iterdir()] == [lora.name]
    with pytest.raises(RunError, match="is there already"):
        copy_lora(lora, place)
    with pytest.raises(UserError, match="is no LoRA file"):
        copy_lora(run / "run.json", place)


def test_what_was_made_of_the_result_goes_with_its_run(tmp_path: Path) -> None:
    """And what others call so stays."""
    hidden = flat_run(tmp_path)
    write_info(RunFolder(hidden), further_files=["-rank4.safetensors"])
    for rank in (4, 8):
        (tmp_path / f"zorp-rank{rank}.safetensors").write_bytes(b"LoRA")
    new = rename_run(hidden, "blarg")
    assert (tmp_path / "blarg-rank4.safetensors").is_file()
    assert (tmp_path / "zorp-rank8.safetensors").is_file()
    assert RunFolder(new).further_files == [tmp_path / "blarg-rank4.safetensors"]
    kept = remove_run(new)
    assert kept is not None
    assert not (tmp_path / "blarg-rank4.safetensors").exists()
    restore_run(kept)
    assert (tmp_path / "blarg-rank4.safetensors").is_file()
