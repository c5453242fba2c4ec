"""What rules remember of pixels."""

from __future__ import annotations

from pathlib import Path

from lorasmith.advice.audit.looks import NAME, Looks


def test_what_was_seen_is_known_to_the_next(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    assert looks.get("blur", ["a", "b"]) == {}
    looks.put("blur", {"a": 0.5, "b": [1, "x"]})
    assert Looks(tmp_path).get("blur", ["a", "b", "c"]) == {"a": 0.5, "b": [1, "x"]}
    assert Looks(tmp_path).get("crops", ["a"]) == {}
    many = {str(number): number for number in range(2000)}
    looks.put("blur", many)
    assert Looks(tmp_path).get("blur", list(many)) == many


def test_where_nothing_can_be_written_it_is_known_as_long_as_the_object(tmp_path: Path) -> None:
    looks = Looks(tmp_path / "nowhere")
    looks.put("blur", {"a": 0.5})
    assert looks.get("blur", ["a"]) == {"a": 0.5}


def test_a_damaged_file_is_looked_past(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    looks.put("blur", {"a": 0.5})
    (tmp_path / ".lorasmith" / NAME).write_bytes(b"nothing")
    assert Looks(tmp_path).get("blur", ["a"]) == {}
