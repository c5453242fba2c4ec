"""What is counted of prompts, files and folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lorasmith.core.errors import DatasetError, PromptError
from lorasmith.curation.token_counts import TokenCounts, tokenize, tokenize_texts
from lorasmith.models.tokenizer import count_tokens, token_ids

# A token each: 240 in all, with the commas.
LONG = ", ".join(["cat"] * 120)


def test_parts_are_the_text_and_are_cut_where_training_cuts() -> None:
    text = tokenize(LONG)
    assert text.tokens == count_tokens(LONG) == 239
    assert [(begin, end) for begin, end, _ in text.rows()] == [
        (1, 75),
        (76, 150),
        (151, 225),
        (226, 239),
    ]
    kept = [part for _, _, part in text.rows()]
    assert [count_tokens(part) for part in kept] == [75, 75, 75, 14]
    # What is kept of a caption of 75 tokens are its first 75 ids.
    assert token_ids(kept[0]) == token_ids(LONG)[:75]
    assert text.to_json()["cut_off"]["225"] == kept[3]
    assert text.text == LONG


def test_a_word_may_be_cut_within() -> None:
    text = tokenize("red zorp")
    assert text.split_words == {"zorp": ("zor", "p")}
    assert (text.part(0, 2), text.part(2, 3)) == ("red zor", "p")


def test_weights_and_loras_of_a_prompt_take_no_tokens() -> None:
    (prompt,) = tokenize_texts(["zorp, (red hat:1.2) <lora:zorp:0.8>"]).texts
    assert prompt.tokens == count_tokens("zorp, red hat")
    (literal,) = tokenize_texts(["zorp, (red hat:1.2) <lora:zorp:0.8>"], literal=True).texts
    assert literal.tokens == count_tokens("zorp, (red hat:1.2) <lora:zorp:0.8>")


def test_an_embedding_takes_a_token_for_each_vector(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, count in (("runs", 3), ("others", 70)):
        (tmp_path / folder).mkdir()
        write_safetensors(tmp_path / folder / "my-zorp.safetensors", "emb_params", count)
    prompt = "red hat, (my-Zorp:1.2) in a subzorp, my zorp <lora:my-zorp:1>"
    (text,) = tokenize_texts([prompt]).texts
    words = count_tokens("red hat, my-zorp in a subzorp, my zorp") - count_tokens("my-zorp")
    assert (text.tokens, text.embeddings) == (words + 3, {"my-zorp": 3})
    assert text.text == "red hat, my-zorp in a subzorp, my zorp"
    assert "my-zorp" not in text.split_words
    (text,) = tokenize_texts([prompt], embedding_dir=tmp_path / "others").texts
    assert [(begin, end) for begin, end, _ in text.rows()] == [(1, 75), (76, words + 70)]
    # Captions know none, and prompts to the letter are read as those.
    (literal,) = tokenize_texts(["a my-zorp"], literal=True).texts
    assert literal.tokens == count_tokens("a my-zorp")
    with pytest.raises(DatasetError, match="is no folder"):
        tokenize_texts([prompt], embedding_dir=tmp_path / "gone")


def test_a_name_may_begin_within_a_word(tmp_path: Path) -> None:
    # "zorp" is "zor" and "p": the web UI looks at tokens, not at words.
    write_safetensors(tmp_path / "p.safetensors", "emb_params", 4)
    (text,) = tokenize_texts(["red zorp"], embedding_dir=tmp_path).texts
    assert [word.text for word in text.words] == ["red", "zor", "p"]
    assert (text.tokens, text.text) == (6, "red zorp")


def write_safetensors(path: Path, name: str, count: int) -> None:
    data = bytes(count * 8 * 4)
    tensors = {name: {"dtype": "F32", "shape": [count, 8], "data_offsets": [0, len(data)]}}
    header = json.dumps(tensors).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def test_prompts_that_change_or_are_joined() -> None:
    report = tokenize_texts(["[cat:a very big dog:10]", "a cat AND a dog"])
    assert [text.tokens for text in report.texts] == [4, 2, 2]
    with pytest.raises(PromptError):
        tokenize_texts(["<lora:a:x>"])


def test_files_folders_and_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.txt").write_text("zorp, hat")
    (tmp_path / "b.txt").write_text("")
    table = tmp_path / "more"
    table.mkdir()
    Image.new("RGB", (32, 32)).save(table / "c.png")
    (table / "metadata.jsonl").write_text(json.dumps({"file_name": "c.png", "text": "a cat"}))
    report = tokenize_texts([str(tmp_path)])
    assert [(text.source, text.tokens) for text in report.texts] == [
        (str(tmp_path / "a.txt"), 4),
        (str(table / "c.png"), 2),
    ]
    assert report.empty == (tmp_path / "b.txt",)
    assert tokenize_texts([str(tmp_path / "a.png")]).texts[0].tokens == 4
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\n\na big dog")
    lines = tokenize_texts([str(prompts)]).texts
    assert [(text.source, text.tokens) for text in lines] == [
        (f"{prompts}:1", 2),
        (f"{prompts}:3", 3),
    ]


def test_a_folder_of_captions_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.caption").write_text("a cat")
    assert tokenize_texts([str(tmp_path)]).texts[0].tokens == 2


def test_what_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "metadata.jsonl").write_text("{}")
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02\x03\x05")
    wrong = [tmp_path / name for name in ("empty", "metadata.jsonl", "a.txt", "b.txt")]
    with pytest.raises(DatasetError) as error:
        tokenize_texts(list(map(str, wrong)))
    assert [problem.where for problem in error.value.problems] == list(map(str, wrong))


def test_no_captions_no_counts() -> None:
    assert TokenCounts.of([]) is None
    assert str(TokenCounts.of([3, 80])) == (
        "3 to 80 a caption, median 41.5; 1 over 75, 0 over 150, 0 over 225"
    )
