"""What lies beside images, put together: in folders as the programs leave them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorasmith.core.errors import DatasetError
from lorasmith.curation.sidecars.read import SideCars, read_sidecars
from lorasmith.curation.sidecars.tags import SideCar, Tag, TagRules, caption_of


@dataclass
class Memory:
    path: Path
    data: bytes

    def read(self, most: int) -> bytes:
        if len(self.data) > most:
            raise DatasetError.of(self.path, "too large")
        return self.data


def read(*images: str, files: dict[str, str | bytes]) -> SideCars:
    """
    Args:
        files: content by name.
    """
    entries = []
    for name, content in files.items():
        data = content if isinstance(content, bytes) else str(content).encode()
        entries.append(Memory(Path("src") / name, data))
    return read_sidecars([Path("src") / name for name in images], entries)


def captions(found: SideCars) -> dict[str, str]:
    return {path.name: caption_of(car, TagRules()) for path, car in found.cars.items()}


def test_each_name_that_programs_give() -> None:
    images = [f"{letter}.jpg" for letter in "abcdef"]
    found = read(
        *images,
        files={
            "a.jpg.txt": "hat", "b.txt": "hat", "c.jpg.json": '{"tags": ["hat"]}',
            "d.json": '{"tag_string": "hat"}', "e.tags.txt": "hat", "F.JPG.TXT": "hat",
            "a.jpg.urls.txt": "https://x", "b.jpg.notes.txt": "note: text",
        },
    )  # fmt: skip
    assert captions(found) == dict.fromkeys(images, "hat")
    assert not found.orphans
    assert not found.problems


def test_files_of_one_image_are_put_together() -> None:
    found = read(
        "a.jpg",
        files={
            "a.jpg.txt": "red_hat\nsomeone\nbig",
            "a.jpg.json": json.dumps(
                {
                    "tag_string_artist": "someone",
                    "tag_string_meta": "big",
                    "tag_string_general": "rain",
                }
            ),
        },
    )
    assert captions(found) == {"a.jpg": "red hat, someone, rain"}


def test_a_caption_goes_before_all_and_the_others_tell_kinds() -> None:
    found = read(
        "a.jpg", "b.jpg",
        files={
            "a.txt": "zorp, big, hat",
            "a.json": '{"tag_string_meta": "big", "tag_string_general": "rain hat"}',
            "b.txt": "A girl is standing in the rain.",
            "b.json": '{"tag_string_general": "rain hat"}',
        },
    )  # fmt: skip
    assert captions(found) == {"a.jpg": "zorp, hat", "b.jpg": "A girl is standing in the rain."}


def test_the_prompt_counts_where_nothing_else_does() -> None:
    prompt = SideCar((Tag("prompted"),))
    images = [Path("a.png"), Path("b.png"), Path("c.png")]
    files = [Memory(Path("a.txt"), b"hat"), Memory(Path("b.png.json"), b'{"rating": "s"}')]
    found = read_sidecars(images, files, lambda path: prompt)
    assert captions(found) == {"a.png": "hat", "b.png": "prompted", "c.png": "prompted"}


def test_tables() -> None:
    md5 = "0123456789abcdef" * 2
    posts = [
        {"id": 7, "md5": md5, "tag_string_general": "by_md5", "tag_string_meta": "big"},
        {"id": 8, "file_url": "https://x/y/e.png?z", "tags": "by_url"},
        {"id": 99, "md5": "f" * 32, "tags": "gone"},
        {"id": 31, "md5": "e" * 32, "tags": "by_id"},
    ]
    found = read(
        "a.png", "sub/b.png", "c.png", f"site_7_{md5}.png", "e.png", "f.png", "site_31_x.png",
        files={
            "metadata.jsonl": '{"file_name": "a.png", "text": "zorp, rain"}\n'
            '{"file_name": "sub/b.png", "text": "A dog is here in the rain."}\n{broken',
            "meta_cap.json": '{"/x/c": {"caption": "a hat", "tags": "one, two"}}',
            "posts.json": json.dumps(posts),
            "list.csv": 'name,tags\nf.png,"by csv, hat"\n',
        },
    )  # fmt: skip
    assert captions(found) == {
        "a.png": "zorp, rain", "b.png": "A dog is here in the rain.", "c.png": "a hat, one, two",
        f"site_7_{md5}.png": "by md5", "e.png": "by url", "f.png": "by csv, hat",
        "site_31_x.png": "by id",
    }  # fmt: skip
    assert {(Path(each.where).name, each.what) for each in found.problems} == {
        ("metadata.jsonl", "1 line is no JSON and left out"),
        ("posts.json", f"names 1 picture that is not there ({'f' * 32})"),
    }


def test_what_has_no_image_and_what_cannot_be_read_is_named() -> None:
    found = read(
        "a.png",
        files={
            "b.txt": "hat", "c.png.json": '{"tags": ["hat"]}', "a.txt": b"\x00\x01\x02\x03\x04",
            "a.json": "{", "d.jsonl": "", "e.csv": "x",
        },
    )  # fmt: skip
    assert {path.name for path in found.orphans} == {"b.txt", "c.png.json", "d.jsonl", "e.csv"}
    assert {Path(problem.where).name for problem in found.problems} == {"a.txt", "a.json"}
    assert not found.cars


NAMES = st.sampled_from(
    ["a.png.txt", "a.txt", "a.json", "a.png.json", "m.jsonl", "m.csv", "m.tsv", "m.json", "l.txt"]
)
PIECES = st.sampled_from(
    [b'{"a.png": ', b'{"file_name": "a.png", "tags": ', b"[", b"]", b"}", b'"x, y"', b"a.png,",
     b"\n", b"name\ttext\n", b"\xff\xfe", b"\x00", b'"', b"tag_x tag_y", b'"\\ud800",',
     b"\r\r\n", b"a" * 200_000]
)  # fmt: skip
CONTENT = st.lists(PIECES | st.binary(max_size=8), max_size=8).map(b"".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, CONTENT, max_size=4))
def test_no_content_breaks_the_readers(files: dict[str, bytes]) -> None:
    for car in read("a.png", "b.png", files=files).cars.values():
        assert b"\x00" not in caption_of(car, TagRules()).encode()
