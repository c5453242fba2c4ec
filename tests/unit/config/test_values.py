"""Spellings of one value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasmith.config.values import optimizer_args, share, size, warmup


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (512, 512),
        ("512", 512),
        ("512,768", (512, 768)),
        ("512x768", (512, 768)),
        ("512, 768", (512, 768)),
        ([512, 768], (512, 768)),
        ([512], 512),
        (512.0, 512),
        (None, None),
    ],
)
def test_size_spellings(written: object, meant: object) -> None:
    assert size(written) == meant


@pytest.mark.parametrize(
    "written", ["", "abc", 5, 100_000, 512.5, True, "512x768x3", [], ["a"], {}]
)
def test_bad_sizes(written: object) -> None:
    with pytest.raises(ValueError, match=r"size|side|range"):
        size(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [(0, 0), (100, 100), ("100", 100), ("5%", 0.05), ("5 %", 0.05), (0.05, 0.05), ("0.1", 0.1)],
)
def test_warmup_spellings(written: object, meant: float) -> None:
    assert warmup(written) == pytest.approx(meant)
    assert type(warmup(written)) is type(meant)


@pytest.mark.parametrize("written", ["x", "", "%", -1, "-5%", "100%", "250%", 1.5, True, None, []])
def test_bad_warmups(written: object) -> None:
    with pytest.raises(ValueError, match=r"warm-up|share|negative"):
        warmup(written)


@pytest.mark.parametrize(
    ("written", "meant"), [(0, 0.0), ("10%", 0.1), ("12.5 %", 0.125), (0.1, 0.1), ("0.1", 0.1)]
)
def test_share_spellings(written: object, meant: float) -> None:
    assert share(written) == pytest.approx(meant)


@pytest.mark.parametrize("written", ["x", "", "%", 1, -0.1, "100%", "nan", True, None, []])
def test_bad_shares(written: object) -> None:
    with pytest.raises(ValueError, match=r"share|range"):
        share(written)


def test_optimizer_args_as_the_guides_write_them() -> None:
    line = (
        "decouple=True weight_decay=0.01 d_coef=2 use_bias_correction=True safeguard_warmup=True "
        "betas=0.9,0.99"
    )
    meant = {
        "decouple": True,
        "weight_decay": 0.01,
        "d_coef": 2,
        "use_bias_correction": True,
        "safeguard_warmup": True,
        "betas": (0.9, 0.99),
    }
    assert optimizer_args(line) == meant
    assert optimizer_args(line.split()) == meant
    assert optimizer_args({**meant, "betas": [0.9, 0.99]}) == meant
    assert optimizer_args({"betas": "0.9,0.99", "decouple": "true"}) == {
        "betas": (0.9, 0.99),
        "decouple": True,
    }


@pytest.mark.parametrize(
    "written", ["weight_decay", ["=1"], "lr=__import__('os')", "a=b", 3, [1], ["d0=1e-6o"]]
)
def test_bad_optimizer_args(written: object) -> None:
    with pytest.raises(ValueError, match=r"key=value|number"):
        optimizer_args(written)


@given(st.text())
def test_no_text_makes_the_readers_fall_over(text: str) -> None:
    for reader in (size, warmup, optimizer_args):
        try:
            reader(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - any outcome but another exception is fine
