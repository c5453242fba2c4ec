"""The two scripts at the end of the guide that most people began with, read as they stand there."""

# ruff: noqa: E501 - command lines are long

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.config.foreign.argv import read_argv
from lorasmith.config.foreign.bash_script import read_bash
from lorasmith.config.foreign.engine import convert_source
from lorasmith.config.foreign.files import read_file
from lorasmith.config.foreign.powershell_script import read_powershell
from lorasmith.config.foreign.scripts import read_script

HERE = Path(__file__).parent

POWERSHELL = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path=X:\\SD\\voldy\\models\\Stable-diffusion\\animefull-final-pruned.ckpt",
    "--train_data_dir=X:\\SD\\training\\my_concepts_folder", "--reg_data_dir=X:\\SD\\training\\reg",
    "--output_dir=X:\\SD\\voldy\\models\\lora",
    "--caption_extension=.txt", "--shuffle_caption", "--keep_tokens=1", "--prior_loss_weight=1",
    "--resolution=512", "--enable_bucket", "--min_bucket_reso=320", "--max_bucket_reso=960",
    "--train_batch_size=1", "--learning_rate=0.0001", "--unet_lr=0.0001",
    "--text_encoder_lr=0.00005", "--max_train_epochs=8", "--mixed_precision=fp16",
    "--save_precision=fp16", "--optimizer_type=AdamW8bit", "--xformers", "--save_every_n_epochs=1",
    "--save_model_as=safetensors", "--clip_skip=2", "--seed=420", "--flip_aug",
    "--network_dim=128", "--network_alpha=128", "--max_token_length=225", "--cache_latents",
    "--lr_scheduler=cosine_with_restarts", "--noise_offset=0.0",
]  # fmt: skip


def arguments(commands: list[list[str]]) -> list[str]:
    (command,) = [words for words in commands if "train_network.py" in words]
    return command[command.index("train_network.py") + 1 :]


def test_the_powershell_script() -> None:
    commands, _ = read_powershell((HERE / "sample.ps1").read_text(encoding="utf-8"))
    assert arguments(commands) == POWERSHELL


def test_the_bash_script_as_bash_itself_reads_it(tmp_path: Path) -> None:
    """Run with a launcher that prints what it is given."""
    script = (HERE / "sample.sh").read_text(encoding="utf-8")
    commands, _ = read_bash(script)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text('accelerate() { printf "%s\\n" "$@"; }\n')
    script = script.replace('TRAIN_DIR="/mnt/DATA/AI/sd-scripts"', f'TRAIN_DIR="{tmp_path}"')
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    expected = [line.replace(str(tmp_path), "/mnt/DATA/AI/sd-scripts")
                for line in done.stdout.splitlines()]  # fmt: skip
    assert [["accelerate", *expected]] == commands


@pytest.mark.parametrize("name", ["sample.ps1", "sample.sh"])
def test_the_scripts_convert(name: str) -> None:
    result = convert_source(read_file(HERE / name))
    assert result.problems == []
    assert result.values["train.epochs"] == {"sample.ps1": 8, "sample.sh": 6}[name]
    assert "how the launcher starts it" in result.remarks[0].why


BASH = r"""
export LR=1e-4 NAME='a b'   # two at once
dim=$((2 * 8))
opts=(--shuffle_caption "--output_name=$NAME")   # an array
opts+=( --seed 7
  --flip_aug )
if [ -n "$1" ]; then epochs=5; fi
[ -d reg ] && REG=reg
cd x || { echo "--no such"; exit 1; }
python "train_network.py" "${opts[@]}" --learning_rate=${LR} --unet_lr=${OTHER:-2e-4} \
  --training_comment="it is \"$NAME\"" '--output_dir=$LR' $EMPTY \
  --max_train_epochs=$epochs --network_dim=$dim --reg_data_dir="$REG" --vae=`cat x` > log.txt 2>&1
"""


def test_bash() -> None:
    source = read_script(BASH, "run.sh", powershell=False)
    given = {name: value.raw for name, value in source.given.items()}
    assert given == {
        "shuffle_caption": True, "output_name": "a b", "seed": "7", "flip_aug": True,
        "learning_rate": "1e-4", "unet_lr": "2e-4", "training_comment": 'it is "a b"',
        "output_dir": "$LR",
    }  # fmt: skip
    texts = [str(problem) for problem in source.problems]
    assert len(texts) == 4, texts
    assert any("--max_train_epochs" in t and "line 7 sets epochs" in t for t in texts)
    assert any("--reg_data_dir" in t and "line 8 sets REG" in t for t in texts)
    assert any("--network_dim" in t and "only running the script" in t for t in texts)
    assert any("--vae" in t and "only running the script" in t for t in texts)


PS = r"""
<# a block
   --of_comment #>
$Dim = 8; $Alpha = $dim / 2
$name = 'it''s' + "-$dim"
$ext = [System.Collections.ArrayList]::new()
[void]$ext.Add("--shuffle_caption")
if ($true) { $epochs = 5
  [void]$maybe.Add("--flip_aug") }
$list = @(
  "--seed=7",   # one
  "--output_name=$name"
)
$list += "--clip_skip=2"
function Go { accelerate launch "./train_network.py" $ext @list --network_dim=$Dim `
    --network_alpha=${alpha} --resolution="512,768" --learning_rate $(1/2) --max_train_epochs=$epochs }
"""


def test_powershell() -> None:
    source = read_script(PS, "run.ps1", powershell=True)
    given = {name: value.raw for name, value in source.given.items()}
    texts = [str(problem) for problem in source.problems]
    assert given == {
        "shuffle_caption": True, "seed": "7", "output_name": "it's-8", "clip_skip": "2",
        "network_dim": "8", "network_alpha": "4", "resolution": "512,768",
    }  # fmt: skip
    assert any("--max_train_epochs" in t and "line 8 sets epochs" in t for t in texts), texts


def test_scripts_without_one_training() -> None:
    for text, says in (
        ("echo --hello", "no command with train_network.py"),
        ("train_network.py --a\ntrain_network.py --b", "trains 2 times"),
    ):
        assert says in str(read_script(text, "x.sh", powershell=False).problems[0])


pieces = st.lists(
    st.sampled_from(
        [*"\"'`$#(){}[];|&=\\ \n,+-@*", "a", "$a", "${a}", "--x=1", "train_network.py", "if ", "fi"]
    ),
    max_size=25,
).map("".join)


@settings(max_examples=200, deadline=None)
@given(text=pieces, powershell=st.booleans())
def test_no_script_breaks_the_readers(text: str, powershell: bool) -> None:
    for script in (text, f"train_network.py --seed=1 {text}"):
        source = read_script(script, "x", powershell=powershell)
        assert source.problems or source.given or read_argv([])


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.text("ab$\"'\\ #{}", max_size=6), min_size=1, max_size=4))
def test_quoted_words_are_as_bash_reads_them(values: list[str]) -> None:
    line = "train_network.py " + " ".join(shlex.quote(f"--x={value}") for value in values)
    commands, _ = read_bash(line)
    assert commands == [["train_network.py", *(f"--x={value}" for value in values)]]
