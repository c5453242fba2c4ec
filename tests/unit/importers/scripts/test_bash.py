"""Bash scripts, followed as bash itself follows them: each is run too, with a printing launcher."""

# ruff: noqa: E501 - scripts have long lines

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.importers.conversion import Source
from lorasmith.importers.convert import convert_source
from lorasmith.importers.scripts.bash import read_bash
from lorasmith.importers.scripts.read import read_script

LAUNCHER = 'train_network.py() { printf "%s\\0" "$@"; exit 0; }\n'


def source_of(text: str) -> Source:
    return read_script(text, Path("run.sh"), "bash")


def by_bash(script: str) -> list[str]:
    """The arguments that bash hands to the training."""
    done = subprocess.run(
        ["bash", "--norc", "-c", LAUNCHER + script], capture_output=True, check=False, cwd="/tmp",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, timeout=20,
    )  # fmt: skip
    return done.stdout.decode().split("\0")[:-1]


def followed(script: str) -> list[str]:
    read = read_bash(script)
    assert read.mistakes == []
    (command,) = read.trainings
    assert command.words[0] == "train_network.py"
    return command.words[1:]


CONDITIONS = r"""
[ a -o ]
[ a -a ]
x=1; [[ $x == 1 ]]
x=0; [[ $x ]]
x=; [[ $x ]]
x=0; [ $x = 1 ]
x=1; [ "$x" = "1" ]
x=sd1.5; [ $x == "sd1.5" ]
x=; [ $x == "sd1.5" ]
x="a b"; [ $x = a ]
x="a b"; [[ $x = "a b" ]]
x=a; [[ $x == a* ]]
x=abc; [[ $x == "a*" ]]
x=abc; p='a*'; [[ $x == $p ]]
x=abc; p='a*'; [[ $x == "$p" ]]
x=5; [[ $x -gt 4 && $x -lt 6 ]]
x=5; [[ $x -gt 5 || ! $x -lt 5 ]]
x=5; [ $x -ge 5 -a $x -le 5 ]
x=5; [ $x -ne 5 -o -n "$x" ]
x=0.5; [[ $x -ne 0 ]]
x=0.5; [ $x -ne 0 ]
x=0.5; [ "$x" != "0" ]
x=; [ -n "$x" ]
x=; [ -n $x ]
x=; [ -z "$x" ]
x=y; [[ -z $x || -n $x ]]
x=3; (( x > 2 ))
x=3; (( x - 3 ))
x=3; (( x == 3 && x < 4 ))
x=08; (( x > 2 ))
x=true; $x
x=false; if $x; then true; else false; fi
x=1; ! [ $x = 1 ]
x=1; test "$x" -eq 1
x=b; [[ $x < c ]]
x=1; { [ $x = 1 ]; } && [[ ( $x == 1 || $x == 2 ) && $x != 3 ]]
x=2; [ ! "$x" = 1 ]
x=; [ "$x" ]
[ ]
x=(); [ ${#x[@]} -gt 0 ]
x=(a b); [[ ${#x[@]} -eq 2 ]]
x=-1; [ "$x" -lt 0 ]
x=" 1"; [ "$x" -eq 1 ]
x=0x10; [[ $x -eq 16 ]]
""".strip().splitlines()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditions_of_literals(condition: str) -> None:
    setup, _, test = condition.rpartition("; ") if ";" in condition else ("", "", condition)
    if "fi" in condition or "{" in condition:
        setup, _, test = condition.partition("; ")
    script = f"{setup}\nif {test}; then a=--yes; else a=--no; fi\ntrain_network.py $a"
    assert followed(script) == by_bash(script)


SCRIPTS = {
    "elif": "x=b; if [ $x = a ]; then y=1; elif [ $x = b ]; then y=2; else y=3; fi; train_network.py --seed=$y",
    "case": "x=sdxl; case $x in sd1*|'sd2') y=1;; sd*) y=2 ;; *) y=3;; esac; train_network.py --seed=$y",
    "case default": 'case "q" in a) y=1;; *) y=3;; esac; train_network.py --seed $y',
    "arrays": 'a=(--x "b c"); a+=(--d "${a[1]}"); train_network.py "${a[@]}" "${a[*]}" ${#a[@]} ${a[0]}',
    "split arrays": 'a=(); a+=("--network_args c=1 d=2"); train_network.py ${a[@]}',
    "unquoted": 'x="a  b"; train_network.py --o=$x "--p=$x" $x',
    "text added": "x=a; x+=b; train_network.py --seed=$x",
    "and or": "x=1; [ $x = 1 ] && y=2 || y=3; [[ $x == 2 ]] || z=4; train_network.py --a=$y --b=$z",
    "arithmetic": "b=3; e=$((b * 2 + 1)); ((e++)); let 'f = e / 3'; train_network.py --a=$e --b=$f --c=$((7 % 4 ** 2))",
    "arithmetic choice": "b=3; train_network.py $((b > 2 ? 10 : 20)) $(( (b << 2) | 1 )) $((-7 / 2)) $((010))",
    "defaults": 'x=; y=1; train_network.py --a=${x:-d} --b=${x-d} --c=${y:+e} --d=${q:-"f g"} --e=${y:-z}',
    "assigned default": ': "${x:=5}"; train_network.py --a=$x',
    "cut": "p=/a/b.c.d; train_network.py ${p##*/} ${p#*/} ${p%.*} ${p%%.*} ${p/b/x} ${p//./_} ${p:1:3} ${p: -2} ${#p}",
    "cases of letters": "x=AbC; train_network.py ${x,,} ${x^^} ${x,}",
    "function": 'go() { local r=$1; shift_me=x; train_network.py --rank=$r --all "$@"; }; r=9; go 8 "b c"',
    "local": "r=1; f() { local r=2; s=$r; }; f; train_network.py --r=$r --s=$s",
    "return": "f() { if [ 1 = 1 ]; then x=1; return; fi; x=2; }; f; train_network.py --x=$x",
    "keyword function": 'function go {\n train_network.py "$1" $2\n}\ngo --a "b c"',
    "for": "a=(); for k in conv_dim=4 conv_alpha=1; do a+=($k); done; train_network.py --network_args ${a[@]}",
    "for braces": "s=; for i in {1..4}; do s+=$i; done; train_network.py --s=$s a{b,c}d",
    "for arithmetic": "s=; for ((i=0; i<3; i++)); do s+=$i; done; train_network.py --s=$s",
    "while": "i=0; s=; while [ $i -lt 3 ]; do s=$s$i; i=$((i+1)); done; train_network.py --s=$s",
    "until": "i=0; until (( i >= 2 )); do ((i+=1)); done; train_network.py --i=$i",
    "break": "for i in 1 2 3; do [ $i = 2 ] && break; done; train_network.py --i=$i",
    "continue": "s=; for i in 1 2 3; do [ $i = 2 ] && continue; s=$s$i; done; train_network.py --i=$s",
    "subshell": "x=1; (x=2); { y=3; }; train_network.py --x=$x --y=$y",
    "pipeline": "x=1; echo q | { x=2; }; train_network.py --x=$x",
    "exit not reached": "x=1; if [ $x = 2 ]; then exit 1; fi; train_network.py --x=$x",
    "commented": "x=1 # y=2\n#x=3\ntrain_network.py --x=$x # --z",
    "continued": 'train_network.py \\\n  --a=1 \\\n  --b="c \\\nd" e\\\nf',
    "escapes": r'''a=1; train_network.py "a\$b\n\"c\\" a\ b \$a '$a' "\`x\`" \\ a"b"'c'd''',
    "substituted": 'd=$(echo "a b"); train_network.py "$d" $d "$(basename /x/y.txt .txt)" `dirname /x/y`',
    "here text": "cat <<EOF > /dev/null\ntrain_network.py --no\n$x '\nEOF\ntrain_network.py --yes",
    "redirected": "train_network.py --a 2>&1 --b >/dev/stdout",
    "one for a command": "x=1 y=2; HF_HOME=z train_network.py --x=$x$y",
    "eval": 'c="train_network.py --a=1 \'b c\'"; eval "$c"',
    "words of a variable": 'c="train_network.py --a=1 --b"; $c --c',
    "tests in a list": "x=0; if [ $x = 1 ] || [ $x = 0 ]; then a=--y; fi; train_network.py $a",
    "indirect": "a=5; n=a; train_network.py ${!n}",
    "member": "a=(x y z); a[1]=q; train_network.py ${a[@]:1} ${a[-1]} ${a[1]}" .replace("${a[@]:1} ", ""),
    "escapes of C": r"""x=$'a\tb\'c\x41\n'; train_network.py "$x" $'\\d' $"e f" """,
    "other separators": "IFS=:; x='a b:c'; IFS=' '; train_network.py $x",
    "no words": "x=; train_network.py $x '' \"$x\" a$x",
}  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_as_bash_follows_them(name: str) -> None:
    expected = by_bash(SCRIPTS[name])
    assert expected
    assert followed(SCRIPTS[name]) == expected


names = st.sampled_from(["a", "b", "c"])
texts = st.text("ab 01\"'\\$*?{},~#!=-\n\t", max_size=7)


@st.composite
def quoted_words(draw: st.DrawFn) -> str:
    """A word of pieces in all kinds of quotes, with variables among them."""
    pieces = draw(
        st.lists(
            st.one_of(
                st.text("abz019_.,:/=+@%^-", min_size=1, max_size=4),
                st.text('ab $"\\#;&|()<>*?{}`', max_size=5).map(lambda each: f"'{each}'"),
                st.text("ab '#;&|()<>*?{},", max_size=5).map(lambda each: f'"{each}"'),
                names.map(lambda each: f"${{{each}}}"),
                names.map(lambda each: f"${each}."),
                names.map(lambda each: f'"${{{each}}}"'),
                names.map(lambda each: f"${{{each}:-x y}}"),
                names.map(lambda each: f"${{{each}:-\"x y\"'z  $q'}}"),
                st.sampled_from(["\\ b", "\\$", "\\'", '\\"', "\\\\", '"\\$a"', '"\\"\\a"']),
            ),
            min_size=1,
            max_size=5,
        )
    )
    return "".join(pieces)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.text("ab \t0='-", max_size=6), min_size=3, max_size=3),
    words=st.lists(quoted_words(), min_size=1, max_size=5),
)
def test_quotes_as_bash_reads_them(values: list[str], words: list[str]) -> None:
    lines = [f"{name}={_quoted(value)}" for name, value in zip("abc", values, strict=True)]
    script = "\n".join(lines) + "\nset -f\ntrain_network.py --x " + " ".join(words)
    assert followed(script) == by_bash(script)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


UNKNOWN = [
    ('if [ -n "$1" ]; then E=5; fi\ntrain_network.py --seed=$E', "--seed", "line 1 sets E"),
    ("E=1\n[ -d reg ] && E=2\ntrain_network.py --seed=$E", "--seed", "line 2 sets E"),
    ("E=1\nif nvidia-smi; then E=2; fi\ntrain_network.py --seed=$E", "--seed", "line 2 sets E"),
    ("E=1\n. ./config.sh\ntrain_network.py --seed=$E", "--seed", "config.sh"),
    ("declare -A m=([a]=1)\ntrain_network.py --seed=${m[a]}", "--seed", "never sets a"),
    ("IFS=,\nx=1,2\ntrain_network.py --seed=$x", "--seed", "changes how words are split"),
    ("printf -v E %d 5\ntrain_network.py --seed=$E", "--seed", "line 1 sets E"),
    ("E=$(nvidia-smi)\ntrain_network.py --seed=$E", "--seed", "$(nvidia-smi)"),
    ("train_network.py --seed=$RANDOM", "--seed", "never sets RANDOM"),
    ("train_network.py --seed=$1", "--seed", "never sets 1"),
    ('a=()\n[ "$1" ] && a+=(--xformers)\ntrain_network.py --shuffle_caption ${a[@]}', "a", "line 2"),
    ("train_network.py --network_args conv_dim=4 $X", "X", "never sets X"),
    ("case $1 in a) E=1;; b) E=2;; esac\ntrain_network.py --seed=$E", "--seed", "line 1 sets E"),
    ("while read l; do E=$l; done < f\ntrain_network.py --seed=$E", "--seed", "line 1 sets E"),
    ("E=1\nread -p '?' E\ntrain_network.py --seed=$E", "--seed", "line 2 sets E"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "where", "says"), UNKNOWN)
def test_what_only_running_would_tell(text: str, where: str, says: str) -> None:
    (problem,) = convert_source(source_of(text)).problems
    assert problem.where == f"run.sh: {where}"
    assert says in problem.what


@pytest.mark.parametrize(
    "text",
    [
        "if [ -d venv ]; then . venv/bin/activate; X=1; fi\ntrain_network.py --seed=4",
        "X=$(nvidia-smi)\nif [ $X -gt 3 ]; then Y=$1; fi\ntrain_network.py --seed=4",
        '[ -z "$1" ] && { echo usage; exit 1; }\ntrain_network.py --seed=4',
        "cd sd-scripts || exit 1\ntrain_network.py --seed=4",
        "if [ -f x ]; then S=4; else S=4; fi\ntrain_network.py --seed=$S",
        "if [ -f x ]; then train_network.py --seed=4; else train_network.py --seed=4; fi",
        "train_network.py --seed=4 | tee log.txt",
        "S=5\nif [ -f x ]; then S=6; fi\nS=4\ntrain_network.py --seed=$S",
        "if [ -f x ]; then S=6; exit; fi\nS=${S:-4}\ntrain_network.py --seed=$S",
        "for f in *.png; do echo $f; done\ntrain_network.py --seed=4",
        "select x in a b; do break; done\ntrain_network.py --seed=4",
    ],
)
def test_conditions_that_do_not_reach_the_training_do_not_matter(text: str) -> None:
    source = source_of(text)
    assert source.problems == []
    assert source.given["seed"].raw == "4"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\nif [ 1 = 1 ]; then\ntrain_network.py --seed=1\n", "line 2: begins `if`"),
        ("x=$'a\ntrain_network.py --seed=1", "line 1: has a quote without its partner"),
        ("a=(1 2\ntrain_network.py --seed=1", "line 1: begins a list"),
        ("while true; do x=1; done; train_network.py --seed=$x", "line 1 sets x"),
        ("f() { f; }; f; train_network.py --seed=1", "calls itself too often"),
        ("for i in 1 2; do train_network.py --seed=1; train_network.py --seed=2; done", "2 times"),
    ],
)
def test_what_is_refused_with_its_line(text: str, says: str) -> None:
    texts = [str(problem) for problem in source_of(text).problems]
    assert any(says in each for each in texts), texts
