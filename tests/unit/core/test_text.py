"""Numbers as people write them, wherever they write them."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from lorasmith.cli.main import cli
from lorasmith.config.load import load_settings
from lorasmith.core.errors import SettingsError
from lorasmith.core.text import (
    bytes_text,
    did_you_mean,
    number_hint,
    parse_number,
    parse_size,
    quantity,
    quoted,
    shortlist,
    word_list,
)
from lorasmith.importers.sd_scripts.values import number, numbers, share, whole


@pytest.mark.parametrize(
    ("text", "value"), [("16", 16), (" 16.0 ", 16), ("1e-4", 1e-4), (3, 3), ("-0.5", -0.5)]
)
def test_numbers(text: Any, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "is_whole", "says"),
    [
        ("16,0", True, "write 16"),
        ("16,00", True, "write 16"),
        ("16,5", True, ""),
        ("16,000", True, "write 16000, without a comma"),
        ("7,5", False, "write 7.5, with a point"),
        ("-0,000025", False, "write -0.000025, with a point"),
        ("1,5e-4", False, "write 1.5e-4, with a point"),
        ("1,2,3", False, ""),
        ("0.9,0.99", False, ""),
        ("a", False, ""),
    ],
)
def test_hints(text: str, is_whole: bool, says: str) -> None:
    assert number_hint(text, whole=is_whole) == says
    kind = "a whole number" if is_whole else "a number"
    with pytest.raises(ValueError, match=f"is not {kind}") as caught:
        parse_number(text, whole=is_whole)
    assert str(caught.value).endswith(says)
    if says:  # What is advised is taken.
        advice = says.removeprefix("write ").partition(",")[0]
        assert parse_number(advice, whole=is_whole) is not None


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", float("nan"), "-inf"])
def test_what_is_not_finite(text: Any) -> None:
    with pytest.raises(ValueError, match="is not a finite number"):
        parse_number(text)


@pytest.mark.parametrize(
    ("reader", "text", "says"),
    [
        (number, "0,5", "write 0.5, with a point"), (whole, "8,0", "write 8"),
        (numbers, "0,5 1", "write 0.5, with a point"), (share, "0,1", "write 0.1, with a point"),
    ],
)  # fmt: skip
def test_sd_scripts_arguments(reader: Any, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        reader(text)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("adapter.rank=16,0", "(write 16)"),
        ("train.epochs=1,000", "(write 1000, without a comma)"),
        ("optimizer.lr=0,0001", "(write 0.0001, with a point)"),
        ("schedule.warmup=5,5%", "write 5.5%, with a point"),
        ("schedule.warmup=0,1", "write 0.1, with a point"),
        ('optimizer.args=["weight_decay=0,1"]', "write 0.1, with a point"),
        ("adapter.blocks=IN04=0,5", "write 0.5, with a point"),
    ],
)
def test_settings(setting: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, [setting])
    assert says in str(caught.value)


def test_pairs_of_an_optimizer_are_pairs() -> None:
    settings = load_settings(None, ['optimizer.args=["betas=0,1"]'])
    assert settings.optimizer.args == {"betas": (0, 1)}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["generate", "x", "--cfg", "7,5"], "write 7.5, with a point"),
        (["generate", "x", "--steps", "20,0"], "write 20"),
        (["generate", "<lora:x:0,8>"], "write 0.8, with a point"),
        (["merge", "a:0,5", "--out", "x.safetensors"], "write 0.5, with a point"),
        (["resize", "a.safetensors", "b.safetensors", "--retain", "0,98"], "write 0.98, with"),
        (["train", "--epochs", "10,0"], "write 10"),
        (["train", "--rank", "8"], "write --adapter.rank"),
        (["train", "--seed", "8"], "--train.seed"),
    ],
)
def test_commands(argv: list[str], says: str) -> None:
    result = CliRunner().invoke(cli, argv)
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())


def test_epochs_are_an_option() -> None:
    result = CliRunner().invoke(cli, ["train", "--help"])
    assert "--epochs N" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((1, "sample"), "1 sample"), ((0, "sample"), "0 samples"), ((2, "batch"), "2 batches"),
     ((2, "epoch"), "2 epochs"), ((3, "copy"), "3 copies"), ((2, "day"), "2 days"),
     ((1, "image", "is"), "1 image is"), ((4, "image", "is"), "4 images are"),
     ((2, "training caption", "has"), "2 training captions have")],
)  # fmt: skip
def test_counts_in_words(arguments: tuple[int, str], text: str) -> None:
    assert quantity(*arguments) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (740, "740 bytes"), (1000, "1.0 kB"), (37_400_000, "37.4 MB"),
     (99_940_000, "99.9 MB"), (99_960_000, "100 MB"), (999_400_000, "999 MB"),
     (999_600_000, "1.0 GB"), (6_940_000_000, "6.9 GB"), (5e12, "5000 GB")],
)  # fmt: skip
def test_sizes_in_bytes(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize("text", ["512x768", " 512 X 768 ", "512×768", "512*768"])
def test_sizes_of_images(text: str) -> None:
    assert parse_size(text) == (512, 768)


@pytest.mark.parametrize("text", ["512", "512x", "-512x768", "512x768x3", "1234567x1", "5.5x7", ""])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


def test_lists() -> None:
    assert [word_list("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert word_list("abc", "or") == "a, b or c"
    assert [shortlist("abcd"[:n]) for n in (1, 3, 4)] == ["a", "a, b, c", "a, b, c, …"]


def test_quoted_text_is_cut_where_it_is_long() -> None:
    assert quoted("a" * 60) == f'"{"a" * 60}"'
    assert quoted("a" * 61) == f'"{"a" * 57}..."'


def test_what_was_likely_meant() -> None:
    assert did_you_mean("adamv", ["adamw", "lion"]) == "did you mean adamw?"
    assert did_you_mean("zzz", ["adamw", "lion"], "choose one") == "choose one"
    assert did_you_mean("lione", {"lion": "Lion"}, form="--{}") == "did you mean --Lion?"
    assert did_you_mean("ab", ["abc", "abd"], most=2) == "did you mean abd or abc?"
