"""Seeds at and beyond 2^63, wherever one is taken."""

from __future__ import annotations

import struct
from hashlib import blake2b
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from tests.unit.lora_tools.made_files import METADATA, kohya_tensors

from lorasmith.cli.main import cli
from lorasmith.core.rng import MAX_SEED, derive

LARGE = ("9223372036854775808", "18446744073709551616", "99999999999999999999", "-1" + "0" * 30)


def run(*args: object) -> str:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.output


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set" / "1_zorp").mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (64, 64), (number * 90, 9, 9)).save(f"set/1_zorp/{number}.png")
        Path(f"set/1_zorp/{number}.txt").write_text("zorp")


@pytest.mark.parametrize("seed", LARGE)
def test_a_seed_out_of_range_is_said(tmp_path: Path, seed: str) -> None:
    """Wildcards too, which draw from the seed before a picture is asked for."""
    (tmp_path / "prompts.txt").write_text(f"a {{zorp|hat}} --d {seed}\n")
    for args in (
        ("generate", "{a|b}", "--seed", seed),
        ("generate", "{a|b}", "--seed", str(MAX_SEED), "--count", "2"),
        ("generate", "--prompts", "prompts.txt"),
        ("grid", "{a|b}", "--x", "steps=1,2", "--seed", seed),
        ("grid", "{a|b}", "--x", f"seed=1,{seed}"),
        ("grid", "{a|b}", "--x", f"seed={MAX_SEED}-9223372036854775809"),
        ("train", "set", "--train.seed", seed),
        ("train", "set", "--sample.seed", seed),
        ("train", "set", "--validation.seed", seed),
    ):
        output = run(*args)
        assert "seed" in output, args
        if args[0] != "grid" or "," not in args[-1]:
            assert "out of range" in output or "digits" in output, output
        assert "e+18" not in output


def test_the_file_tools_say_it_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file(kohya_tensors(), tmp_path / f"{name}.safetensors", METADATA)
    args = ("merge", "a.safetensors", "b.safetensors", "--method", "dare", "--out", "c.safetensors")
    assert "--seed" in run(*args, "--density", "0.5", "--seed", LARGE[0])
    out = ("--out", "c.safetensors", "--seed", LARGE[1])
    assert "--seed" in run("extract", "--base", "demo", "--tuned", "demo", *out)


def test_the_largest_seed_draws() -> None:
    result = CliRunner().invoke(
        cli, ["generate", "{a|b}", "--seed", str(MAX_SEED), "--steps", "1", "--cfg", "1"]
    )
    assert result.exit_code == 0, result.output


def test_a_draw_is_a_function_of_any_number() -> None:
    """As packed in 64 bits with a sign, which all seeds until now were; larger ones wrap."""
    for seed in (0, 1, -1, MAX_SEED, -(2**63)):
        digest = blake2b(b"noise", digest_size=8)
        digest.update(struct.pack("<3q", seed, 5, -7))
        assert derive(seed, "noise", 5, -7) == int.from_bytes(digest.digest(), "little") >> 1
    assert derive(2**64 + 3, "noise") == derive(3, "noise")
    assert derive(2**63, "noise") != derive(2**63 + 1, "noise")
