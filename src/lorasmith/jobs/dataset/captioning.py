"""The request for captions by a captioning model."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from lorasmith.config.values import UserPath
from lorasmith.core.errors import Problem, SettingsError, UserError, collect_problems
from lorasmith.core.events import Controls, Observer
from lorasmith.jobs.dataset.changes import FolderChangeRequest
from lorasmith.jobs.request import option

if TYPE_CHECKING:
    from lorasmith.curation.captioner.answers import Captioner
    from lorasmith.curation.changes.plan import Plan

_LOCAL_ONLY = ("min_tokens", "beams", "device", "precision", "four_bit")
_ENDPOINT_ONLY = ("allow_upload", "key_env", "timeout")


class CaptionRequest(FolderChangeRequest):
    """Caption the pictures in DIR by a model that looks at them.

    Only pictures without a caption get one, unless --mode says otherwise. The model runs here, or
    behind an address that speaks OpenAI's protocol (--endpoint: Ollama, vLLM, LM Studio). What it
    wrote is kept in DIR/.lorasmith until it is asked again with --fresh, so a stopped command goes
    on, and prefix, forbidden words and the like can be changed without running the model again.
    """

    verb: ClassVar = "dataset caption"
    other_names: ClassVar = {
        "performance.device": "device",
        "train.precision": "precision",
    }

    model: str = option(
        "",
        "blip, blip-large, blip2, git, florence2, florence2-large, joycaption, llava, qwen, "
        "smolvlm; or a folder or hub id of an image-to-text model of transformers; with --endpoint "
        "as the server calls it",
        metavar="NAME|DIR|HUB_ID",
    )
    mode: Literal["if-empty", "append", "prepend", "replace"] = option(
        "if-empty", "What becomes of captions that are there"
    )
    style: Literal["descriptive", "tags"] = option(
        "descriptive", "Sentences, or tags between commas"
    )
    prompt: str | None = option(
        None,
        "What the model is asked, or how a caption begins (BLIP, GIT), or a task (Florence-2)",
        metavar="TEXT",
        default_text="what suits model and style",
    )
    prefix: str = option("", "Text before each caption, such as the trigger", metavar="TEXT")
    suffix: str = option("", "Text behind each caption", metavar="TEXT")
    blacklist: list[str] = option(
        [],
        "Take this word or phrase out of captions; can be given several times",
        metavar="WORDS",
    )
    jsonl: UserPath | None = option(
        None, "Also write all captions into this table, within DIR", metavar="FILE.jsonl"
    )
    max_tokens: int = option(256, "Longest caption, in the model's tokens", metavar="N", ge=1)
    min_tokens: int = option(0, "Shortest caption, in the model's tokens", metavar="N", ge=0)
    beams: int = option(
        1, "Captions that are followed at a time; the likeliest is taken", metavar="N", ge=1, le=64
    )
    batch: int = option(1, "Pictures, or requests, at a time", metavar="N", ge=1, le=256)
    image_size: int = option(
        1024, "Longer side that the model sees at most", metavar="PX", unit="pixels", ge=32, le=8192
    )
    fresh: bool = option(False, "Ask again also where an earlier answer is kept")
    four_bit: bool = option(False, "The model's weights in 4 bits, by bitsandbytes")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = option("auto", "Of the model")
    device: str = option("auto", "Where to compute", metavar="auto|cpu|cuda|…")
    endpoint: str | None = option(
        None, "Address of a server, as in http://localhost:11434/v1", metavar="URL"
    )
    allow_upload: bool = option(False, "Let pictures go to an --endpoint on another machine")
    key_env: str | None = option(
        None, "Environment variable that holds the --endpoint's key", metavar="NAME"
    )
    timeout: float = option(
        300.0, "Seconds to wait for an answer of the --endpoint", metavar="S", gt=0
    )

    def plan(self, observer: Observer, controls: Controls) -> Plan:
        from lorasmith.curation.captioner.caption import plan_captions
        from lorasmith.curation.collection import open_collection

        problems = list(self._contradictions())
        collection = collect_problems(
            problems, lambda: open_collection(self.folders, observer=observer)
        )
        captioner = None
        if not problems:
            captioner = collect_problems(problems, lambda: self._captioner(controls))
        if problems or collection is None or captioner is None:
            raise UserError(problems)
        return plan_captions(
            collection,
            captioner,
            where=self.where,
            mode=self.mode,
            style=self.style,
            prefix=self.prefix,
            suffix=self.suffix,
            blacklist=self.blacklist,
            jsonl=self.jsonl,
            fresh=self.fresh,
            side=self.image_size,
            command=self._command,
            observer=observer,
            controls=controls,
        )

    @property
    def _command(self) -> str:
        words = ["caption"]
        words += ["--model", self.model] if self.model else []
        words += ["--endpoint", self.endpoint] if self.endpoint is not None else []
        words += ["--mode", self.mode] if self.given("mode") else []
        words += ["--where", self.where] if self.where else []
        return shlex.join(words)

    def _contradictions(self) -> Iterator[Problem]:
        """What is missing, or does nothing."""
        if self.endpoint is None and not self.model:
            hint = "name one, such as --model florence2, or a server with --endpoint"
            yield Problem("model", "there is no captioning model", hint)
        for name in _LOCAL_ONLY if self.endpoint is not None else _ENDPOINT_ONLY:
            if self.given(name):
                beside = "with" if self.endpoint is not None else "without"
                yield Problem(name, f"does nothing {beside} --endpoint", "leave it out")
        if self.min_tokens > self.max_tokens:
            what = f"{self.min_tokens} is more than the longest caption, {self.max_tokens}"
            yield Problem("min_tokens", what, "choose less, or more --max-tokens")
        if self.key_env is not None and not os.environ.get(self.key_env):
            what = f"the environment variable {self.key_env} is not set"
            yield Problem("key_env", what, f"set it first, as in export {self.key_env}=…")

    def _captioner(self, controls: Controls) -> Captioner:
        """
        Raises:
            UserError: the model or the server is not there, or cannot do what is asked.
        """
        from lorasmith.curation.captioner.conventions import CHAT_PROMPTS, find_model

        if self.prompt is not None and not self.prompt.strip() and self.endpoint is not None:
            raise SettingsError.of("prompt", "is empty", "say what the server is asked")
        if self.endpoint is None:
            from lorasmith.curation.captioner.local import LocalCaptioner, check_kind

            folder = find_model(self.model, check_kind)
            return LocalCaptioner(
                folder,
                folder.prompt(self.style) if self.prompt is None else self.prompt,
                max_tokens=self.max_tokens,
                min_tokens=self.min_tokens,
                beams=self.beams,
                batch=self.batch,
                device=self.device,
                precision=self.precision,
                four_bit=self.four_bit,
            )
        from lorasmith.curation.captioner.endpoint import EndpointCaptioner

        captioner = EndpointCaptioner(
            self.endpoint,
            self.model,
            CHAT_PROMPTS[self.style] if self.prompt is None else self.prompt,
            max_tokens=self.max_tokens,
            key=os.environ.get(self.key_env, "") if self.key_env is not None else "",
            allow_upload=self.allow_upload,
            batch=self.batch,
            timeout=self.timeout,
        )
        captioner.connect(controls)
        return captioner
