"""What one system has and another lacks: used in known places alone, behind a guard.

Windows has neither fork nor most signals, its code page is not UTF-8, what is open there keeps its
name, and symbolic links take rights that few users have.
"""

from __future__ import annotations

import ast
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from lorasmith.cli.main import main
from lorasmith.config.load import load_settings
from tests.test_architecture import INSIDE, Module

# Modules and members of the standard library that Windows lacks. What an `os.name`, `sys.platform`
# or `hasattr` stands before is listed with its file.
UNIX_MODULES = {"fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
UNIX_NAMES = re.compile(
    r"os\.(fork\w*|spawn\w*|kill\w*|get[e]?[ug]id|getlogin|getloadavg|get_terminal_size_fd|sched_\w+"
    r"|chown|lchown|chroot|mkfifo|mknod|nice|posix_\w+|setsid|sync|uname|wait\w*|WIF\w+|O_NOFOLLOW"
    r"|O_DIRECTORY|O_NONBLOCK|statvfs|fchmod|fchown|openpty|login_tty)"
    r"|signal\.(SIGKILL|SIGHUP|SIGUSR\d|SIGALRM|SIGCHLD|SIGPIPE|SIGQUIT|SIGCONT|SIGSTOP|alarm"
    r"|setitimer|pause|pthread_\w+|sigwait\w*)"
    r"|socket\.AF_UNIX|time\.(tzset|clock_gettime\w*)|mmap\.(MADV_\w+|MAP_\w+|PROT_\w+)"
)
UNIX = rf"{UNIX_NAMES.pattern}|import ({'|'.join(sorted(UNIX_MODULES))})\b"
GUARDED = {
    "core.files": {"fcntl"},
    "core.locks": {"fcntl"},
    "tensors.device": {"resource"},
    "advice.doctor.gather": {"resource", "os.sched_getaffinity"},
    "models.weights": {"mmap.MADV_DONTNEED"},
}


@cache
def mentioning(words: str) -> list[Module]:
    """The modules in whose text one of the words is: few are worth being parsed."""
    return [one for one in INSIDE if re.search(words, one.path.read_text(encoding="utf-8"))]


def dotted(node: ast.expr) -> str:
    """``a.b.c`` as written; "?" for what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def unix_only(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in UNIX_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in UNIX_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Attribute) and UNIX_NAMES.fullmatch(name := dotted(node)):
            yield name


def test_what_windows_lacks_is_used_behind_a_guard() -> None:
    found = {one.name: names for one in mentioning(UNIX) if (names := set(unix_only(one.tree)))}
    assert found == GUARDED


def test_nothing_of_unix_alone_is_imported_with_a_module() -> None:
    """At the top of a file a guard would come too late."""
    for one in mentioning(UNIX):
        top = ast.Module([node for node in one.tree.body if isinstance(node, ast.Import)], [])
        assert not set(unix_only(top)), one.name


def places(is_one: Callable[[str, ast.Call], bool], words: str) -> set[str]:
    """Modules with such a call, by what is called; one of the words is in their text."""
    return {
        one.name
        for one in mentioning(words)
        for node in ast.walk(one.tree)
        if isinstance(node, ast.Call) and is_one(dotted(node.func), node)
    }


def changes_names(name: str, call: ast.Call) -> bool:
    if re.fullmatch(r"os\.(replace|renames?|unlink|remove|removedirs)", name):
        return True
    if name in ("shutil.rmtree", "shutil.move"):
        return True
    # Of a text, replace() takes two arguments.
    is_path = name.endswith((".unlink", ".rename")) or (
        name.endswith(".replace") and len(call.args) == 1 and not call.keywords
    )
    return is_path and not name.startswith("dataclasses")


def test_files_change_their_names_in_one_place() -> None:
    """Where others that hold them for a moment are waited for. core.files removes what a living
    process may be writing, for which it does not wait."""
    assert places(changes_names, r"replace\([^,()]+\)|rename|unlink|os\.re|rmtree|move\(") == {
        "core.disk",
        "core.files",
    }


def guesses_encoding(name: str, call: ast.Call) -> bool:
    given = {keyword.arg for keyword in call.keywords}
    if "encoding" in given or None in given:
        return False
    attribute = name.rpartition(".")[2]
    if attribute == "read_text":
        return not call.args and name != "read_text"
    if attribute == "write_text":
        return len(call.args) < 2 and name.endswith(("path.write_text", "file.write_text"))
    if name not in ("open", "io.open", "os.fdopen", "path.open", "Path.open"):
        return False
    mode = next((k.value for k in call.keywords if k.arg == "mode"), None)
    place = 0 if name.endswith("ath.open") else 1
    mode = call.args[place] if len(call.args) > place else mode
    return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))


def test_no_text_is_in_the_encoding_of_the_system() -> None:
    assert not places(guesses_encoding, r"open\(|read_text|write_text")
    for wrong in ("open(p)", "open(p, 'w')", "path.open()", "p.read_text()", "path.write_text(t)"):
        call = ast.parse(wrong, mode="eval").body
        assert isinstance(call, ast.Call)
        assert guesses_encoding(dotted(call.func), call), wrong


def test_no_process_is_a_copy_of_this_one() -> None:
    """Windows and macOS have none; others are begun with a command line."""
    names = {"multiprocessing", "ProcessPoolExecutor", "DataLoader", "start_processes"}
    for one in mentioning("|".join(names)):
        found = {
            name
            for node in ast.walk(one.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (getattr(node, "module", None), *(each.name for each in node.names))
        }
        assert not names & {part for name in found for part in str(name).split(".")}, one.name


def test_links_are_made_only_where_links_were() -> None:
    """That of a dataset's picture is put back as one; where TensorBoard looks, Windows gets a
    junction, which takes no rights."""
    links = places(
        lambda name, call: name in ("os.symlink", "os.link") or "link_to" in name, "link"
    )
    assert links == {"curation.changes.trash", "jobs.tensorboard"}


@pytest.mark.parametrize("encoding", ["cp437", "cp1252"])
def test_a_console_of_an_old_code_page_shows_what_it_can(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """A cat and an arrow are in neither."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(sys, "argv", ["lorasmith", "猫→é"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    err.flush()
    said = err.buffer.getvalue()  # type: ignore[attr-defined]
    assert f"No such command '??{'é'}'".encode(encoding) in said


@pytest.mark.parametrize(
    ("system", "variable"),
    [
        ("darwin", "PYTORCH_ENABLE_MPS_FALLBACK"),
        ("win32", "FOR_DISABLE_CONSOLE_CTRL_HANDLER"),
        ("linux", None),
    ],
)
def test_libraries_are_told_of_the_system_before_they_are_imported(
    monkeypatch: pytest.MonkeyPatch, system: str, variable: str | None
) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(sys, "argv", ["lorasmith", "--version"])
    monkeypatch.setattr(os, "environ", environment)
    with pytest.raises(SystemExit):
        main()
    assert environment == ({variable: "1"} if variable else {})


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_settings_that_notepad_wrote_are_read(tmp_path: Path, mark: bytes, line: str) -> None:
    path = tmp_path / "settings.toml"
    text = f"[optimizer]{line}lr = 0.5{line}"
    path.write_bytes(mark + text.encode())
    assert load_settings(path).optimizer.lr == 0.5
