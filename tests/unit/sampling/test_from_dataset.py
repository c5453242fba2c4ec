from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lorasmith.core.errors import PromptError
from lorasmith.data.dataset import match_repeats
from lorasmith.data.layout import find_folders
from lorasmith.data.scan import scan
from lorasmith.prompts.parse import parse_prompt
from lorasmith.sampling.from_dataset import (
    drawings_of_dataset,
    drawings_of_file,
    escaped,
    shared_tags,
    stripped,
)
from lorasmith.sampling.request import ImageRequest

BASE = ImageRequest("", "ugly", seed=100, steps=12)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "data"
    for name, captions in {
        "10_zorp girl": ["zorp, red hair", "a zorp standing, hat (blue)"],
        "2_zorp": ["zorp, sky"],
    }.items():
        (folder / name).mkdir(parents=True)
        for number, caption in enumerate(captions):
            Image.new("RGB", (32, 32)).save(folder / name / f"p{number}.png")
            (folder / name / f"p{number}.txt").write_text(caption)
    return folder


def test_one_for_each_image_without_the_trigger(dataset, tmp_path) -> None:
    drawings = drawings_of_dataset(dataset, BASE, tmp_path / "reg", without=["zorp"])
    assert [
        (d.path.relative_to(tmp_path).as_posix(), d.caption, d.request.prompt, d.request.seed)
        for d in drawings
    ] == [
        ("reg/2_reg/p0.png", "sky", "sky", 100),
        ("reg/10_girl/p0.png", "red hair", "red hair", 101),
        ("reg/10_girl/p1.png", "a standing, hat (blue)", r"a standing, hat \(blue\)", 102),
    ]
    assert drawings[0].request.negative == "ugly"
    assert drawings[0].caption_path.name == "p0.txt"


def test_the_folder_is_a_regularisation_set_of_as_many_uses(dataset, tmp_path) -> None:
    for drawing in drawings_of_dataset(dataset, BASE, tmp_path / "reg", without=["zorp"]):
        drawing.path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(drawing.path)
        drawing.caption_path.write_text(drawing.caption)
    specs = find_folders(dataset, tmp_path / "reg")
    images = scan(specs).images
    train = sum(specs[p.folder].repeats for p in images if not specs[p.folder].reg)
    reg = [p for p in images if specs[p.folder].reg]
    own = [specs[p.folder].repeats for p in reg]
    assert match_repeats(train, own) == own
    assert sorted(p.caption or "" for p in reg) == ["a standing, hat (blue)", "red hair", "sky"]


def test_candidates(dataset, tmp_path) -> None:
    drawings = drawings_of_dataset(
        dataset, BASE, tmp_path, template="{caption}, smile <lora:zorp-1:0.8>", count=2
    )
    assert len(drawings) == 6
    assert [d.path.name for d in drawings[:2]] == ["p0-01.png", "p0-02.png"]
    assert drawings[0].request.prompt == "zorp, sky, smile <lora:zorp-1:0.8>"
    assert drawings[0].caption == "zorp, sky"
    assert len({d.request.seed for d in drawings}) == 6
    with pytest.raises(PromptError, match="no place for the captions"):
        drawings_of_dataset(dataset, BASE, tmp_path, template="zorp")


def test_a_tag_that_all_have_is_seen(dataset, tmp_path) -> None:
    assert shared_tags(drawings_of_dataset(dataset, BASE, tmp_path)) == []
    (dataset / "10_zorp girl" / "p1.txt").write_text("zorp, hat")
    assert shared_tags(drawings_of_dataset(dataset, BASE, tmp_path)) == ["zorp"]


@pytest.mark.parametrize(
    ("caption", "left"),
    [
        ("zorp, a", "a"),
        ("a, Zorp", "a"),
        ("zorpling, a", "zorpling, a"),
        ("the zorp  sits, zorp", "the sits"),
        ("zorp girl, b", "girl, b"),
        ("miku (vocaloid), b", "b"),
    ],
)
def test_stripped(caption, left) -> None:
    assert stripped(caption, ["zorp", "miku (vocaloid)"]) == left


@pytest.mark.slow
@given(st.text("ab (),[]:1.\\", max_size=30).map(lambda text: text.replace("\\", "")))
def test_a_caption_is_meant_to_the_letter(caption) -> None:
    (part,) = parse_prompt(escaped(caption)).parts
    fragments = [fragment for section in part.sections() for fragment in section]
    assert {fragment.weight for fragment in fragments} <= {1.0}
    assert "".join(fragment.text for fragment in fragments) == caption


def test_tags_and_keywords_in_captions_are_words() -> None:
    prompt = parse_prompt(escaped("cat AND <lora:x:1> BREAK <3 :) <a:b>, SAND"))
    assert prompt.loras == ()
    (part,) = prompt.parts
    ((fragment,),) = part.sections()
    assert fragment.text == "cat and <lora :x:1> break <3 :) <a :b>, SAND"


def test_brackets_that_are_escaped_already_stay_so() -> None:
    assert escaped(r"miku \(vocaloid\), (x)") == r"miku \(vocaloid\), \(x\)"


def test_a_file_of_prompts(tmp_path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(
        "# mine\n\na girl <lora:x:1>, hat\n"
        "a boy --n bad hands --w 512 --h 768 --d 7 --s 30 --l 5.5 --ss euler_a\n"
    )
    first, second = drawings_of_file(path, BASE, tmp_path)
    assert (first.path.name, first.caption, first.request.seed) == ("0003.png", "a girl , hat", 100)
    assert second.request == ImageRequest("a boy", "bad hands", 7, 30, 5.5, "euler_a", 512, 768)
    assert [d.path.name for d in drawings_of_file(path, BASE, tmp_path, count=2)][:2] == [
        "0003-01.png",
        "0003-02.png",
    ]
    path.write_text("a --x 3\nb --s many\n")
    with pytest.raises(PromptError, match=r"prompts.txt:1: unknown option --x[^$]*:2: --s many"):
        drawings_of_file(path, BASE, tmp_path)
    path.write_text("# nothing\n")
    with pytest.raises(PromptError, match="holds no prompt"):
        drawings_of_file(path, BASE, tmp_path)
