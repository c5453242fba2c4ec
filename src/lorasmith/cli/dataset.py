"""``lorasmith dataset``: its verbs, each imported only when it is called."""

from __future__ import annotations

import click

from lorasmith.cli.main import Entry, LazyGroup

VERBS: dict[str, dict[str, Entry]] = {
    "Begin": {
        "init": Entry("lorasmith.cli.dataset_files", "Make the folders of a project."),
        "import": Entry("lorasmith.cli.dataset_files", "Copy pictures in, with their tags."),
        "gather": Entry("lorasmith.cli.dataset_files", "Fetch pictures from sites, with tags."),
    },
    "Look": {
        "check": Entry(
            "lorasmith.cli.dataset_check", "Say what training would see, and what is odd."
        ),
        "audit": Entry(
            "lorasmith.cli.dataset_audit", "Look it over by all rules, say why, and mend it."
        ),
        "preview": Entry("lorasmith.cli.dataset_check", "Draw what a run sees of the pictures."),
        "stats": Entry(
            "lorasmith.cli.dataset_stats", "Count tags: on and off, together, tokens, triggers."
        ),
    },
    "Captions": {
        "tag": Entry("lorasmith.cli.dataset_tagging", "Write tags by a tagger (WD14 and others)."),
        "edit": Entry("lorasmith.cli.dataset_captions", "Add, remove, replace, sort tags …"),
        "caption": Entry(
            "lorasmith.cli.dataset_captioning", "Caption pictures by a model that looks at them."
        ),
        "captions": Entry(
            "lorasmith.cli.dataset_captions", "Write, merge, embed or extract whole captions."
        ),
        "rename": Entry(
            "lorasmith.cli.dataset_captions", "Rename pictures with all that belongs to them."
        ),
    },
    "Sort out": {
        "sort": Entry("lorasmith.cli.dataset_sorting", "Move pictures into folders, by filters."),
        "dedupe": Entry("lorasmith.cli.dataset_sorting", "Keep one of pictures that are alike."),
    },
    "Draw": {
        "regularize": Entry(
            "lorasmith.cli.dataset_captioning", "Draw regularisation pictures by the base model."
        ),
    },
    "Pictures": {
        "crop": Entry("lorasmith.cli.dataset_images", "Crop pictures, or write down how."),
        "preprocess": Entry("lorasmith.cli.dataset_images", "The same, by the web UI's word."),
        "resize": Entry("lorasmith.cli.dataset_images", "Resize pictures in their own shape."),
        "split": Entry("lorasmith.cli.dataset_images", "Part large pictures into tiles."),
        "flip": Entry("lorasmith.cli.dataset_images", "Put a mirror image beside each picture."),
        "convert": Entry("lorasmith.cli.dataset_images", "Formats, colours and EXIF turns alike."),
        "masks": Entry("lorasmith.cli.dataset_images", "Make masks of what is to be learned."),
        "export": Entry("lorasmith.cli.dataset_images", "Make a set for another trainer."),
    },
    "Take back": {
        "undo": Entry("lorasmith.cli.dataset_changes", "Take back what the last verbs changed."),
        "redo": Entry("lorasmith.cli.dataset_changes", "Do again what was undone."),
        "history": Entry("lorasmith.cli.dataset_changes", "List what was changed, and when."),
    },
}
"""What `lorasmith dataset --help` shows, in this order."""


@click.group("dataset", cls=LazyGroup, groups=VERBS)
def dataset() -> None:
    """Look after a folder of training pictures.

    A verb that changes something shows first what it would change, and asks; --yes skips that, and
    --dry-run ends there. Everything can be undone.
    """
