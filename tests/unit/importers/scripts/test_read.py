"""The two scripts at the end of the guide that most people began with, read as they stand there."""

# ruff: noqa: E501 - command lines are long

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.importers.conversion import Source
from lorasmith.importers.convert import convert_source
from lorasmith.importers.detect import read_file
from lorasmith.importers.scripts.bash import read_bash
from lorasmith.importers.scripts.powershell import read_powershell
from lorasmith.importers.scripts.read import Language, read_script
from lorasmith.importers.sd_scripts.argv import read_argv

HERE = Path(__file__).parent


def source_of(text: str, language: Language) -> Source:
    return read_script(text, Path("x"), language)


def bash_commands(text: str) -> list[list[str]]:
    return [command.words for command in read_bash(text).commands]


def powershell_commands(text: str) -> list[list[str]]:
    return [command.words for command in read_powershell(text).commands]


POWERSHELL = [
    "--network_module=networks.lora",
    "--pretrained_model_name_or_path=X:\\SD\\voldy\\models\\Stable-diffusion\\animefull-final-pruned.ckpt",
    "--train_data_dir=X:\\SD\\training\\my_concepts_folder", "--reg_data_dir=X:\\SD\\training\\reg",
    "--output_dir=X:\\SD\\voldy\\models\\lora",
    "--caption_extension=.txt", "--shuffle_caption", "--keep_tokens=1", "--prior_loss_weight=1",
    "--resolution=512", "--enable_bucket", "--min_bucket_reso=320", "--max_bucket_reso=960",
    "--train_batch_size=1", "--learning_rate=0.0001", "--unet_lr=0.0001",
    "--text_encoder_lr=5E-05", "--max_train_epochs=8", "--mixed_precision=fp16",
    "--save_precision=fp16", "--optimizer_type=AdamW8bit", "--xformers", "--save_every_n_epochs=1",
    "--save_model_as=safetensors", "--clip_skip=2", "--seed=420", "--flip_aug",
    "--network_dim=128", "--network_alpha=128", "--max_token_length=225", "--cache_latents",
    "--lr_scheduler=cosine_with_restarts", "--noise_offset=0",
]  # fmt: skip


def arguments(commands: list[list[str]]) -> list[str]:
    (command,) = [words for words in commands if "train_network.py" in words]
    return command[command.index("train_network.py") + 1 :]


def test_the_powershell_script() -> None:
    commands = powershell_commands((HERE / "sample.ps1").read_text(encoding="utf-8"))
    assert arguments(commands) == POWERSHELL


def test_the_bash_script_as_bash_itself_reads_it(tmp_path: Path) -> None:
    """Run with a launcher that prints what it is given."""
    script = (HERE / "sample.sh").read_text(encoding="utf-8")
    commands = bash_commands(script)
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
export LR=1e-4 NAME='a b' EMPTY=   # two at once
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
    source = source_of(BASH, "bash")
    given = {name: value.raw for name, value in source.given.items()}
    assert given == {
        "shuffle_caption": True, "output_name": "a b", "seed": "7", "flip_aug": True,
        "learning_rate": "1e-4", "unet_lr": "2e-4", "training_comment": 'it is "a b"',
        "output_dir": "$LR", "network_dim": "16",
    }  # fmt: skip
    texts = [str(problem) for problem in source.problems]
    assert len(texts) == 3, texts
    assert any("--max_train_epochs" in t and "line 7 sets epochs" in t for t in texts)
    assert any("--reg_data_dir" in t and "line 8 sets REG" in t for t in texts)
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
    source = source_of(PS, "powershell")
    given = {name: value.raw for name, value in source.given.items()}
    texts = [str(problem) for problem in source.problems]
    assert given == {
        "shuffle_caption": True, "seed": "7", "output_name": "it's-8", "clip_skip": "2",
        "network_dim": "8", "network_alpha": "4", "resolution": "512,768",
        "learning_rate": "0.5", "max_train_epochs": "5",
    }  # fmt: skip
    assert texts == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("for X in 1 2; do\n  train_network.py --seed=$X; done", "line 1 sets X"),
        ("for A in 1; do for X in 1 2; do train_network.py --seed $X; done; done", "line 1 sets X"),
        ("for ((X=0; X<3; X++)); do train_network.py --seed=$X; done", "line 1 sets X"),
        ("a\nwhile IFS=, read -r X; do train_network.py --seed=$X; done < f", "line 2 sets X"),
        ("read -p 'a?' X\ntrain_network.py --seed=$X", "line 1 sets X"),
        (
            "X=1\nwhile true; do\n train_network.py --seed=$X\n X=$((X+1))\ndone",
            "line 4 sets X",
        ),
        ("train_network.py --seed=$X", "never sets X"),
        ("Y=$X/a\ntrain_network.py --seed=${Y}", "never sets X"),
        ("train_network.py --seed ${X[@]}", "never sets X"),
        ("train_network.py --seed $((1.5))", "only running"),
        ("train_network.py --seed ${X@Q}", "never sets X"),
    ],
)
def test_values_of_bash_that_nobody_knows(text: str, says: str) -> None:
    (problem,) = convert_source(source_of(text, "bash")).problems
    assert problem.where == "x: --seed"
    assert says in problem.what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("foreach ($X in 8,16) { train_network.py --seed=$X }", "line 1 sets X"),
        ("foreach ($X in 8,16)\n{ $Y = $X\n train_network.py --seed=$Y }", "line 1 sets X"),
        ("for ($X = 0; $X -lt 3; $X++) { train_network.py --seed=$X }", "line 1 sets X"),
        ("$X = 1\nwhile ($X)\n \n{ train_network.py --seed=$X\n$X++ }", "line 5 sets X"),
        ("8, 16 | ForEach-Object { train_network.py --seed $_ }", "line 1 sets _"),
        ("train_network.py --seed=$env:X", "never sets env:X"),
        ("train_network.py --seed $X", "never sets X"),
    ],
)
def test_values_of_powershell_that_nobody_knows(text: str, says: str) -> None:
    (problem,) = convert_source(source_of(text, "powershell")).problems
    assert problem.where == "x: --seed"
    assert says in problem.what


@pytest.mark.parametrize("powershell", [False, True])
def test_what_is_unknown_before_the_arguments_does_not_matter(powershell: bool) -> None:
    text = "$PYTHON -m x --cpus $CPUS $ROOT/train_network.py --seed=4"
    source = source_of(text, "powershell" if powershell else "bash")
    assert (source.problems, list(source.given)) == ([], ["seed"])
    assert source.remarks[0].what == "$PYTHON -m x --cpus $CPUS"


@pytest.mark.parametrize("words", [["--seed="], ["--seed", ""], ["--seed=`"]])
def test_an_empty_number_is_no_number(words: list[str]) -> None:
    source = read_argv([*words, "--output_name="])
    assert [problem.what for problem in source.problems] == ["has no value"]
    assert list(source.given) == ["output_name"]


def test_quoted_signs_stay_as_they_are() -> None:
    bash = r'''a=1; train_network.py "--x=a\$b$a" "c \$HOME" "\\$a" "\`$a\`" '$a' "" "`date`"'''
    assert bash_commands(bash) == [
        ["train_network.py", "--x=a$b1", "c $HOME", "\\1", "`1`", "$a", "", "\0000\0"]
    ]
    shell = '$d = 1; train_network.py "--x=`$5 $d ``$d ""`$d""" ' + "'a`b' '$d'"
    assert powershell_commands(shell) == [["train_network.py", '--x=$5 1 `1 "$d"', "a`b", "$d"]]
    shell = "$n = 'a`b'\ntrain_network.py \"--x=$n\""
    assert powershell_commands(shell) == [["train_network.py", "--x=a`b"]]


@pytest.mark.parametrize(
    ("text", "powershell", "says"),
    [
        ('a\ntrain_network.py --output_name="x --seed=8\n b', False, "line 2: has a quote"),
        ("a\ntrain_network.py --output_name='x --seed=8\n b", False, "line 2: has a quote"),
        ('train_network.py "a\\"', False, "line 1: has a quote"),
        ('a\ntrain_network.py --output_name="x --seed=8\n b', True, "line 2: has a quote"),
        ("a\ntrain_network.py --output_name='x --seed=8\n b", True, "line 2: has a quote"),
        ("train_network.py --flip_aug \\ \n --seed=8", False, "line 1: has a space behind the \\"),
    ],
)
def test_lines_that_break_off(text: str, powershell: bool, says: str) -> None:
    (problem,) = convert_source(source_of(text, "powershell" if powershell else "bash")).problems
    assert says in str(problem)


@pytest.mark.parametrize(
    ("text", "powershell"), [("cat <<EOF > a\ndon't\nEOF", False), ("$X = @'\ndon't\n'@", True)]
)
def test_quotes_in_texts_are_no_mistake(text: str, powershell: bool) -> None:
    source = source_of(
        f"{text}\ntrain_network.py --seed=4 # can't", "powershell" if powershell else "bash"
    )
    assert (source.problems, list(source.given)) == ([], ["seed"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["–network_dim", "8"], "typographic dash"),
        (["--seed", "4", "—network_dim=8"], "typographic dash"),
        (["--network_args", "conv_dim=4", "–seed", "4"], "typographic dash"),
        (["“--seed=4”"], "typographic quotes"),
        (["--output_name=“my", "lora”"], "typographic quotes"),
        (["--seed=4", "5"], "belongs to no argument"),
    ],
)
def test_what_a_word_processor_makes_of_hyphens_and_quotes(words: list[str], says: str) -> None:
    (problem,) = read_argv(words).problems
    assert says in problem.what


def test_a_word_that_is_unknown_as_a_whole_is_named() -> None:
    (problem,) = source_of("train_network.py --seed=4 $(cat x)", "bash").problems
    assert problem.where == "x: $(…)"


def test_defaults_of_bash() -> None:
    text = "Y=5\ntrain_network.py --seed=${X:-$Y} --output_name=${X:-}"
    source = source_of(text, "bash")
    assert {name: given.raw for name, given in source.given.items()} == {
        "seed": "5", "output_name": "",
    }  # fmt: skip


def test_scripts_without_one_training() -> None:
    for text, says in (
        ("echo --hello", "no command with train_network.py"),
        ("train_network.py --a\ntrain_network.py --b", "trains 2 times"),
    ):
        (problem,) = convert_source(source_of(text, "bash")).problems
        assert says in str(problem)


pieces = st.lists(
    st.sampled_from(
        [*"\"'`$#(){}[];|&=\\ \n,+-@*", "a", "$a", "${a}", "--x=1", "train_network.py", "if ", "fi"]
    ),
    max_size=25,
).map("".join)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(text=pieces, powershell=st.booleans())
def test_no_script_breaks_the_readers(text: str, powershell: bool) -> None:
    for script in (text, f"train_network.py --seed=1 {text}"):
        source = source_of(script, "powershell" if powershell else "bash")
        assert source.problems or source.given or read_argv([])


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.text("ab$\"'\\ #{}", max_size=6), min_size=1, max_size=4))
def test_quoted_words_are_as_bash_reads_them(values: list[str]) -> None:
    line = "train_network.py " + " ".join(shlex.quote(f"--x={value}") for value in values)
    commands = bash_commands(line)
    assert commands == [["train_network.py", *(f"--x={value}" for value in values)]]


DECIDABLE = {
    "bash": r"""
clip_skip=2
v2=0
lowram=0
extArgs=()
if [[ $v2 == 1 ]]; then
  extArgs+=("--v2");
else
  extArgs+=("--clip_skip $clip_skip");
fi
if [[ $lowram ]]; then extArgs+=("--lowram"); fi
accelerate launch train_network.py --shuffle_caption ${extArgs[@]}
""",
    "powershell": r"""
$clip_skip = 2; $v2 = 0; $lowram = 1
$ext_args = [System.Collections.ArrayList]::new()
if ($v2) {
  [void]$ext_args.Add("--v2")
}
else {
  [void]$ext_args.Add("--clip_skip=" + $clip_skip)
}
if ($lowram) { [void]$ext_args.Add("--lowram") }
accelerate launch train_network.py --shuffle_caption $ext_args
""",
    "cmd": r"""
@echo off
set "clip_skip=2"
set v2=0
set lowram=1
set ext=
if "%v2%"=="1" (
  set ext=--v2
) else (
  set ext=--clip_skip %clip_skip%
)
if %lowram% neq 0 set ext=%ext% --lowram
accelerate launch train_network.py --shuffle_caption %ext%
pause
""",
}


@pytest.mark.parametrize("language", DECIDABLE)
def test_conditions_over_what_the_script_itself_sets(language: Language) -> None:
    source = source_of(DECIDABLE[language], language)
    assert source.problems == []
    assert {name: given.raw for name, given in source.given.items()} == {
        "shuffle_caption": True, "clip_skip": "2", "lowram": True,
    }  # fmt: skip


def test_a_flag_before_is_not_blamed() -> None:
    for text, language in (
        ("[ $1 ] && a=x\ntrain_network.py --shuffle_caption $a", "bash"),
        ("if ($env:Y) { $a = 'x' }\ntrain_network.py --shuffle_caption $a", "powershell"),
        ("if exist y set a=x\ntrain_network.py --shuffle_caption %a%", "cmd"),
    ):
        (problem,) = source_of(text, cast(Language, language)).problems
        assert problem.where == "x: a"


PEERS = Path(os.environ.get("LORASMITH_PEERS", "none"))


@pytest.mark.skipif(not PEERS.is_dir(), reason="LORASMITH_PEERS names no folder of checkouts")
def test_the_scripts_that_lora_scripts_ships() -> None:
    """Its bash script as bash itself follows it; its PowerShell script with the same settings."""
    script = PEERS / "lora-scripts" / "train.sh"
    launcher = 'python() { shift 2; printf "%s\\0" "$@"; }\n'
    done = subprocess.run(
        ["bash", "-c", launcher + script.read_text(encoding="utf-8")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (command,) = read_bash(script.read_text(encoding="utf-8")).trainings
    assert command.words[3:] == done.stdout.split("\0")[:-1]
    bash, other = read_file(script), read_file(script.with_suffix(".ps1"))
    assert bash.problems == other.problems == []
    as_texts = [{name: str(each.raw) for name, each in source.given.items()}
                for source in (bash, other)]  # fmt: skip
    # `[[ $lowram ]]` is true of 0; and train.sh adds --clip_skip to a list that it never uses.
    assert as_texts[0].pop("lowram") == "True"
    assert as_texts[1].pop("clip_skip") == "2"
    assert as_texts[0] == as_texts[1]
