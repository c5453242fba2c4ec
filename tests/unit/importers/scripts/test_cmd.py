"""Scripts for cmd.exe, followed by its documented rules (`help set`, `help if`, `help for`, `help
call`) and those of Microsoft's C runtime for a program's arguments."""

# ruff: noqa: E501 - scripts have long lines

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.importers.conversion import Source
from lorasmith.importers.convert import convert_source
from lorasmith.importers.detect import read_file
from lorasmith.importers.scripts.cmd import read_cmd
from lorasmith.importers.scripts.read import read_script


def source_of(text: str) -> Source:
    return read_script(text, Path("run.bat"), "cmd")


def followed(script: str) -> list[str]:
    read = read_cmd(script, "C:\\sd\\run me.bat", "D:\\now")
    assert read.mistakes == []
    (command,) = read.trainings
    place = next(n for n, word in enumerate(command.words) if word.endswith("train_network.py"))
    return command.words[place + 1 :]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("@echo off\nset NAME=zorp\nSET Rank=8\npython train_network.py --o=%name% --d=%RANK%", ["--o=zorp", "--d=8"]),
        ('set "X=a b" & rem kept\ntrain_network.py --o="%X%" "%X:~0,1%" %X: =_% %X:~-1%', ["--o=a b", "a", "a_b", "b"]),
        ("set X=a b\ntrain_network.py --o=%X%", ["--o=a", "b"]),
        ("set X=\"a b\"\ntrain_network.py --o=%X%", ["--o=a b"]),  # The quotes are part of it.
        ("set X=1\nset X=\ntrain_network.py --o=[%X%]", ["--o=[]"]),
        ("set /a B=2*(3+1)\nset /a \"C=B<<1, D=B %% 3\"\nset /a B+=1\ntrain_network.py %B% %C% %D%", ["9", "16", "2"]),
        ("accelerate launch ^\n  train_network.py ^\r\n  --a=1 ^\n  --b\npause", ["--a=1", "--b"]),
        ('train_network.py --a="x^y" --b=x^&y ^%%z', ["--a=x^y", "--b=x&y", "%z"]),
        ('train_network.py --d="%~dp0img" --n=%~n0 "%~nx0" "%cd%\\o"', ["--d=C:\\sd\\img", "--n=run", "me", "run me.bat", "D:\\now\\o"]),
        ('cd /d "%~dp0"\ntrain_network.py --d="%cd%\\img"', ["--d=C:\\sd\\img"]),
        ("rem set A=1\n:: set A=1\nREM ^\nset A=2\ntrain_network.py %A% --b", ["2", "--b"]),
        ('set X=1\nif "%X%"=="1" (set Y=a) else (set Y=b)\ntrain_network.py %Y%', ["a"]),
        ('set X=2\nif "%X%"=="1" (\n  set Y=a\n) else if "%X%"=="2" (\n  set Y=b\n) else (\n  set Y=c\n)\ntrain_network.py %Y%', ["b"]),
        ("set X=A\nif /i not %X%==b if /I %X%==a set Y=1\ntrain_network.py %Y%", ["1"]),
        ("set X=10\nif %X% GTR 9 set Y=1\nif %X% lss 9 set Y=2\ntrain_network.py %Y%", ["1"]),
        ('set X=\nif defined X (set Y=1) else set Y=2\nif "%X%"=="" set Z=3\ntrain_network.py %Y%%Z%', ["23"]),
        ("set X=1\nif %X%==1 (\n set X=2\n set Y=%X%\n)\ntrain_network.py %X%%Y%", ["21"]),  # The block is replaced as one.
        ("setlocal EnableDelayedExpansion\nset X=1\nif 1==1 (\n set X=2\n set Y=!X!\n)\ntrain_network.py !X!%Y%", ["22"]),
        ("set A=\nfor %%i in (a b,c) do call set A=%%A%%%%i\ntrain_network.py %A%", ["abc"]),
        ("setlocal enabledelayedexpansion\nset A=\nfor /L %%i in (1,2,5) do (\n set \"A=!A!%%i\"\n)\ntrain_network.py %A%", ["135"]),
        ('setlocal enabledelayedexpansion\nset A=\nfor %%f in ("x\\y z.png") do set "A=%%~nxf!A!"\ntrain_network.py "%A%"', ["y z.png"]),
        ("set X=1\nsetlocal\nset X=2\nendlocal & set Y=%X%\ntrain_network.py %X%%Y%", ["12"]),
        ("goto start\nset X=1\n:start\nset X=2\ntrain_network.py %X%\ngoto :eof\ntrain_network.py no", ["2"]),
        ("set I=0\n:again\nset /a I+=1\nif %I% lss 3 goto again\ntrain_network.py %I%", ["3"]),
        ("call :go 8 \"b c\"\nexit /b\n:go\ntrain_network.py --r=%1 --all %* --n=%~2\nexit /b 0", ["--r=8", "--all", "8", "b", "c", "--n=b", "c"]),
        ("call venv\\Scripts\\activate.bat\ncall conda activate x\ntrain_network.py --a", ["--a"]),
        ('start "title" /wait python train_network.py --a && echo done', ["--a"]),
        ("echo (train_network.py --no) & echo no\ntrain_network.py --a > log.txt 2>&1", ["--a"]),
        ("cmd /k accelerate launch train_network.py --a & pause", ["--a"]),
        ('train_network.py --a="C:\\x y\\z" --b=C:\\q\\ "D:\\\\"', ["--a=C:\\x y\\z", "--b=C:\\q\\", "D:\\"]),
        ("train_network.py --a=100%% --b=%%c%%", ["--a=100%", "--b=%c%"]),
        ("set X=a=b\nset Y=%X:a=c%\ntrain_network.py %X% %Y% %X:*a=q%", ["a=b", "c=b", "q=b"]),
        ("if exist venv (\n echo x\n) else (\n python -m venv venv\n)\ntrain_network.py --a", ["--a"]),
        ("if not exist venv goto make\ngoto go\n:make\npython -m venv venv\n:go\ntrain_network.py --a", ["--a"]),
        ("nvidia-smi || (echo no GPU & pause & exit /b 1)\ntrain_network.py --a", ["--a"]),
        ("if errorlevel 1 goto error\ntrain_network.py --a\nexit /b 0\n:error\npause", ["--a"]),
        ("set A=--a\nset A=%A% --b\ntrain_network.py %A%", ["--a", "--b"]),
    ],
)  # fmt: skip
def test_scripts(script: str, words: list[str]) -> None:
    assert followed(script) == words
    assert followed(script.replace("\r\n", "\n").replace("\n", "\r\n")) == words


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("train_network.py --seed=%1", "--seed", "is what the script is given"),
        ("train_network.py --seed=%USERNAME%", "--seed", "never sets USERNAME"),
        ("set E = 1\ntrain_network.py --seed=%E%", "--seed", "a space before the ="),
        ("train_network.py --seed %RANDOM%", "--seed", "%RANDOM%"),
        ("set /p E=which?\ntrain_network.py --seed=%E%", "--seed", "line 1 sets E"),
        ("set E=1\nif exist reg set E=2\ntrain_network.py --seed=%E%", "--seed", "line 2 sets E"),
        ("if not defined E set E=2\ntrain_network.py --seed=%E%", "--seed", "line 1 sets E"),
        ("set E=1\ncall config.bat\ntrain_network.py --seed=%E%", "--seed", "config.bat"),
        ("for /f %%i in ('nvidia-smi') do set E=%%i\ntrain_network.py --seed=%E%", "--seed", "line 1 sets E"),
        ("for %%s in (1 2) do train_network.py --seed=%%s", "--seed", "line 1 sets %%s"),
        ("set A=--xformers\nif exist x set A=--sdpa\ntrain_network.py --shuffle_caption %A%", "A", "line 2 sets A"),
    ],
)  # fmt: skip
def test_what_only_running_would_tell(text: str, where: str, says: str) -> None:
    (problem,) = convert_source(source_of(text)).problems
    assert problem.where == f"run.bat: {where}"
    assert says in problem.what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\nif 1==1 (\ntrain_network.py --seed=1", "line 2: begins a block"),
        ('train_network.py --a="C:\\x\\" --seed=1', 'line 1: has \\" at the end'),
        ('train_network.py --a="C:\\x --seed=1', "line 1: has a quote without its partner"),
        ("train_network.py --a=1 ^ \n --seed=1", "line 1: has a space behind the ^"),
        ("goto nowhere\ntrain_network.py --seed=1", "line 1: goes on at nowhere"),
        ("set I=0\n:a\nset /a I+=1\ntrain_network.py --seed=1\ngoto a", "round too often"),
        ("if %X%==1 train_network.py --seed=1\ntrain_network.py --seed=2", "2 times"),
        ("goto %X%\n:a\ntrain_network.py --seed=1", "only running the script would tell"),
        ("webui.bat\ntrain_network.py --seed=1", "no command with train_network.py"),
    ],
)
def test_what_is_refused_with_its_line(text: str, says: str) -> None:
    texts = [str(problem) for problem in source_of(text).problems]
    assert any(says in each for each in texts), texts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_files_as_editors_of_windows_save_them(tmp_path: Path, encoding: str) -> None:
    text = "@echo off\r\nrem Größe\r\nset N=für\r\ntrain_network.py --output_name=%N%\r\n"
    (tmp_path / "run.BAT").write_bytes(text.encode(encoding))
    source = read_file(tmp_path / "run.BAT")
    assert source.given["output_name"].raw == "für"
    assert bool(source.remarks[1:] or source.remarks) is (encoding == "cp1252")


def test_letters_of_another_code_page_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run.bat").write_bytes(b"train_network.py --output_name=\x81\x8d --seed=1")
    (problem,) = read_file(tmp_path / "run.bat").problems
    assert "no UTF-8" in problem.what


@pytest.mark.skipif(os.sep != "/", reason="a path of Windows is one there")
def test_own_folders_are_paths_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "run.bat").write_text(
        'train_network.py --train_data_dir="%cd%\\a\\b" --output_dir="%~dp0out" --vae=D:\\x\\y'
    )
    given = {name: each.raw for name, each in read_file(tmp_path / "run.bat").given.items()}
    assert given == {
        "train_data_dir": f"{tmp_path}/here/a/b", "output_dir": f"{tmp_path}/out", "vae": "D:\\x\\y",
    }  # fmt: skip
    (tmp_path / "run.sh").write_text(
        'd=$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null 2>&1 && pwd)\n'
        'train_network.py --train_data_dir="$d/img" --output_dir="$(pwd)/o" --vae="$(dirname "$0")/v"'
    )
    given = {name: each.raw for name, each in read_file(tmp_path / "run.sh").given.items()}
    assert given == {
        "train_data_dir": f"{tmp_path}/img", "output_dir": f"{tmp_path}/here/o",
        "vae": f"{tmp_path}/v",
    }  # fmt: skip
    (tmp_path / "run.ps1").write_text('train_network.py --train_data_dir="$PSScriptRoot\\img"')
    assert read_file(tmp_path / "run.ps1").given["train_data_dir"].raw == f"{tmp_path}/img"


def test_a_change_of_folder_is_said() -> None:
    remarks = source_of("cd /d D:\\sd\ntrain_network.py --train_data_dir=img").remarks
    assert any("D:\\sd" in each.what and "paths" in each.why for each in remarks)


def quoted(argument: str) -> str:
    """An argument as Microsoft documents that it must be quoted for a program."""
    result, slashes = '"', 0
    for char in argument:
        if char == "\\":
            slashes += 1
            continue
        result += "\\" * (2 * slashes + 1 if char == '"' else slashes) + char
        slashes = 0
    return result + "\\" * (2 * slashes) + '"'


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab \\^&|<>();,='", max_size=8), min_size=1, max_size=4))
def test_quoted_arguments_come_through(values: list[str]) -> None:
    line = "train_network.py --x " + " ".join(quoted(value) for value in values)
    assert followed(line) == ["--x", *values]
    sets = "\n".join(f'set "V{n}={value}"' for n, value in enumerate(values) if "\\" not in value)
    names = " ".join(f'"%V{n}%"' for n, value in enumerate(values) if "\\" not in value)
    expected = [value for value in values if "\\" not in value]
    assert followed(f"{sets}\ntrain_network.py --x {names}") == ["--x", *expected]


@settings(max_examples=200, deadline=None)
@given(st.text('ab"%^&|<>()!=:/~ \n,12@', max_size=30))
def test_no_text_breaks_the_reader(text: str) -> None:
    for script in (text, f"set a=1\n{text}\ntrain_network.py --seed=%a%", f"if 1==1 ({text}"):
        assert source_of(script).kind == "a script for cmd.exe"
