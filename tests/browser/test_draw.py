"""Drawing: with a LoRA by clicks, again by keyboard alone, and as a picture says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.numpy import load_file, save_file

from tests.browser.conftest import NARROW_TOO, Serve, require_open_to_everybody
from tests.browser.studios import Server

MARKUP = "<img src=x onerror=alert(1)>"
WEB_UI = (
    f"zorp, {MARKUP} <lora:tiny:0.7>\nNegative prompt: <b>tail</b>\n"
    "Steps: 3, Sampler: Euler a, CFG scale: 4.5, Seed: 11, Size: 64x64, Model: other"
)
LAYER = "lora_te_text_model_encoder_layers_0_self_attn_k_proj"
FIRST_DRAWING = 120_000
"""ms until a process that draws has begun, on a crowded machine."""


def write_lora(path: Path, **metadata: str) -> None:
    """One layer of the demo's text encoder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    down, up = generator.normal(size=(1, 64)), generator.normal(size=(64, 1))
    tensors = {
        f"{LAYER}.lora_down.weight": down.astype(np.float32),
        f"{LAYER}.lora_up.weight": up.astype(np.float32),
        f"{LAYER}.alpha": np.float32(1),
    }
    save_file({name: np.asarray(each) for name, each in tensors.items()}, path, metadata)


@pytest.fixture
def studio(serve: Serve, workspace: Path) -> Server:
    write_lora(
        workspace / "zorp" / "loras" / "tiny.safetensors",
        **{"modelspec.trigger_phrase": f"zorp {MARKUP}\x1b[31m\x07"},
    )
    return serve(workspace)


def open_page(page, studio: Server) -> None:
    page.goto(studio.page("/draw", project=str(studio.workspace / "zorp")))
    page.locator(".lora-card").wait_for()


def drawings(studio: Server) -> list[Path]:
    return sorted(studio.workspace.glob("zorp/drawings/2*/*.png"))


def test_with_a_lora_by_clicks_and_again_by_keys(page, studio: Server) -> None:
    open_page(page, studio)
    page.locator(".lora-card").click()
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    assert "alert(1)" in prompt.input_value()  # The LoRA's trigger, as text.
    assert page.locator("main img[src=x]").count() == 0
    prompt.fill("zorp")
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_text("<lora:tiny:1.0>").wait_for()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("drawn in").wait_for(timeout=FIRST_DRAWING)
    first = drawings(studio)
    assert len(first) == 1

    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("p")
    slider = "Strength of tiny"
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == slider:
            break
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+Enter")
    page.get_by_text("tiny 0.95").first.wait_for()
    page.get_by_text("drawn in").wait_for(timeout=FIRST_DRAWING)
    assert len(drawings(studio)) == 2
    assert drawings(studio)[0].read_bytes() == first[0].read_bytes()

    # All of them, one large, and its settings again.
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("d")
    page.locator("[data-path]").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    large = page.get_by_role("dialog")
    large.get_by_text("<lora:tiny:1.0>").wait_for()
    large.get_by_label("Preview of").select_option("tiny")
    large.get_by_role("button", name="Set", exact=True).click()
    large.get_by_text("tiny.png lies beside it").wait_for()
    preview = studio.workspace / "zorp" / "loras" / "tiny.png"
    assert preview.read_bytes() == first[0].read_bytes()
    large.locator(".large").focus()
    page.keyboard.press("t")
    large.wait_for(state="detached")
    page.get_by_text("are taken").wait_for(timeout=FIRST_DRAWING)
    assert page.get_by_role("slider", name=slider, exact=True).input_value() == "1"
    weigh_its_blocks(page, studio)


def weigh_its_blocks(page, studio: Server) -> None:
    """By the process that draws already: moved by keys, flipped, written as a file of its own."""
    lora = studio.workspace / "zorp" / "loras" / "tiny.safetensors"
    page.goto(studio.page("/files", tool="blocks", lora=str(lora)))
    page.get_by_alt_text("Drawn as it is").wait_for(timeout=FIRST_DRAWING)
    page.get_by_role("slider", name="Weight of BASE").focus()
    page.keyboard.press("Home")
    page.get_by_alt_text("Drawn with these weights").wait_for(timeout=FIRST_DRAWING)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("b")
    page.get_by_alt_text("Drawn as it is").wait_for()
    page.keyboard.press("b")
    trials = [path.read_bytes() for path in studio.workspace.glob(".lorasmith/drawings/trials/*")]
    assert len(set(trials)) == len(trials) == 2
    page.get_by_text("BASE is below 0").wait_for()
    assert MARKUP in page.get_by_role("textbox", name="Prompt").input_value()
    assert page.locator("main img[src=x]").count() == 0
    require_open_to_everybody(page)
    page.get_by_label("Weight of BASE, as a number").fill("0.5")
    page.get_by_role("button", name="Work out the figures").click()
    page.locator(".command").get_by_text("merge").wait_for(timeout=FIRST_DRAWING)
    assert page.get_by_role("link", name="Take to Train").get_attribute("href")
    page.get_by_role("button", name="Write tiny-blocks.safetensors").click()
    page.get_by_role("gridcell", name="tiny-blocks").wait_for(timeout=FIRST_DRAWING)
    page.get_by_role("tab", name="File").click()
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_label("Name").fill("half")
    page.keyboard.press("Enter")
    page.get_by_role("gridcell", name="half").wait_for()
    old, new = (load_file(path) for path in (lora, lora.with_name("half.safetensors")))
    products = [
        each[f"{LAYER}.lora_up.weight"] @ each[f"{LAYER}.lora_down.weight"] for each in (old, new)
    ]
    assert np.allclose(products[1], products[0] / 2, atol=1e-5)


def test_a_dropped_picture_gives_its_settings(page, studio: Server, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", WEB_UI)
    picture = tmp_path / "of a web UI.png"
    Image.new("RGB", (64, 64)).save(picture, pnginfo=info)
    open_page(page, studio)
    page.evaluate(
        """async bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "of a web UI.png"));
            const init = { dataTransfer: transfer, bubbles: true, cancelable: true };
            document.querySelector("main").dispatchEvent(new DragEvent("drop", init));
        }""",
        list(picture.read_bytes()),
    )
    page.get_by_text("are taken").wait_for(timeout=FIRST_DRAWING)
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    assert prompt.input_value() == f"zorp, {MARKUP}"
    assert page.get_by_role("textbox", name="Negative prompt").input_value() == "<b>tail</b>"
    assert page.get_by_label("Steps", exact=True).input_value() == "3"
    assert page.get_by_role("combobox", name="Sampler").input_value() == "euler_a"
    assert page.get_by_label("Seed", exact=True).input_value() == "11"
    assert page.get_by_role("slider", name="Strength of tiny", exact=True).input_value() == "0.7"
    page.get_by_text("made with the model other").wait_for()
    assert page.locator("main img[src=x], main b").count() == 0
    page.get_by_role("button", name="Undo").click()
    assert prompt.input_value() == ""


def test_what_is_written_is_completed_weighed_and_counted(page, studio: Server) -> None:
    (studio.workspace / "wildcards").mkdir()
    (studio.workspace / "wildcards" / "hats.txt").write_text("red hat\n", encoding="utf-8")
    open_page(page, studio)
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    prompt.press_sequentially("a, stan")
    page.get_by_role("option", name="standing").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert prompt.input_value() == "a, standing"
    page.keyboard.press("Control+ArrowUp")
    assert prompt.input_value() == "a, (standing:1.1)"
    page.keyboard.press("Control+ArrowDown")
    assert prompt.input_value() == "a, standing"
    page.keyboard.press("End")
    prompt.press_sequentially(" <lora:ti")
    page.get_by_role("option", name="tiny:1>").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    assert prompt.input_value() == "a, standing <lora:tiny:1>"
    prompt.press_sequentially(" in __ha")
    page.get_by_role("option", name="hats__").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert prompt.input_value() == "a, standing <lora:tiny:1> in __hats__"
    # Closed, it begins no other.
    prompt.press_sequentially(", stan")
    page.get_by_role("option", name="standing").first.wait_for()
    page.keyboard.press("Escape")
    prompt.fill("cat, " * 40)
    page.get_by_role("group", name="Prompt: tokens").get_by_text("80 of 150").wait_for()


SIGNS = {
    "(a:1.2) [b]": {"weight": ["(", ":1.2)", "[", "]"]},
    "[a:b:0.5][a|b]": {"schedule": ["[", ":", ":", "0.5", "]", "[", "|", "]"]},
    "<lora:a:1> __b/c__ {d|e}{f}": {"tag": ["<lora:a:1>"], "wildcard": ["__b/c__", "{", "|", "}"]},
    r"\(a\) (b": {"odd": ["("]},
    "a BREAK b AND c BREAKS": {"word": ["BREAK", "AND"]},
    "[(a] b)": {"weight": ["[", "]"], "odd": ["(", ")"]},
}


def test_signs_have_their_colours(page, studio: Server) -> None:
    open_page(page, studio)
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    for text, signs in SIGNS.items():
        prompt.fill(text)
        found = page.evaluate(
            """() => Object.fromEntries([...CSS.highlights].map(([name, ranges]) => [name.slice(5),
                [...ranges].sort((a, b) => a.startOffset - b.startOffset)
                    .map((one) => one.startContainer.data.slice(one.startOffset, one.endOffset))])
                .filter(([, signs]) => signs.length))"""
        )
        assert found == signs, text


def test_a_mask_is_painted(page, studio: Server) -> None:
    path = studio.workspace / "zorp" / "drawings" / "2026-01-31" / "1.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), "blue").save(path)
    open_page(page, studio)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("d")
    page.locator("[data-path]").click()
    page.get_by_role("button", name="Begin from it").click()
    page.get_by_role("button", name="Paint a mask").click()
    box = page.get_by_label("Mask of 1.png").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    taking = page.get_by_role("button", name="Take the mask")
    page.keyboard.press("Control+z")
    assert taking.is_disabled(), "a stroke is taken back by its key also over the page"
    page.mouse.down()
    page.mouse.up()
    taking.click()
    page.get_by_alt_text("Its mask").wait_for()
    (mask,) = studio.workspace.glob("zorp/drawings/inputs/*mask.png")
    with Image.open(mask) as image:
        assert image.convert("L").getpixel((32, 32)) == 255
        assert image.convert("L").getpixel((2, 2)) == 0


def test_drawing_is_open_to_everybody(page, studio: Server) -> None:
    path = studio.workspace / "zorp" / "drawings" / "2026-01-31" / "1.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64), "blue").save(path)
    open_page(page, studio)
    page.locator(".lora-card").click()
    page.get_by_text("Text encoder and blocks").click()
    page.get_by_text("Begin from a picture").click()
    require_open_to_everybody(page, NARROW_TOO)
    page.get_by_role("tab", name="Drawings").click()
    page.locator("[data-path]").wait_for()
    require_open_to_everybody(page)
