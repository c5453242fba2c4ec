from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.prompts.infotext import Infotext, format_infotext, parse_infotext

SETTINGS = {
    "Steps": "20",
    "Sampler": "DPM++ 2M Karras",
    "CFG scale": "7.5",
    "Seed": "123",
    "Size": "512x768",
    "Model": "demo",
    "Lora hashes": "cat: 0123456789ab, dog: ba9876543210",
    "Version": "lorasmith 0.1.0",
}


def test_the_text_is_laid_out_as_the_web_ui_does() -> None:
    text = format_infotext(Infotext("a cat, <lora:cat:0.8>", "bad, ugly", SETTINGS))
    assert text == (
        "a cat, <lora:cat:0.8>\n"
        "Negative prompt: bad, ugly\n"
        "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 123, Size: 512x768, "
        'Model: demo, Lora hashes: "cat: 0123456789ab, dog: ba9876543210", '
        "Version: lorasmith 0.1.0"
    )


def test_a_text_written_by_the_web_ui_is_read() -> None:
    info = parse_infotext(
        "masterpiece, (girl:1.2),\nlooking at viewer\nNegative prompt: lowres,\nbad hands\n"
        "Steps: 28, Sampler: Euler a, CFG scale: 7, Seed: 4242, Face restoration: CodeFormer, "
        "Size: 512x512, Model hash: abcdef0123, Model: some-model_v1, Clip skip: 2, "
        'Lora hashes: "one: aabb, two: ccdd", Version: v1.10.1'
    )
    assert info.prompt == "masterpiece, (girl:1.2),\nlooking at viewer"
    assert info.negative == "lowres,\nbad hands"
    assert info.settings["Sampler"] == "Euler a"
    assert info.settings["Lora hashes"] == "one: aabb, two: ccdd"
    assert info.settings["Version"] == "v1.10.1"


LINE = st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30)


@settings(max_examples=200, deadline=None)
@given(LINE, LINE, st.text(st.characters(blacklist_categories=["Cs"]), max_size=20))
def test_round_trip(prompt, negative, value) -> None:
    if prompt.strip().startswith("Negative prompt:"):
        return
    info = Infotext(prompt.strip(), negative.strip(), {**SETTINGS, "Anything": value})
    assert parse_infotext(format_infotext(info)) == info


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_text_crashes_the_reader(text) -> None:
    parse_infotext(text)
