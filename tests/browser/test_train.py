"""The page that sets a training up: settings, the plan beside them, and what is queued."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import warm
from tests.browser.conftest import (
    BROWSER,
    NO_BROWSER,
    require_open_to_everybody,
)
from tests.browser.studios import Server, start
from tests.made_up_runs import write_run

pytestmark = pytest.mark.skipif(not BROWSER, reason=NO_BROWSER)

SD_SCRIPTS = 'network_module = "networks.lora"\nnetwork_dim = 24\nlowram = true\n'


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all, as its first plan takes seconds: a project with three pictures and a run."""
    project = tmp_path_factory.mktemp("work") / "zorp"
    images = project / "dataset"
    images.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (96, 64 + 16 * number), (200, 60 * number, 40)).save(
            images / f"{number}.png"
        )
        (images / f"{number}.txt").write_text("zorp, standing\n", encoding="utf-8")
    write_run(project / "runs" / "first", **{"adapter.rank": "12", "data.path": str(images)})
    server = start(project.parent)
    yield server
    server.end()
    warm.end_all()


@pytest.fixture
def train(studio: Server, page):
    """Opens the page of the project with a draft, and waits for its plan."""

    def opened(**query: object):
        page.goto(studio.page("/train", project=str(studio.workspace / "zorp"), **query))
        page.get_by_role("heading", name="Plan").wait_for()
        planned(page)
        return page

    return opened


def planned(page) -> None:
    """Until the plan is that of what is set up."""
    page.locator("section.plan[aria-busy=false]").wait_for(timeout=60_000)


def field(page, setting: str):
    return page.get_by_label(setting, exact=True)


def command(page, words: str = ""):
    """The command line, where it has these words."""
    return page.locator(".start .command code", has_text=words)


def asked(studio: Server, address: str) -> Any:
    with urllib.request.urlopen(studio.page(address)) as answer:
        return json.load(answer)


def test_the_plan_goes_with_what_is_typed(train, studio: Server) -> None:
    page = train()
    page.get_by_text("Steps", exact=True).wait_for()
    assert command(page).inner_text().startswith("lorasmith train")
    field(page, "adapter.rank").fill("24")
    command(page, "--adapter.rank 24").wait_for()
    page.wait_for_url("**set=*rank*")
    page.reload()
    command(page, "--adapter.rank 24").wait_for()
    assert field(page, "adapter.rank").input_value() == "24"
    page.get_by_role("button", name="Leave adapter.rank as it is by itself").click()
    command(page, "--adapter.rank 24").wait_for(state="detached")
    page.wait_for_url(lambda url: "set=" not in url)


def test_what_is_set_up_is_still_there_when_one_comes_back(train) -> None:
    page = train()
    field(page, "adapter.rank").fill("20")
    command(page, "--adapter.rank 20").wait_for()
    pages = page.get_by_role("navigation", name="Pages")
    pages.get_by_role("link", name="Runs").click()
    page.get_by_role("heading", name="Runs").wait_for()
    pages.get_by_role("link", name="Train").click()
    command(page, "--adapter.rank 20").wait_for()


def test_what_was_set_up_last_is_offered_in_another_tab(train, studio: Server) -> None:
    page = train()
    rank = page.locator("[id='setting-adapter.rank'] input").first
    rank.fill("7")
    rank.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    page.wait_for_url("**adapter.rank**")
    page.evaluate("sessionStorage.clear()")  # As another tab has it.
    page.goto(studio.page("/train", project=str(studio.workspace / "zorp")))
    page.get_by_role("button", name="As last time: 1 setting").click()
    page.wait_for_url("**adapter.rank**")
    page.get_by_role("button", name="Reset all").click()
    page.get_by_role("button", name="As last time").wait_for()


def test_a_mistake_leads_to_its_settings(train) -> None:
    page = train(set=json.dumps({"buckets.min": 900, "buckets.max": 128}), find="rank")
    page.locator(".problems").get_by_role("button", name="buckets").click()
    page.locator("[id='setting-buckets.min']").get_by_text("is larger than max").wait_for()
    assert page.evaluate("document.activeElement.closest('.setting').id") == "setting-buckets.min"


def test_what_would_not_run_is_said_at_its_setting(train) -> None:
    page = train()
    now = page.get_by_role("button", name="Train now")
    field(page, "adapter.rank").fill("many")
    page.get_by_text("It can't be started so.").wait_for()
    assert now.is_disabled()
    told = page.locator("[id='setting-adapter.rank']").get_by_role("alert")
    assert "many" in told.inner_text()
    assert field(page, "adapter.rank").get_attribute("aria-invalid") == "true"
    described = str(field(page, "adapter.rank").get_attribute("aria-describedby")).split()
    assert told.get_attribute("id") in described
    field(page, "adapter.rank").fill("8")
    page.get_by_text("It can't be started so.").wait_for(state="detached")
    planned(page)
    assert now.is_enabled()


def test_several_values_are_several_jobs(train, studio: Server) -> None:
    page = train(show="all")
    field(page, "adapter.rank").fill("4, 8")
    page.get_by_role("button", name="Several values of schedule.name").click()
    page.get_by_role("group", name="Values of schedule.name").get_by_label(
        "linear", exact=True
    ).check()
    page.get_by_role("button", name="rank 8, name linear").wait_for()
    planned(page)
    assert page.locator(".variants tbody tr").count() == 4
    command(page, "queue add").wait_for()
    command(page, "--sweep adapter.rank=4,8").wait_for()
    before = {job["id"] for job in asked(studio, "/api/jobs")}
    page.get_by_role("button", name="Hold back").click()
    page.get_by_text("4 trainings are held back").wait_for()
    jobs = [job for job in asked(studio, "/api/jobs") if job["id"] not in before]
    assert {job["state"] for job in jobs} == {"held"}
    assert {job["title"] for job in jobs} == {
        f"train zorp-rank{rank}-name{name}" for rank in (4, 8) for name in ("cosine", "linear")
    }
    page.get_by_role("list", name="Queued from here").get_by_text(
        "zorp-rank4-namelinear"
    ).wait_for()


def test_the_keyboard_is_enough(train, studio: Server) -> None:
    page = train()
    page.keyboard.press("/")
    page.keyboard.type("adapter.rank")
    page.get_by_label("adapter.alpha", exact=True).wait_for(state="detached")
    while page.evaluate("document.activeElement.closest('.setting')?.id") != "setting-adapter.rank":
        page.keyboard.press("Tab")
    page.keyboard.type("6")
    command(page, "--adapter.rank 6").wait_for()
    planned(page)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("p")
    while page.evaluate("document.activeElement.textContent") != "Hold back":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("is held back in the queue").wait_for()
    settings = [Path(job["command"][-1]).read_text() for job in asked(studio, "/api/jobs")]
    assert any("rank = 6\n" in text for text in settings)


DROP = """content => {
  const data = new DataTransfer();
  data.items.add(new File([content], "run.toml"));
  const drop = type => new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true});
  document.querySelector("main").dispatchEvent(drop("drop"));
}"""


def test_settings_of_another_trainer_are_dropped_in(train) -> None:
    page = train()
    page.evaluate(DROP, SD_SCRIPTS)
    dialog = page.get_by_role("dialog", name="Import settings")
    dialog.get_by_role("row", name="adapter.rank").wait_for()
    dialog.get_by_text("--lowram").or_(dialog.get_by_text("lowram")).first.wait_for()
    dialog.get_by_role("button", name="Take").click()
    command(page, "--adapter.rank 24").wait_for()
    page.get_by_role("button", name="Undo").click()
    command(page, "--adapter.rank 24").wait_for(state="detached")


def test_settings_that_are_dropped_on_home_come_here(studio: Server, page) -> None:
    page.goto(studio.page("/", project=str(studio.workspace / "zorp")))
    page.get_by_role("heading", name="zorp").wait_for()
    page.evaluate(DROP, SD_SCRIPTS)
    page.get_by_role("dialog", name="Import settings").get_by_text("adapter.rank").wait_for()
    page.wait_for_url("**/train?**")


def test_what_is_no_settings_file_is_said(train) -> None:
    page = train()
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": "cat.toml", "mimeType": "", "buffer": b"\x89PNG\r\n\x1a\n"})
    page.get_by_role("dialog").get_by_text("is a picture, not a settings file").wait_for()


def test_a_run_is_begun_from(train, studio: Server) -> None:
    page = train(**{"from": str(studio.workspace / "zorp" / "runs" / "first")})
    assert field(page, "adapter.rank").input_value() == "12"
    page.wait_for_url("**set=*")
    page.wait_for_url(lambda url: "from=" not in url)


def test_folders_one_by_one(train, studio: Server) -> None:
    page = train(find="data.folders")
    page.get_by_role("button", name="Add a folder").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="zorp").click()
    dialog.get_by_role("button", name="dataset").click()
    dialog.get_by_role("button", name="Open this folder").click()
    page.get_by_label("Repeats of folder 1").fill("7")
    page.get_by_text("3 pictures × 7 repeats = 21").wait_for()
    page.get_by_label("Repeats of folder 1").fill("0")
    told = page.locator("[id='setting-data.folders']").get_by_role("alert")
    told.get_by_text("0 is out of range").wait_for()
    page.get_by_role("button", name="Leave folder 1 out").click()
    page.get_by_text("3 pictures × 1 repeat = 3").wait_for()


def test_a_preset_and_the_search(train) -> None:
    page = train()
    page.get_by_role("combobox", name="Preset").select_option("style")
    command(page, "--preset style").wait_for()
    planned(page)
    page.get_by_label("Search the settings").fill("xyzzy")
    page.get_by_text("No setting has").wait_for()
    page.get_by_role("button", name="Show them again").click()
    page.get_by_label("Search the settings").fill("model.defaults")
    assert field(page, "model.defaults").is_checked()  # Though the plan has none of them left.
    page.get_by_label("Search the settings").fill("")
    field(page, "adapter.rank").wait_for()


def test_without_pictures_it_says_what_to_choose(studio: Server, page) -> None:
    page.goto(studio.page("/train"))
    page.get_by_role("button", name="Choose a folder").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="zorp").click()
    dialog.get_by_role("button", name="dataset").click()
    dialog.get_by_role("button", name="Open this folder").click()
    planned(page)
    page.get_by_role("button", name="Train now").or_(
        page.get_by_role("button", name="Queue", exact=True).first
    ).first.wait_for()
    command(page, "dataset").wait_for()


@pytest.mark.parametrize("state", ["plan", "mistake", "sweep"])
def test_it_is_open_to_everybody(train, state: str) -> None:
    drafts: dict[str, dict[str, object]] = {
        "plan": {},
        "mistake": {"set": json.dumps({"adapter.rank": "many"})},
        "sweep": {"sweep": json.dumps({"adapter.rank": ["4", "8"]})},
    }
    require_open_to_everybody(train(**drafts[state]))


@pytest.mark.slow
def test_advice_for_the_pictures_is_taken(train) -> None:
    page = train()
    field(page, "loss.noise_offset").fill("0.3")
    planned(page)
    page.get_by_role("button", name="Take the advice for loss.noise_offset").click(timeout=60_000)
    page.get_by_text("All is as the guides advise").wait_for()
    page.get_by_role("button", name="Why").click()
    page.get_by_label("What is it for").wait_for()


SHORT = {
    "train.steps": 6, "sample.every_epochs": None, "sample.at_start": False,
    "preservation.enabled": False, "log.tensorboard": False,
}  # fmt: skip


@pytest.mark.slow
def test_a_training_begins_with_a_click_and_leads_to_its_run(train, studio: Server) -> None:
    page = train(set=json.dumps(SHORT))
    for job in asked(studio, "/api/jobs"):  # Of other tests, which would be before it.
        request = urllib.request.Request(studio.page(f"/api/jobs/{job['id']}"), method="DELETE")
        urllib.request.urlopen(request).close()
    page.get_by_role("button", name="Train now").click()
    queued = page.get_by_role("list", name="Queued from here")
    queued.get_by_text("running").wait_for()
    queued.get_by_text("done").wait_for(timeout=90_000)
    queued.get_by_role("link", name="train zorp").click()
    page.get_by_role("main").get_by_text("step 6 of 6").wait_for()
    page.go_back()
    planned(page)
    page.get_by_text("zorp is there already").first.wait_for()
