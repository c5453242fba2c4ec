"""Every reader with the same few inputs each time, and with those that once broke one."""

from __future__ import annotations

import contextlib
import struct
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.runner import broken_by, changed, fuzz, inputs
from tests.fuzz.targets import RUN, TARGETS, Target

COUNT = 60

ONCE_BROKEN = {
    "a prompt with a long number": ("side_cars", b"(a:" + b"9" * 25_000),
    "a record before the beginning of the file": (
        "torch_program",
        b"PK\3\4" + bytes(26) + b"PK\1\2" + bytes(24) + struct.pack("<HHHHHII", 8, 0, 0, 0, 0, 0, 0)
        + b"a/data.p" + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 54, 90, 0),
    ),
    "a TOML number of 5000 digits": ("settings", b"[optimizer]\nlr = " + b"9" * 5000),
    "a size of 5000 digits": ("arguments", b"--resolution=" + b"5" * 5000),
    "a hexadecimal TOML number of 5000 digits": ("settings", b"[data]\npath = 0x" + b"f" * 5000),
    "a single table of prompts": ("sample_prompts", b"[prompt.subset]\nseed = 512\n"),
    "a for that ends early": ("cmd", b"for /"),
    "a setting's name of many brackets": ("overrides", b"adapter" + b"[" * 20_000 + b"=1"),
    "a TOML key of many parts": ("settings", b"[data]\n" + b"a." * 10_000 + b"a = 1"),
    "an inline TOML key of many parts": ("settings", b"x = {" + b"a." * 10_000 + b"a = 1}"),
    "deep TOML": ("settings", b"a = " + b"[" * 5000),
    "a brace of a billion words": ("bash", b"python train_network.py --x={1..999999999}\n"),
    "braces that multiply": ("bash", b"python train_network.py --x=" + b"{1..999}" * 9 + b"\n"),
    "deep JSON in a header": ("safetensors_header", b'{"__metadata__": {"ss_tag_frequency": "'
                              + b'{\\"a\\":' * 5000 + b'"}}'),
    "a sample picture without a name": ("run_logs", RUN.encode().replace(
        b"/a/00000003-00-1.png", b"")),
    "deep JSON in a run's log": ("run_logs", b"{}\n---\n" + b"[" * 100_000 + b"\n---\n{\"step\":"
                                 + b"[" * 100_000),
    "deep JSON of a prompt file": ("sample_prompts", b"[" * 100_000),
    "deep JSON of a window": ("kohya_json", b'{"a":' * 100_000),
    "a quoted value in an infotext": ("infotext", b"a\nSteps: 3, Seed: 4, Size: 8x8, Model: \""
                                      + b"[" * 50_000 + b'"'),
    "a loop of a billion rounds": ("cmd", b"for /l %%i in (1,1,999999999) do set x=%%i\n"),
    "a place of 5000 digits": ("cmd", b"set x=a\nset y=%x:~" + b"9" * 5000 + b"%\n"),
    "rounds of 5000 digits": ("cmd", b"for /l %%i in (1,1," + b"9" * 5000 + b") do set x=%%i\n"),
    "cmd texts that multiply": ("cmd", b"set x=" + b"a" * 9000 + b"\nset y=" + b"%x%" * 9000),
    "delayed texts that multiply": ("cmd", b"setlocal enabledelayedexpansion\nset x=" + b"a" * 9000
                                    + b"\nset y=" + b"!x!" * 9000),
    "replacing that multiplies": ("cmd", b"set x=" + b"a" * 9000 + b"\nset y=%x:a=" + b"b" * 9000
                                  + b"%\n"),
    "bash texts that multiply": ("bash", b"x=" + b"a" * 9000 + b"\necho " + b"$x" * 20000),
    "bash words that multiply": ("bash", b"f() { f $* $* $* $*; }\nf a b c d e f g\n"),
    "a bash pattern of many stars": ("bash", b"x=" + b"a" * 900 + b"\ny=${x##*a*a*a*b}\n"),
    "a bash condition of many stars": ("bash", b"x=" + b"a" * 900 + b"\n[[ $x == *a*a*a*b ]]\n"),
    "joins that multiply": ("powershell", b"$x = 1..10000 -join (1..10000 -join 'aaaaaaaaaaaaa')"),
    "lists in lists": ("powershell", b"$x = @(1)\n" + b"$x = @($x,$x)\n" * 60),
    "a list added to itself": ("powershell", b"$x = [System.Collections.ArrayList]::new()\n"
                               b"[void]$x.Add(1)\n" + b"[void]$x.AddRange($x)\n" * 40),
    "a text times a number": ("powershell", b"$x = '" + b"a" * 9000 + b"' * 900 * 900\n"),
    "a list looked through": ("powershell", b"$x = 1..10000\n" + b"foreach ($a in 1..100) {" * 2
                              + b"$y = $x -contains 3" + b"}" * 2),
    "a PowerShell pattern of many stars": ("powershell", b"$x = '" + b"a" * 900
                                           + b"' -match 'a*a*a*a*b'\n"),
    "many choices": ("powershell", b"$x = '" + b"a" * 50 + b"' -match '" + b"(a|aa)" * 40 + b"b'"),
    "a version of 5000 digits": ("infotext", b"a\nSteps: 3, Seed: 4, Sampler: Euler, Version: v"
                                 + b"9" * 5000 + b".1"),
    "a size of an infotext of 5000 digits": ("infotext", b"a\nSteps: 3, Seed: 4, Size: "
                                             + b"9" * 5000 + b"x8"),
    "hashes without an end": ("infotext", b"a\nSteps: 3, Seed: 4, Lora hashes: " + b"a" * 60_000),
    "an answer that is loops all over": ("captioner_answer", " ".join(
        Random(1).choices("ab", k=50_000)).encode()),
    "words without a colon": ("infotext", b"a\nSteps: 3, Seed: 4, Size: 8x8, " + b"a " * 30_000),
    "quotes without an end": ("infotext", b"a\nSteps: 3, Seed: 4, Size: 8x8, "
                              + b'aa:"\\",' * 8000),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_inputs(name: str) -> None:
    tried, findings = fuzz(name, count=COUNT, seed=0)
    assert tried == COUNT
    assert not findings


@pytest.mark.parametrize("case", ONCE_BROKEN)
def test_what_once_broke_a_reader(case: str) -> None:
    name, data = ONCE_BROKEN[case]
    assert not broken_by(TARGETS[name], data)


@pytest.mark.slow
def test_the_runner_sees_what_breaks() -> None:
    def raises(data: bytes) -> None:
        raise KeyError(data)

    def hangs(data: bytes) -> None:
        while True:
            with contextlib.suppress(Exception):
                while True:
                    pass

    assert "KeyError" in broken_by(Target(raises, lambda: [b""]), b"x")
    if sys.platform != "win32":
        assert "more than 2 s" in broken_by(Target(hangs, lambda: [b""]), b"x")
    assert not broken_by(Target(lambda data: None, lambda: [b""]), b"x")


def test_inputs_are_the_same_for_the_same_seed() -> None:
    first, again, other = (inputs("prompt", seed) for seed in (1, 1, 2))
    lists = [[next(each) for _ in range(50)] for each in (first, again, other)]
    assert lists[0] == lists[1] != lists[2]
    assert len(set(lists[0])) > 40


def test_each_reader_has_a_sound_beginning(tmp_path: Path) -> None:
    for name, target in TARGETS.items():
        assert target.corpus(), name
        for data in target.corpus():
            assert not broken_by(target, data), name
    assert changed.__doc__
