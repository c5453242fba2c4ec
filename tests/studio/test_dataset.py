"""The pages about a dataset, as they are meant to be used."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from tests.studio.dataset_page import TAGS, Page, texts

from lorasmith.core.events import Controls, ignore
from lorasmith.core.files import file_version
from lorasmith.curation import collection
from lorasmith.curation.filter import parse_filter
from lorasmith.curation.tagger.labels import Labels
from lorasmith.curation.tagger.scores import ImageScores, ScoreStore
from lorasmith.data.caption_files import CaptionText, read_caption
from lorasmith.formats.run_paths import RUN_FILES
from lorasmith.jobs.curating.listing import FLAGS, filter_images, places_of
from lorasmith.jobs.curating.open_dataset import OpenDataset
from lorasmith.jobs.dataset.audit import AuditRequest
from lorasmith.studio.api import jobs


@pytest.fixture(autouse=True)
def no_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is queued begins."""
    monkeypatch.setattr(jobs, "ensure_runners", lambda ledger: None)


def test_all_images_are_listed_in_columns(page: Page, folder: Path) -> None:
    (folder / "2.txt").unlink()
    listing = page.get("images")
    assert listing["names"] == ["0.png", "1.png", "2.png"]
    assert (listing["widths"], listing["heights"]) == ([64] * 3, [48] * 3)
    assert listing["tag_names"] == ["zorp", "hat", "smile", "standing"]
    assert listing["tag_counts"] == [2, 1, 1, 1]
    assert listing["tags"] == [[0, 3], [0, 1, 2], []]
    assert listing["flags"] == [0, 0, FLAGS["no_caption"]]
    status = (folder / "1.png").stat()
    assert listing["versions"][1] == file_version(status.st_size, status.st_mtime_ns)
    again = page.get("images", version=listing["version"])
    assert (again["unchanged"], again["names"], again["version"]) == (True, [], listing["version"])


def test_a_projects_dataset_is_meant_by_the_project(
    client: TestClient, page: Page, workspace: Path
) -> None:
    (workspace / "zorp/runs").mkdir()
    Image.new("RGB", (64, 48)).save(workspace / "zorp/runs/sample.png")
    listing = Page(client, "zorp").get("images")
    assert (listing["folder"], len(listing["names"])) == (str(workspace / "zorp/dataset"), 3)


def test_a_listing_follows_the_files(page: Page, folder: Path) -> None:
    first = page.get("images")
    Image.new("RGB", (8, 8)).save(folder / "10.png")
    (folder / "0.txt").write_text("zorp, wet", encoding="utf-8")
    second = page.get("images", version=first["version"])
    assert second["names"] == ["0.png", "1.png", "2.png", "10.png"]
    assert "wet" in second["tag_names"]
    # Within one tick of a file system's clock nothing but its size tells a file from another.
    (folder / "1.txt").write_text("zorp, hat, sad frog", encoding="utf-8")
    third = page.get("images", version=second["version"])
    assert not third["unchanged"]
    assert "sad frog" in third["tag_names"]
    (folder / "10.png").rename(folder / "11.png")
    assert page.post("filter", where="name:11")["images"] == [3]


def test_a_filter_takes_places_and_counts_tags(page: Page) -> None:
    answer = page.post("filter", where="tag:hat")
    assert answer["images"] == [1, 2]
    names = page.get("images")["tag_names"]
    assert dict(zip(names, answer["counts"], strict=True)) == {
        "zorp": 2,
        "hat": 2,
        "smile": 1,
        "standing": 0,
    }
    problem = page.post("filter", 422, where="(tag:a")["problems"][0]
    assert problem["where"] == "where"
    kinds = {(one["text"], one["kind"]) for one in page.post("complete", text="ha", cursor=2)}
    assert ("tag:hat", "tag") in kinds


def test_a_filter_of_pixels_waits_for_an_audit(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorasmith.jobs.curating.listing.MOST_TO_MEASURE", 2)
    problem = page.post("filter", 422, where="blur:>0.5")["problems"][0]
    assert "3 pictures" in problem["what"]
    monkeypatch.setattr("lorasmith.jobs.curating.listing.MOST_TO_MEASURE", 3)
    assert page.post("filter", where="brightness:<0.5")["images"] == [0, 1, 2]


def test_tags_are_completed_from_three_sources(page: Page, workspace: Path) -> None:
    def found(prefix: str, **more: str) -> list[tuple[str, str]]:
        return [(one["tag"], one["source"]) for one in page.get("words", prefix=prefix, **more)]

    assert found("ha")[0] == ("hat", "set")
    assert ("zorp", "set") in found("zo")
    (workspace / "list.csv").write_text('hat,0,9\nhair_ribbon,0,50,"ribbon in hair"\n')
    assert found("ha", words="list.csv")[:2] == [("hat", "set"), ("hair ribbon", "list")]
    (one,) = page.get("words", prefix="ribbon in", words="list.csv")
    assert (one["tag"], one["alias"], one["images"]) == ("hair ribbon", "ribbon in hair", 50)
    (workspace / "selected_tags.csv").write_text("tag_id,name,category\n1,halberd,0\n")
    assert ("halberd", "base") in found("ha", vocabulary="selected_tags.csv")


def test_a_caption_is_read_counted_and_written(page: Page, folder: Path) -> None:
    caption = page.get("caption", name="1.png")
    assert (caption["text"], caption["tags"]) == ("zorp, hat, smile", ["zorp", "hat", "smile"])
    assert caption["tokens"]["after_tags"][-1] == caption["tokens"]["tokens"] == 6
    version = page.get("images")["version"]
    new = page.put("caption", name="1.png", former=caption["text"], text="zorp, cap")
    assert new["tags"] == ["zorp", "cap"]
    assert new["version"] != version
    assert (folder / "1.txt").read_text("utf-8") == "zorp, cap\n"
    assert page.get("history")["undo"]["command"] == "caption of 1.png"
    page.post("undo")
    assert texts(folder) == list(TAGS)


def test_two_pages_do_not_overwrite_each_other(page: Page, folder: Path) -> None:
    page.put("caption", name="0.png", former="zorp, standing", text="zorp, sitting")
    answer = page.put("caption", 409, name="0.png", former="zorp, standing", text="zorp, lying")
    assert "somebody else" in answer["problems"][0]["what"]
    assert texts(folder)[0] == "zorp, sitting"


def test_line_breaks_and_encodings_of_captions_stay(page: Page, folder: Path) -> None:
    (folder / "0.txt").write_bytes("é\r\nzorp\r\n\r\n".encode("utf-16"))
    assert page.get("caption", name="0.png")["text"] == "é\r\nzorp"
    page.put("caption", name="0.png", former="é\r\nzorp", text="é, hat\nzorp")
    assert (folder / "0.txt").read_bytes().decode("utf-16") == "é, hat\r\nzorp\r\n\r\n"


def test_long_captions_are_cut_into_chunks(page: Page) -> None:
    tokens = page.post("tokens", text=", ".join(["standing"] * 50))
    assert tokens["tokens"] == 99
    assert [(one["begin"], one["end"]) for one in tokens["chunks"]] == [(1, 75), (76, 99)]
    assert tokens["after_tags"][:3] == [1, 3, 5]
    assert page.post("tokens", text="")["chunks"] == []


def test_an_edit_is_shown_then_done_then_undone(page: Page, folder: Path) -> None:
    edit = {"operations": ["add=wet", "at=front"], "where": "tag:hat"}
    shown = page.post("edit", **edit, limit=1)
    assert (shown["total"], len(shown["rows"]), shown["applied"]) == (2, 1, False)
    row = shown["rows"][0]
    assert (row["image"], row["before"], row["after"]) == (
        "1.png",
        "zorp, hat, smile\n",
        "wet, zorp, hat, smile\n",
    )
    line = f"lorasmith dataset edit {folder} --add wet --at front --where tag:hat"
    assert shown["command_line"] == line
    assert shown["tags"] == [{"tag": "wet", "before": 0, "after": 2}]
    rest = page.post("edit", **edit, offset=1)
    assert [row["image"] for row in rest["rows"]] == ["2.png"]
    assert texts(folder) == list(TAGS)
    done = page.post("edit", **edit, apply=True)
    assert done["applied"]
    assert texts(folder) == ["zorp, standing", "wet, zorp, hat, smile", "wet, zorp, hat"]
    page.post("undo", 409, entry=done["entry"] + 1)
    assert page.post("undo", entry=done["entry"])["redo"]["number"] == done["entry"]
    assert texts(folder) == list(TAGS)
    assert page.post("redo")["undo"]["number"] == done["entry"]
    assert texts(folder)[2] == "wet, zorp, hat"


def test_what_changed_after_a_preview_is_not_overwritten(page: Page, folder: Path) -> None:
    page.post("edit", operations=["add=wet"])
    (folder / "1.txt").write_text("mine", encoding="utf-8")
    problem = page.post("edit", 422, operations=["add=wet"], apply=True)["problems"][0]
    assert "somebody else changed it" in problem["what"]
    assert texts(folder) == ["zorp, standing", "mine", "zorp, hat"]
    page.post("edit", operations=["add=wet"], apply=True)
    assert texts(folder) == ["zorp, standing, wet", "mine, wet", "zorp, hat, wet"]


def test_an_edit_of_selected_images(page: Page, folder: Path) -> None:
    done = page.post("edit", operations=["remove=zorp"], images=["2.png", "0.png"], apply=True)
    assert texts(folder) == ["standing", "zorp, hat, smile", "hat"]
    assert done["command_line"].endswith("--where '(path:0.png -path:?0.png)'") is False
    assert "--where" in done["command_line"]
    assert page.post("filter", where="path:2.png")["images"] == [2]
    page.post("edit", 422, operations=["remove=zorp"], images=["none.png"])
    problems = page.post("edit", 422, operations=["ad=hat", "swap=1"])["problems"]
    assert len(problems) == 2
    assert {"add", "dedupe", "consolidate"} <= {one["name"] for one in page.get("operations")}


def test_images_go_into_the_trash_and_come_back(page: Page, folder: Path) -> None:
    shown = page.post("edit", delete=True, images=["1.png"])
    assert [row["kind"] for row in shown["rows"]] == ["remove", "remove"]
    page.post("edit", delete=True, images=["1.png"], apply=True)
    assert page.get("images")["names"] == ["0.png", "2.png"]
    page.post("edit", 422, delete=True)
    page.post("undo")
    assert texts(folder) == list(TAGS)


def test_of_pictures_to_be_sorted_one_has_vanished(page: Page, folder: Path) -> None:
    page.get("images")
    (folder / "1.png").unlink()
    decisions = [{"name": f"{number}.png", "folder": "a"} for number in range(3)]
    done = page.post("sort", decisions=decisions, apply=True)
    assert [problem["where"] for problem in done["skipped"]] == ["1.png"]
    assert sorted(path.name for path in (folder / "a").glob("*.png")) == ["0.png", "2.png"]


def test_pictures_are_sorted_one_by_one(page: Page, folder: Path) -> None:
    decisions = [
        {"name": "0.png", "folder": "stands"},
        {"name": "1.png", "folder": "hats", "copy_it": True},
        {"name": "2.png", "add": ["cap"], "remove": ["hat"]},
    ]
    done = page.post("sort", decisions=decisions, apply=True)
    listing = page.get("images")
    assert listing["names"] == ["1.png", "2.png", "hats/1.png", "stands/0.png"]
    assert (folder / "stands/0.txt").is_file()
    assert (folder / "2.txt").read_text() == "zorp, cap\n"
    counts = {one["folder"]: one["images"] for one in page.get("folders")}
    assert counts == {".": 2, "hats": 1, "stands": 1}
    page.post("sort", decisions=[{"name": "1.png", "delete": True}], apply=True)
    page.post("undo", 409, entry=done["entry"])
    page.post("undo")
    page.post("undo", entry=done["entry"])
    assert page.get("images")["names"] == ["0.png", "1.png", "2.png"]
    assert texts(folder) == list(TAGS)
    page.post("sort", 422, decisions=[{"name": "0.png", "folder": "../out"}], apply=True)
    page.post("sort", 422, decisions=[{"name": "0.png", "folder": "a", "delete": True}])


def test_findings_are_kept_mended_and_ignored(page: Page, folder: Path) -> None:
    assert page.get("findings")["looked"] is False
    (folder / "0.txt").write_text("zorp,, standing, standing\n", encoding="utf-8")
    audit(folder)
    shown = page.get("findings")
    assert shown["looked"]
    assert not shown["changed"]
    one = next(each for each in shown["findings"] if each["rule"] == "tag-twice")
    preview = page.post("mend", ids=[one["id"]])
    assert preview["total"] >= 1
    assert "--fix" in preview["command_line"]
    before = texts(folder)
    page.post("mend", ids=[one["id"]], apply=True)
    assert texts(folder) != before
    assert page.get("findings")["changed"]
    note = next(each for each in shown["findings"] if each["severity"] != "error")
    after = page.post("ignore", ids=[note["rule"]])
    assert note["rule"] not in {each["rule"] for each in after["findings"]}
    assert note["rule"] in {each["rule"] for each in after["ignored"]}
    again = page.post("ignore", ids=[note["rule"]], again=True)
    assert note["rule"] in {each["rule"] for each in again["findings"]}
    page.post("ignore", 422, ids=["nothing"])
    page.post("mend", 422, ids=["nothing"])


def test_all_that_loses_nothing_is_mended_as_one_change(page: Page, folder: Path) -> None:
    """What has to wait for another change to the same files is mended, too."""
    before = "zorp, red_hat, red hat, standing"
    (folder / "0.txt").write_text(f"{before}\n", encoding="utf-8")
    (folder / "1.txt").write_text("zorp, red hat, smile\n", encoding="utf-8")
    audit(folder)
    assert "will follow" in page.post("mend", ids=["all-safe"])["notes"][0]
    done = page.post("mend", ids=["all-safe"], apply=True)
    assert texts(folder)[:2] == ["zorp, red_hat, standing", "zorp, red_hat, smile"]
    page.post("undo", entry=done["entry"])
    assert texts(folder)[:2] == [before, "zorp, red hat, smile"]


def test_crops_are_recorded_and_read(page: Page, folder: Path) -> None:
    page.put("crop", names=["0.png"], box=[0, 0, 40, 32], apply=True)
    assert (folder / "0.crop.json").is_file()
    assert page.get("picture", name="0.png")["crop"] == [0, 0, 40, 32]
    assert page.get("images")["flags"][0] == FLAGS["cropped"]
    placement = page.get("picture", name="0.png", width=64, height=64)["placement"]
    assert placement["bucket"][0] >= placement["bucket"][1]
    assert placement["crop"][2] <= 40
    for box in ([0, 0, 65, 32], [10, 10, 5, 20], [-1, 0, 40, 32]):
        answer = page.put("crop", names=["0.png"], box=box, apply=True)
        assert "no part of a picture" in answer["skipped"][0]["what"]
    page.put("crop", names=["0.png"], box=None, apply=True)
    assert not (folder / "0.crop.json").exists()
    buckets = page.get("buckets", width=64, height=64)
    assert buckets["counts"] == [3]
    assert buckets["of"] == [0, 0, 0]


def test_only_the_jobs_that_can_run_are_queued(page: Page, client: TestClient) -> None:
    job = page.post("audit", kind="character")
    assert job["command"][:2] == ["dataset", "audit"]
    job = page.post("tag", tagger="demo", thresholds={"general": 0.5}, where="tag:hat")
    assert job["command"][-5:] == ["--general", "0.5", "--where", "tag:hat", "--yes"]
    job = page.post("tag", tagger="demo", look=True)
    assert job["command"][-4:] == ["--mode", "append", "--dry-run", "--yes"]
    page.post("tag", 422, tagger="demo", where="(tag:a")
    page.post("tag", 422, tagger="demo", thresholds={"nothing": 0.5})
    page.post("tag", 403, tagger="../secret")
    page.post("captions", 403, model="/etc/model")
    assert len(client.get("/api/jobs").json()) == 3


def test_thresholds_move_on_kept_scores(page: Page, folder: Path) -> None:
    page.post("tags", 422)
    assert page.get("scores")["images"] == 0
    keep_scores(folder)
    scores = page.get("scores")
    assert (scores["tagger"], scores["images"]) == ("made_up", 3)
    low = page.post("tags", thresholds={"general": 0.3}, mode="append")
    high = page.post("tags", thresholds={"general": 0.7}, mode="append")
    assert low["rows"][0]["after"] == "zorp, standing, red hat, blue eyes\n"
    assert high["rows"][0]["after"] == "zorp, standing, red hat\n"
    assert [one["tag"] for one in page.get("scores/image", name="0.png")] == [
        "red hat",
        "blue eyes",
    ]
    page.post("tags", thresholds={"general": 0.7}, mode="append", images=["0.png"], apply=True)
    assert texts(folder) == ["zorp, standing, red hat", *TAGS[1:]]


def audit(folder: Path) -> None:
    AuditRequest(folders=[folder]).run(ignore, Controls())


def keep_scores(folder: Path) -> None:
    labels = Labels(("red_hat", "blue_eyes"), ("general", "general"), folder, "")
    with ScoreStore(folder, "made_up", "1234", labels) as store:
        paths = [folder / f"{number}.png" for number in range(3)]
        contents = store.content_hashes(paths).values()
        one = ImageScores(np.array([0, 1], np.int32), np.array([0.9, 0.5], np.float32))
        store.put({str(content): one for content in contents})


def test_a_mask_is_painted_and_taken_away(page: Page, folder: Path) -> None:
    def painted(width: int) -> str:
        sink = io.BytesIO()
        Image.new("L", (width, 48), 255).save(sink, "PNG")
        return base64.b64encode(sink.getvalue()).decode()

    page.put("mask", 422, name="0.png", png=painted(65), apply=True)
    page.put("mask", name="0.png", png=painted(64), apply=True)
    with Image.open(folder / "0-masklabel.png") as mask:
        assert (mask.mode, mask.size) == ("L", (64, 48))
    assert page.get("images")["flags"][0] == FLAGS["masked"]
    assert page.get("picture", name="0.png")["mask"] == str(folder / "0-masklabel.png")
    page.put("mask", name="0.png", png="", apply=True)
    assert not (folder / "0-masklabel.png").exists()


def test_pages_of_a_dataset_need_no_torch(folder: Path, workspace: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from lorasmith.core.events import Controls, ignore
from lorasmith.jobs.dataset.audit import AuditRequest
from lorasmith.studio.app import create_app
client = TestClient(create_app(Path({str(workspace)!r})), base_url="http://127.0.0.1")
AuditRequest(folders=[Path({str(folder)!r})]).run(ignore, Controls())
address = "/api/dataset/{{}}?path=zorp&name=0.png&prefix=ha"
for name in ("images", "findings", "scores", "history", "buckets", "words", "caption", "picture"):
    answer = client.get(address.format(name))
    assert answer.status_code == 200, answer.text
bodies = {{"edit": {{"operations": ["add=hat"]}}, "mend": {{"ids": ["all-safe"]}},
           "filter": {{"where": "tokens:>3 blur:<2"}}, "complete": {{"text": "ta", "cursor": 2}}}}
for name, body in bodies.items():
    answer = client.post(address.format(name), json=body)
    assert answer.status_code == 200, answer.text
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "False", done.stderr


def test_many_requests_at_once_are_answered_one_after_the_other(page: Page) -> None:
    """More than the server has threads."""
    with ThreadPoolExecutor(60) as pool:
        answers = pool.map(lambda _: page.post("filter", where="tag:hat")["images"], range(120))
        assert list(answers) == [[1, 2]] * 120


def test_a_quick_look_reads_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = OpenDataset(folder, lambda path: True)
    monkeypatch.setattr(os, "scandir", None)
    assert not dataset.refresh()


def test_a_run_at_work_in_the_folder_changes_nothing(folder: Path) -> None:
    run = folder / "runs" / "one"
    run.mkdir(parents=True)
    for name in RUN_FILES:
        (run / name).touch()
    dataset = OpenDataset(folder, lambda path: True)
    version = dataset.version
    Image.new("RGB", (8, 8)).save(run / "sample.png")
    assert not dataset.refresh(close=True)
    assert (dataset.version, len(dataset.images)) == (version, 3)


def test_captions_that_did_not_change_are_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = OpenDataset(folder, lambda path: True)
    assert dataset.tags().counts == [3, 2, 1, 1]
    Image.new("RGB", (8, 8)).save(folder / "9.png")
    (folder / "9.txt").write_text("new", encoding="utf-8")
    read: list[str] = []

    def counted(path: Path) -> CaptionText:
        read.append(path.name)
        return read_caption(path)

    monkeypatch.setattr(collection, "read_caption", counted)
    assert dataset.refresh(close=True)
    assert dataset.tags().names == ["zorp", "hat", "new", "smile", "standing"]
    assert read == ["9.txt"]


def test_a_folder_that_goes_is_said(page: Page, folder: Path) -> None:
    assert page.get("images")["names"]
    shutil.rmtree(folder)
    gone = page.client.get("/api/dataset/images", params={"path": str(folder)})
    assert gone.status_code == 422
    assert "is not there" in gone.json()["problems"][0]["what"]


def test_a_tagger_is_run_on_what_is_chosen_alone(page: Page) -> None:
    of_two = {"tagger": "demo", "images": ["0.png", "2.png"], "mode": "replace"}
    command = page.post("tag", **of_two)["command"]
    where = command[command.index("--where") + 1]
    assert page.post("filter", where=where)["images"] == [0, 2]
    captions = page.post("captions", endpoint="http://127.0.0.1:1/v1", images=["1.png"])["command"]
    where = captions[captions.index("--where") + 1]
    assert page.post("filter", where=where)["images"] == [1]
    assert "--where" not in page.post("tag", tagger="demo", images=None)["command"]


@pytest.mark.parametrize(
    "where",
    ["tag:hat", "-tag:hat", "tag:ha*", "tag:hat or tag:STANDING", "tag:no", "tag:* -tag:hat"],
)
def test_filters_of_tags_alone_take_what_others_take(folder: Path, where: str) -> None:
    dataset = OpenDataset(folder, lambda path: True)
    choose = parse_filter(where)
    taken = places_of(dataset, choose.select(dataset.collection))
    assert dataset.tags().taken(choose.node) == taken
    assert filter_images(dataset, where).images == taken
    mixed = parse_filter(f"({where}) name:1")
    assert dataset.tags().taken(mixed.node) is None


def test_a_filter_of_tags_tells_of_captions_that_cannot_be_read(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> CaptionText:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(collection, "read_caption", refuse)
    problem = page.post("filter", 422, where="tag:hat")["problems"][0]
    assert "cannot be read" in problem["what"]
