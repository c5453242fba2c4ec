"""The process of an engine: reads questions, answers them one after the other.

``python -m lorasmith.jobs.engine.serve planning`` or ``drawing``: which questions it gets.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from lorasmith.core.errors import Stopped, UserError
from lorasmith.core.events import Controls
from lorasmith.core.files import parse_json

Tell = Callable[[dict[str, Any]], None]
Answer = Callable[[Mapping[str, Any], Tell, Controls], Any]


def planning_answers() -> dict[str, Answer]:
    import lorasmith.training.plan  # noqa: F401  what takes long
    from lorasmith.jobs.engine.plan import ANSWERS
    from lorasmith.jobs.picture_settings import answer_settings

    return {"settings": lambda question, tell, controls: answer_settings(question), **ANSWERS}


def drawing_answers() -> dict[str, Answer]:
    from lorasmith.jobs.engine.draw import Drawer
    from lorasmith.jobs.engine.tag import KeptTagger
    from lorasmith.jobs.picture_settings import answer_settings

    drawer, tagger = Drawer(), KeptTagger()
    return {
        "draw": drawer.draw,
        "load": drawer.load,
        "settings": lambda question, tell, controls: answer_settings(question),
        "tag": tagger.tag,
    }


def serve(questions: BinaryIO, answers: BinaryIO, ask: Mapping[str, Answer]) -> None:
    """Answer until there are no more questions.

    Args:
        ask: what answers a question, by its ``ask``.
    """
    waiting: queue.Queue[tuple[dict[str, Any], Controls] | None] = queue.Queue()
    open_questions: dict[int, Controls] = {}

    def read() -> None:
        """Beside the work: what asks it to stop must be heard meanwhile."""
        for line in questions:
            question = parse_json(line)
            if question["ask"] == "stop":
                if (asked := open_questions.get(question["of"])) is not None:
                    asked.stop()
            else:
                controls = open_questions[question["id"]] = Controls()
                waiting.put((question, controls))
        # Nobody waits for what is being worked on any more.
        for controls in list(open_questions.values()):
            controls.stop()
        waiting.put(None)

    def write(record: dict[str, Any]) -> None:
        answers.write(json.dumps(record).encode() + b"\n")
        answers.flush()

    threading.Thread(target=read, daemon=True).start()
    while (asked := waiting.get()) is not None:
        question, controls = asked
        number = question["id"]

        def tell(event: dict[str, Any], number: int = number) -> None:
            write({"id": number, "told": event})

        try:
            write({"id": number, "answer": ask[question["ask"]](question, tell, controls)})
        except Stopped as stop:
            write({"id": number, "stopped": str(stop)})
        except UserError as error:
            problems = [{"where": p.where, "what": p.what, "hint": p.hint} for p in error.problems]
            write({"id": number, "problems": problems})
        del open_questions[number]


def main() -> None:
    # What libraries print must not stand among the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        kinds = {"planning": planning_answers, "drawing": drawing_answers}
        serve(sys.stdin.buffer, answers, kinds[sys.argv[1]]())


if __name__ == "__main__":
    main()
