"""Bad settings of every kind: a clear message, exit status 2, no traceback.

All through the real command; a few in a process of their own.
"""

# ruff: noqa: E501 - a case of the table is one line

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from lorasmith.cli.main import cli


@dataclass(frozen=True)
class Case:
    """
    Args:
        says: texts that the message must hold.
        toml: contents of run.toml, which is given when there is any.
        args: what follows ``lorasmith train``.
    """

    says: tuple[str, ...]
    toml: str | bytes = ""
    args: tuple[str, ...] = ("--data", "pictures")
    id: str = field(default="", kw_only=True)


CASES = [
    Case(("run.toml: optimizer.lrr", "did you mean optimizer.lr?"), "[optimizer]\nlrr = 1", id="unknown key"),
    Case(("run.toml: lr", "lr belongs to [optimizer]"), "lr = 1e-4", id="key outside its section"),
    Case(("adapter.lr", "lr belongs to [optimizer]"), "[adapter]\nlr = 1", id="key in another section"),
    Case(("train.network_dim", "adapter.rank"), "[train]\nnetwork_dim = 8", id="sd-scripts' name"),
    Case(("optimizer.d_coef", "optimizer.args"), "[optimizer]\nd_coef = 2", id="argument as setting"),
    Case(("optimiser", "did you mean [optimizer]?"), "[optimiser]\nlr = 1", id="unknown section"),
    Case(("zzz", "the sections are model, data"), "[zzz]\nlr = 1", id="unlike any section"),
    Case(("optimizer.lr", "'1e-4o' is not a number"), '[optimizer]\nlr = "1e-4o"', id="lr 1e-4o quoted"),
    Case(("run.toml, line 2", "lr = 1e-4o"), "[optimizer]\nlr = 1e-4o", id="lr 1e-4o bare"),
    Case(("--set optimizer.lr", "not a number"), args=("--data", "x", "--set", "optimizer.lr=1e-4o"), id="--set lr"),
    Case(("--optimizer.lr", "not a number"), args=("--data", "x", "--optimizer.lr", "1e-4o"), id="option lr"),
    Case(("0.000025, with a point",), '[optimizer]\nlr = "0,000025"', id="decimal comma"),
    Case(("adapter.rank", "0 is out of range", "from 1 to 1024"), "[adapter]\nrank = 0", id="rank 0"),
    Case(("adapter.rank", "16.5 is not a whole number"), "[adapter]\nrank = 16.5", id="rank 16.5"),
    Case(("adapter.rank", "'true' is not a whole number"), "[adapter]\nrank = true", id="rank true"),
    Case(("train.epochs", "-1 is out of range"), "[train]\nepochs = -1", id="negative epochs"),
    Case(("train.batch", "0 is out of range"), "[train]\nbatch = 0", id="batch 0"),
    Case(("train.seed", "-1 is out of range"), "[train]\nseed = -1", id="seed -1"),
    Case(("not a finite number",), "[optimizer]\nlr = nan", id="lr nan"),
    Case(("adapter.dropout", "from 0 to below 1"), "[adapter]\ndropout = 1.0", id="dropout 1"),
    Case(("captions.shuffle", "neither true nor false"), '[captions]\nshuffle = "maybe"', id="bool"),
    Case(("optimizer.name", "did you mean AdamW?"), '[optimizer]\nname = "adamv"', id="optimizer"),
    Case(("schedule.name", "did you mean cosine_with_restarts?"), '[schedule]\nname = "cosine_with_restart"', id="schedule"),
    Case(("schedule.warmup", "'5x'"), '[schedule]\nwarmup = "5x"', id="warm-up"),
    Case(("data.resolution", "512 or [512, 768]"), '[data]\nresolution = "big"', id="resolution"),
    Case(("data.background", "not a colour"), '[data]\nbackground = "#12"', id="background"),
    Case(("data.background", "'foo' is not a colour"), '[data]\nbackground = "foo"', id="no colour's name"),
    Case(("adapter", "leave nothing"), '[adapter]\nblocks = "NONE"', id="every block at 0"),
    Case(("data.folders[2].repeets", "did you mean repeats?"), '[[data.folders]]\npath = "a"\n[[data.folders]]\npath = "b"\nrepeets = 2', (), id="folder key"),
    Case(("data.folders[1].path", "is missing"), "[[data.folders]]\nrepeats = 2", (), id="folder path"),
    Case(("optimizer", "stands where a table belongs"), 'optimizer = "AdamW"', id="section as text"),
    Case(("save.name", "cannot be a file name"), '[save]\nname = "a/b"', id="name with slash"),
    Case(("'/' cannot be in a file's name",), '[save]\nname = "../b"', id="name that is a path"),
    Case(("save.name", "Windows keeps"), '[save]\nname = "Aux.v2"', id="name of a device"),
    Case(("save.name", "Windows leaves out"), '[save]\nname = "zorp."', id="name with dot"),
    Case(("optimizer.args", "did you mean weight_decay?"), "[optimizer.args]\nweight_decy = 1", id="optimizer argument"),
    Case(("optimizer.args", "key=value"), '[optimizer]\nargs = ["weight_decay"]', id="argument without ="),
    Case(("nothing to train",), "[adapter]\nunet = false\ntext_encoder = false", id="nothing to train"),
    Case(("both path", "data.folders"), '[[data.folders]]\npath = "a"', id="data twice"),
    Case(("run.toml, line 3", "not TOML"), "[train]\nepochs = 3\nbatch = = 2", id="syntax"),
    Case(("line 1", "quotes"), "model = sd15.safetensors", id="text without quotes"),
    Case(("line 2", "single quotes"), '[data]\npath = "C:\\pictures"', id="backslashes"),
    Case(("line 3", "only once"), "[train]\n[save]\n[train]", id="section twice"),
    Case(("not text in UTF-8",), b"\x93\x00\xff\xfe\x80", id="binary file"),
    Case(("version", "newer lorasmith"), "version = 9", id="newer version"),
    Case(("no such file", "run.toml"), args=("run.tmol", "--data", "x"), id="missing file"),
    Case(("no preset 'charakter'", "did you mean character?"), args=("--data", "x", "--preset", "charakter"), id="preset"),
    Case(("--set optimizer.lr", "has no value"), args=("--data", "x", "--set", "optimizer.lr"), id="--set without ="),
    Case(("train.step", "did you mean train.steps?"), args=("--data", "x", "--set", "train.step=5"), id="name of another section by a slip"),
    Case(("--set lr", "lr belongs to [optimizer]"), args=("--data", "x", "--set", "lr=1"), id="--set without section"),
    Case(("adapter.rank", "given differently"), args=("--data", "x", "--set", "adapter.rank=8", "--adapter.rank", "4"), id="said twice"),
    Case(("No such option '--lr'", "write --optimizer.lr"), args=("--data", "x", "--lr", "1"), id="unknown option"),
    Case(("No such option '--optimizer.lrr'", "optimizer.lr"), args=("--optimizer.lrr", "1"), id="unknown setting option"),
    Case(("no training pictures", "--data"), args=(), id="no data"),
    Case(("--data", "is empty"), args=("--data", ""), id="empty data"),
    Case(("leave --plan out",), args=("--resume", "runs/x", "--plan"), id="resume and plan"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_settings(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = ["train", *case.args]
    text = case.toml.encode() if isinstance(case.toml, str) else case.toml
    Path("run.toml").write_bytes(text)
    if text:
        args.insert(1, "run.toml")
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    for words in case.says:
        assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert "pydantic" not in result.stderr
    assert sorted(tmp_path.iterdir()) == [tmp_path / "run.toml"], "something was written"


def test_everything_that_is_wrong_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(
        '[optimizer]\nlr = "x"\n[adapter]\nrank = 0\nunet = 3\n[buckets]\nmin = 9\nmax = 8\n'
    )
    result = CliRunner().invoke(cli, ["train", "run.toml", "--preset", "nope", "--set", "seed=1"])
    assert result.exit_code == 2
    for text in (
        "6 errors",
        "optimizer.lr",
        "adapter.rank",
        "adapter.unet",
        "larger than max",
        "preset 'nope'",
        "--set seed",
    ):
        assert text in result.stderr


@pytest.mark.slow_but_first
@pytest.mark.parametrize(
    "args",
    [
        ["train", "missing.toml"],
        ["train", "--optimizer.lr", "1e-4o"],
        ["trian"],
        ["train", "--no-such-option"],
    ],
)
def test_in_a_process_of_its_own(args: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lorasmith", *args],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "rror" in done.stderr
