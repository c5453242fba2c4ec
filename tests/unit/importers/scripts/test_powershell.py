"""PowerShell scripts, followed by the rules of its documentation (about_If, about_Operators,
about_Type_Conversion, about_Quoting_Rules, about_Parsing, about_Splatting)."""

# ruff: noqa: E501 - scripts have long lines

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorasmith.importers.conversion import Source
from lorasmith.importers.convert import convert_source
from lorasmith.importers.scripts.powershell import read_powershell
from lorasmith.importers.scripts.read import read_script


def source_of(text: str) -> Source:
    return read_script(text, Path("run.ps1"), "powershell")


def followed(script: str) -> list[str]:
    read = read_powershell(script)
    assert read.mistakes == []
    (command,) = read.trainings
    assert command.words[0] == "train_network.py"
    return command.words[1:]


@pytest.mark.parametrize(
    ("setup", "condition", "holds"),
    [
        ("$x = 1", "$x", True),
        ("$x = 0", "$x", False),
        ('$x = "0"', "$x", True),  # A text that is not empty.
        ('$x = "False"', "$x", True),
        ('$x = ""', "$x", False),
        ("$x = 0.0", "$x", False),
        ("$x = $null", "$x", False),
        ("$x = $true", "$x -and -not $false", True),
        ("$x = @()", "$x", False),
        ("$x = @(0)", "$x", False),  # One member: its own truth.
        ("$x = @(0, 0)", "$x", True),
        ("$x = [System.Collections.ArrayList]::new()", "$x", False),
        ("$x = 0", "!$x", True),
        ('$x = "sdxl"', '$x -eq "SDXL"', True),
        ('$x = "sdxl"', '$x -ceq "SDXL"', False),
        ("$x = 0", '$x -eq "0"', True),
        ('$x = "1"', "$x -eq 1", True),
        ('$x = "1.0"', "$x -eq 1", False),  # The left side is a text.
        ("$x = 1", '$x -eq "1.0"', True),
        ('$x = ""', "$x -ne 0", True),
        ('$x = "0"', "$x -ne 0", False),
        ("$x = 0.1", "$x -ne 0", True),
        ("$x = 5", "$x -gt 4 -and $x -le 5", True),
        ("$x = 10", '$x -gt "9"', True),
        ('$x = "10"', "$x -gt 9", False),  # Texts are compared as texts.
        ('$x = "lycoris.kohya"', '$x -like "lycoris*"', True),
        ('$x = "lycoris.kohya"', '$x -match "^networks"', False),
        ('$x = "a", "b"', '$x -contains "B"', True),
        ('$x = "a"', '$x -in "b", "c"', False),
        ("$x = $null", "$null -eq $x", True),
        ('$x = ""', "$null -eq $x", False),
        ('$x = ""', "[string]::IsNullOrEmpty($x)", True),
        ("$x = 1, 2, 3", "$x.Count -eq 3", True),
        ('$x = "abc"', "$x.Length -ge 3 -and $x.StartsWith('a')", True),
        ("$x = 1; $y = 0", "$x -or $y", True),
        ("$x = 1; $y = 0", "($x -eq 1) -xor ($y -eq 1)", True),
        ("$x = 3", "$x % 2", True),
        ("$x = $true", "$x -eq 1", True),
    ],
)
def test_conditions_of_literals(setup: str, condition: str, holds: bool) -> None:
    script = (
        f"{setup}\nif ({condition}) {{ $a = '--yes' }} else {{ $a = '--no' }}\ntrain_network.py $a"
    )
    assert followed(script) == ["--yes" if holds else "--no"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("$x = 2; if ($x -eq 1) { $y = 1 }\nelseif ($x -eq 2)\n{ $y = 2 }\nelse { $y = 3 }\ntrain_network.py --a=$y", ["--a=2"]),
        ('$m = "sdxl"; switch ($m) { "sd1" { $y = 1 } "SDXL" { $y = 2; break } default { $y = 3 } }\ntrain_network.py $y', ["2"]),
        ("switch (5) { 1 { $y = 1 } default { $y = 3 } }\ntrain_network.py $y", ["3"]),
        ('$s = 1\n$n = if ($s) { "a" } else { "b" }\ntrain_network.py "./x/$n"', ["./x/a"]),
        ("$v = (1 -eq 0) ? $null : '--v2'\ntrain_network.py $v", ["--v2"]),
        ('$a = @("--x")\n$a += "--y", "b c"\n$a += @("--z=1")\ntrain_network.py @a', ["--x", "--y", "b c", "--z=1"]),
        ('$a = New-Object System.Collections.ArrayList\n$a.Add("--x=" + 1 + 2) | Out-Null\n$null = $a.Add("--y")\ntrain_network.py $a', ["--x=12", "--y"]),
        ("foreach ($k in 'd=1', 'e=2') { $a += @($k) }\ntrain_network.py --network_args $a", ["--network_args", "d=1", "e=2"]),
        ('$a = [System.Collections.ArrayList]::new()\nforeach ($k in "d=1 e=2".Split(" ")) { [void]$a.Add($k) }\ntrain_network.py $a', ["d=1", "e=2"]),
        ("for ($i = 0; $i -lt 3; $i++) { $s += \"$i\" }\ntrain_network.py $s", ["012"]),
        ("$i = 0; while ($i -lt 3) { $i += 1; if ($i -eq 2) { break } }\ntrain_network.py $i", ["2"]),
        ("$i = 0; do { $i++ } until ($i -ge 4)\ntrain_network.py $i", ["4"]),
        ("$s = ''; 1..3 | ForEach-Object { $s += $_ }\ntrain_network.py $s", ["123"]),
        ("$b = 2; $l = 1e-4 * $b\ntrain_network.py --lr=$l --h=$(7 / 2) --w=$(6 / 2)", ["--lr=0.0002", "--h=3.5", "--w=3"]),
        ("$n = [Math]::Ceiling(31 * 40 / 4 * 1.5)\ntrain_network.py --max_train_steps=$n", ["--max_train_steps=465"]),
        ("$n = [int]2.5 + [int]'3'\ntrain_network.py $n", ["5"]),  # Half goes to the even number.
        ("train_network.py $(5e-5) $(1e20) $(100000.0) $true $(0.1)", ["5E-05", "1E+20", "100000", "True", "0.1"]),
        ("$d = 'X:\\a'\ntrain_network.py --d=$d\"\\b c\" $d\\e ${d}f \"$d`n\"", ["--d=X:\\a\\b c", "X:\\a\\e", "X:\\af", "X:\\a\n"]),
        ("train_network.py 'it''s $x' \"say \"\"hi\"\" `$x\" a`\"b", ["it's $x", 'say "hi" $x', 'a"b']),
        ('$x = @"\na "b" $(1 + 1)\n"@\n$y = @\'\nc $d\n\'@\ntrain_network.py $x $y', ['a "b" 2', "c $d"]),
        ("train_network.py `\n  --a=1 `\n  # c\n", ["--a=1"]),
        ("train_network.py --a 2>&1 > log.txt --b", ["--a", "--b"]),
        ("train_network.py --% --a=$x \"b", ["--a=$x", '"b']),
        ("function Go($r, $s = 4) { $x = 9; train_network.py --r=$r --s=$s --x=$script:x @args }\n$x = 1\nGo 8", ["--r=8", "--s=4", "--x=9"]),
        ("param([int]$Rank = 8, [string]$Name = 'a b')\ntrain_network.py --r=$Rank --n=$Name", ["--r=8", "--n=a b"]),
        ("$x = 1\nfunction F { $x = 2; $script:y = 3 }\nF\ntrain_network.py $x $y", ["1", "3"]),
        ("$a = [System.Collections.ArrayList]::new()\nfunction F { [void]$a.Add('--x') }\nF\ntrain_network.py $a", ["--x"]),
        ("$c = @{ rank = 8; 'alpha' = 4 }\n$c.rank = 16\ntrain_network.py --r=$($c.rank) --a=$($c['alpha'])", ["--r=16", "--a=4"]),
        ("$p = Join-Path -Path 'D:\\o' -ChildPath \"n.safetensors\"\ntrain_network.py $p", ["D:\\o\\n.safetensors"]),
        ("train_network.py --o=$('{0}-{1}' -f 'a', 3) $('a', 'b' -join ',') $('a,b' -split ',')", ["--o=a-3", "a,b", "a", "b"]),
        ("$x = 'a.b'.Replace('.', '_').ToUpper()\ntrain_network.py $x $('abc'.Substring(1)) $('x1' -replace '\\d', '2')", ["A_B", "bc", "x2"]),
        ("[string]$x = 5; $x += 1; [int]$y = '7'; $y += 1\ntrain_network.py $x $y", ["51", "8"]),
        ("$A, $B = 1, 2\ntrain_network.py $a$b", ["12"]),
        ("$Env:X = 'q'\ntrain_network.py $env:x", ["q"]),
        ("$x = 1\ntry { $x = 1 } catch { exit } finally { $y = 2 }\ntrain_network.py $x$y", ["12"]),
        ("$c = 'train_network.py --a=1 --b'\nInvoke-Expression $c", ["--a=1", "--b"]),
        ("if ($true) { & train_network.py --a=1 } else { train_network.py --b }", ["--a=1"]),
        ("$x = 1\nif (-not $x) { exit }\ntrain_network.py --a", ["--a"]),
        ("train_network.py --resolution=512,768 --b a,b", ["--resolution=512,768", "--b", "a,b"]),
    ],
)  # fmt: skip
def test_scripts(script: str, words: list[str]) -> None:
    assert followed(script) == words
    assert followed(script.replace("\n", "\r\n").replace('\r\n"@', '\r\n"@')) == words


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("if ($env:X) { $E = 5 }\ntrain_network.py --seed=$E", "--seed", "line 1 sets E"),
        ("if ($env:X) { $E = 5 }\ntrain_network.py --seed=$E", "--seed", "never sets env:X"),
        ("$E = 1\nif (Test-Path reg) { $E = 2 }\ntrain_network.py --seed=$E", "--seed", "line 2 sets E"),
        ("$E = nvidia-smi\ntrain_network.py --seed $E", "--seed", "nvidia-smi"),
        ("$E = Read-Host 'which'\ntrain_network.py --seed=$E", "--seed", "Read-Host"),
        ("$E = Get-Random\ntrain_network.py --seed=$E", "--seed", "Get-Random"),
        ("$E = 1\n. .\\config.ps1\ntrain_network.py --seed=$E", "--seed", "config.ps1"),
        ("$a = @()\n$a.Add('--xformers')\ntrain_network.py --shuffle_caption $a", "a", "fixed size"),
        ("$a = [System.Collections.ArrayList]::new()\nif ($x) { [void]$a.Add('--xformers') }\ntrain_network.py --shuffle_caption $a", "a", "line 2 sets a"),
        ("param($E)\ntrain_network.py --seed=$E", "--seed", "never sets E"),
        ("switch ($env:X) { 1 { $E = 1 } 2 { $E = 2 } }\ntrain_network.py --seed=$E", "--seed", "line 1 sets E"),
        ("foreach ($f in Get-ChildItem) { $E = $f }\ntrain_network.py --seed=$E", "--seed", "line 1 sets E"),
    ],
)  # fmt: skip
def test_what_only_running_would_tell(text: str, where: str, says: str) -> None:
    (problem,) = convert_source(source_of(text)).problems
    assert problem.where == f"run.ps1: {where}"
    assert says in problem.what


@pytest.mark.parametrize(
    "text",
    [
        "if (Test-Path venv) { .\\venv\\Scripts\\activate; $X = 1 }\ntrain_network.py --seed=4",
        "$n = nvidia-smi\nif ($n -gt 3) { $X = $env:Y }\ntrain_network.py --seed=4",
        "if ($LASTEXITCODE -ne 0) { Write-Host 'no'; exit 1 }\ntrain_network.py --seed=4",
        "if ($env:X) { $S = 4 } else { $S = '4' }\n$S = 4\ntrain_network.py --seed=$S",
        "$S = 4\nif ($env:X) { $S = 5; exit }\ntrain_network.py --seed=$S",
        "Get-ChildItem *.png | ForEach-Object { $q = $_ }\ntrain_network.py --seed=4 | Tee-Object log",
        "try { nvidia-smi } catch { $q = 1 }\ntrain_network.py --seed=4\nRead-Host | Out-Null ;",
        "Set-Location $PSScriptRoot\ntrain_network.py --seed=4",
        "[Console]::OutputEncoding = [System.Text.Encoding]::UTF8\ntrain_network.py --seed=4",
    ],
)
def test_conditions_that_do_not_reach_the_training_do_not_matter(text: str) -> None:
    source = source_of(text)
    assert source.problems == []
    assert source.given["seed"].raw == "4"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\nif ($x) {\ntrain_network.py --seed=1", "breaks off: } is missing"),
        ("train_network.py --a=1 ` \n --seed=1", "line 1: has a space behind the `"),
        ("function f { f }\nf\ntrain_network.py --seed=1", "calls itself too often"),
        ("$x = (1\ntrain_network.py --seed=1", "line 1: holds t, which is not understood"),
    ],
)
def test_what_is_refused_with_its_line(text: str, says: str) -> None:
    texts = [str(problem) for problem in source_of(text).problems]
    assert any(says in each for each in texts), texts


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.text("ab '\"$`\\#;{}()@,|-", max_size=8), min_size=1, max_size=4))
def test_single_quoted_texts_stay_as_they_are(values: list[str]) -> None:
    """about_Quoting_Rules: all is literal in single quotes, and two of them are one."""
    words = ["'" + value.replace("'", "''") + "'" for value in values]
    assert followed("train_network.py --x " + " ".join(words)) == ["--x", *values]
    texts = "; ".join(f"$v{place} = {word}" for place, word in enumerate(words))
    names = " ".join(f'--y="$v{place}"' for place in range(len(words)))
    assert followed(f"{texts}\ntrain_network.py {names}") == [f"--y={value}" for value in values]
