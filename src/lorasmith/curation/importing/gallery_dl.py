"""gallery-dl as a child process: what it is told, and what it says.

It is under the GPL, and never imported. Its own settings on the machine are left alone; it gets
ours in a file. Each site's pauses between requests are its own defaults.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from lorasmith.core.errors import Problem, UserError
from lorasmith.core.events import Controls, Notice, Observer, Progress, ignore
from lorasmith.core.files import write_json
from lorasmith.core.installation import extra_line
from lorasmith.core.text import quantity
from lorasmith.data.images import SUFFIXES

RETRIES = 4
# Bits of its exit status; it adds up those of all that went wrong.
_NO_SITE = 64
# How long it may take to end by itself, in seconds; and how often we look whether it shall.
_PATIENCE, _LOOK = 10.0, 0.2
# What it takes to note down that a file came, after it said so; and what it pauses at least where
# it shall be ended at a limit, before it asks for the next.
_SETTLING, _SHORTEST_PAUSE = 0.05, 0.5
# What runs in a shell's background ignores Ctrl-C, and so would gallery-dl, which we end by it.
_RUN = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("gallery_dl", run_name="__main__", alter_sys=True)
"""
_SKIPPED = "# "
_LOG = re.compile(r"(debug|info|warning|error|critical)\t([^\t]*)\t(.*)", re.DOTALL)
_TRIES = re.compile(r" \(\d+/\d+\)$")


@dataclass
class Fetched:
    """
    Args:
        files: how many came.
        earlier: how many were there already, or came earlier.
        problems: what failed, each once.
    """

    files: int = 0
    earlier: int = 0
    problems: list[Problem] = field(default_factory=list)


def require_gallery_dl() -> None:
    """
    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("gallery_dl") is None:
        what = "gallery-dl is not installed, which downloads from sites"
        raise UserError.of("", what, f"install it: {extra_line('gather')}")


def settings(folder: Path, archive: Path | None, *, pause: float, wait: float) -> dict[str, object]:
    """What gallery-dl is told: tags beside each picture, originals only, nothing twice.

    Args:
        folder: where files go, in folders by site and search.
        archive: remembers what came; ``None`` fetches everything.
        pause: seconds between two downloads.
        wait: seconds after a site said that there were too many requests.
    """
    endings = ", ".join(repr(suffix.removeprefix(".")) for suffix in sorted(SUFFIXES))
    extractor: dict[str, object] = {
        "base-directory": str(folder),
        "postprocessors": [{"name": "metadata", "mode": "json", "event": "file"}],
        "file-filter": f"not locals().get('extension') or extension.lower() in ({endings},)",
        "sleep": pause,
        "sleep-429": wait,
        "retries": RETRIES,
        "retry-codes": [429],
        # Kinds of tags, where a site says them only on the post's own page.
        "tags": True,
        "ugoira": False,
        "videos": False,
    }
    if archive is not None:
        extractor["archive"] = str(archive)
    log = {"format": "{levelname}\t{name}\t{message}", "level": "info"}
    return {
        "extractor": extractor,
        "downloader": {"part": True, "retries": RETRIES, "http": {"retry-codes": [429]}},
        "output": {"mode": "pipe", "log": log, "fallback": False},
    }


def fetch(
    urls: Sequence[str],
    folder: Path,
    *,
    archive: Path | None,
    limit: int = 0,
    pause: float = 0.5,
    wait: float = 60.0,
    own_settings: Path | None = None,
    simulate: bool = False,
    observer: Observer = ignore,
    controls: Controls | None = None,
) -> Fetched:
    """Have gallery-dl fetch pictures, and JSON with their tags beside them.

    Args:
        folder: where they go.
        limit: at most so many new ones; 0 for all.
        own_settings: a file of the user's with settings of gallery-dl's, for accounts and keys.
        simulate: fetch nothing, count only.

    Raises:
        UserError: gallery-dl is not installed.
        WriteError: ``folder`` cannot be written to.
        Stopped: by ``controls``; what came is kept.
    """
    require_gallery_dl()
    controls = controls or Controls()
    with tempfile.TemporaryDirectory(prefix="lorasmith-") as temporary:
        config = Path(temporary) / "settings.json"
        pause = max(pause, _SHORTEST_PAUSE) if limit else pause
        write_json(config, settings(folder, archive, pause=pause, wait=wait))
        command = [sys.executable, "-c", _RUN, "--config-ignore"]
        for path in filter(None, (own_settings, config)):
            command += ["--config", str(path)]
        command += ["--simulate"] if simulate else []
        return _run([*command, "--", *urls], limit, simulate, observer, controls)


def _run(
    command: Sequence[str], limit: int, simulate: bool, observer: Observer, controls: Controls
) -> Fetched:
    outcome = Fetched()
    # In a session, on Windows a group, of its own: Ctrl-C is for us, who tell it to end.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    log = _Log()
    enough = done = False
    try:
        for source, line in _lines(child, controls):
            if source == "stderr":
                log.take(line, observer)
            elif simulate or not line.startswith(_SKIPPED):
                outcome.files += 1
                if limit and outcome.files >= limit:
                    enough = True
                    time.sleep(_SETTLING)
                    break
                observer(Progress("fetching pictures", outcome.files, limit or outcome.files))
            else:
                outcome.earlier += 1
        done = not (enough or controls.stopping)
    finally:
        status = _end(child, done=done)
    observer(Progress("fetching pictures", outcome.files, outcome.files))
    pictures = quantity(outcome.files, "picture")
    controls.check(f"stopped; {pictures} came, and the next `dataset gather` goes on from there")
    outcome.problems += log.problems(0 if enough else status)
    return outcome


def _lines(child: subprocess.Popen[str], controls: Controls) -> Iterator[tuple[str, str]]:
    """What it prints and logs, as it comes; ends when it ends, or when we are asked to stop."""
    lines: queue.Queue[tuple[str, str] | None] = queue.Queue()

    def read(name: str, stream: IO[str]) -> None:
        for line in stream:
            lines.put((name, line.rstrip("\r\n")))
        lines.put(None)

    assert child.stdout is not None
    assert child.stderr is not None
    for name, stream in (("stdout", child.stdout), ("stderr", child.stderr)):
        threading.Thread(target=read, args=(name, stream), daemon=True).start()
    open_streams = 2
    while open_streams and not controls.stopping:
        try:
            line = lines.get(timeout=_LOOK)
        except queue.Empty:
            continue
        if line is None:
            open_streams -= 1
        else:
            yield line


def _end(child: subprocess.Popen[str], *, done: bool) -> int:
    """Wait for it to end; ask it to, and end it where it does not.

    Args:
        done: it has closed its output, and is about to end by itself.

    Returns:
        its exit status.
    """
    asks = [lambda: None] if done else []
    asks += [
        child.terminate if sys.platform == "win32" else partial(child.send_signal, signal.SIGINT)
    ]
    for ask in (*asks, child.kill):
        ask()
        try:
            return child.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            continue
    return child.wait()


class _Log:
    """What it says of trouble."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, str, str]] = []

    def take(self, line: str, observer: Observer) -> None:
        match = _LOG.fullmatch(line)
        if match and match[1] == "info":
            if match[3].startswith("Waiting"):
                observer(Notice("info", f"{match[2]}: {match[3]}"))
        elif match:
            self._entries.append((match[1], match[2], match[3]))
        elif self._entries and line.strip():
            level, name, text = self._entries[-1]
            self._entries[-1] = (level, name, f"{text} {line.strip()}"[:500])

    def problems(self, status: int) -> list[Problem]:
        """What failed, with the last reason that was said before."""
        problems: dict[Problem, None] = {}
        reason = ""
        for level, name, text in self._entries:
            if level in ("error", "critical"):
                if text.startswith("Failed to download"):
                    file = text.removeprefix("Failed to download").strip()
                    what = f"could not be fetched: {reason or 'no reason said'}"
                    problems[Problem(file, what, _hint(reason))] = None
                else:
                    problems[Problem(name, text, _hint(text))] = None
                reason = ""
            else:
                reason = _TRIES.sub("", text)
        if not problems and status:
            what = "is of no site that gallery-dl knows" if status & _NO_SITE else reason
            return [Problem("", what or f"gallery-dl ended with status {status}")]
        return list(problems)


def _hint(text: str) -> str:
    if "429" in text:
        return "run it again later: it goes on where it ended"
    if "Unsupported URL" in text:
        return "name the kind of site in front, if you know it, as in Danbooru:https://…"
    if "401" in text or "403" in text or "login" in text.lower():
        return "the site may want an account or a key; see docs/dataset-import.md"
    return ""
