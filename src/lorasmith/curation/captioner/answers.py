"""What captioners answer, and where their answers are kept until the captions are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from lorasmith.core.disk import write_error
from lorasmith.core.errors import Problem
from lorasmith.core.events import Controls
from lorasmith.core.files import parse_json
from lorasmith.curation.changes.trash import STORE
from lorasmith.data.cache.file_memo import hash_bytes

FOLDER = "captioned"
STOPPED = "stopped; what was captioned is kept, and the same command goes on there"


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Args:
        text: as the model wrote it.
        finished: it came to an end by itself.
    """

    text: str
    finished: bool = True


class Captioner(Protocol):
    """What writes about images."""

    @property
    def batch(self) -> int:
        """Images that are best asked for at once."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that its answers depend on, but for the image."""
        ...

    def answers(self, images: Sequence[Image.Image], controls: Controls) -> list[Answer | Problem]:
        """One for each image, in order: what it wrote, or why it could not.

        Args:
            images: RGB.

        Raises:
            UserError: no image can be asked for.
            Stopped: by ``controls``.
        """
        ...


class KeptAnswers:
    """Answers by the content of the image, in a file of lines below ``.lorasmith``.

    A captioner may take hours; what it wrote survives Ctrl-C, a "no" to the plan, and other
    wishes for prefix or forbidden words. A line that a kill left unfinished is not read.

    Args:
        root: the dataset's folder.
        identity: of the captioner.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        text = json.dumps(dict(identity), sort_keys=True, default=str)
        self.path = root / STORE / FOLDER / f"{hash_bytes(text.encode())[:16]}.jsonl"
        self._header = text
        self._answers = _read(self.path)

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, content: str) -> Answer | None:
        """
        Args:
            content: hash of the image's bytes.
        """
        return self._answers.get(content)

    def add(self, content: str, answer: Answer) -> None:
        """
        Raises:
            WriteError: it cannot be written.
        """
        self._answers[content] = answer
        row = {"image": content, "text": answer.text, "finished": answer.finished}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            start = "" if self.path.exists() else self._header + "\n"
            with open(self.path, "a", encoding="utf-8") as file:
                # A newline first: what a kill left unfinished does not spoil this line.
                file.write(f"{start}\n{json.dumps(row)}\n")
        except OSError as error:
            raise write_error(self.path, error) from error


def _read(path: Path) -> dict[str, Answer]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return {}
    answers: dict[str, Answer] = {}
    for line in lines:
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"image", "text", "finished"} <= row.keys():
            answers[str(row["image"])] = Answer(str(row["text"]), bool(row["finished"]))
    return answers
