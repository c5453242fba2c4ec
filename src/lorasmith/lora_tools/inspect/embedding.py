"""What a file of embeddings is."""

from __future__ import annotations

from pathlib import Path

from lorasmith.core.errors import CheckpointError
from lorasmith.formats.embedding_keys import BUNDLE, ENCODERS, SINGLE
from lorasmith.formats.hashes import hash_file
from lorasmith.lora_tools.inspect.report import EmbeddingReport
from lorasmith.models.embedding_file import load_embedding, names_in
from lorasmith.models.open import read_header

_FAMILIES: dict[tuple[int, ...], str] = {
    (768,): "Stable Diffusion 1",
    (1024,): "Stable Diffusion 2",
    (768, 1280): "Stable Diffusion XL",
}


def is_embedding(path: Path) -> bool:
    """Whether a file is one of embeddings, by its header alone.

    Raises:
        CheckpointError: it cannot be read.
    """
    names = read_header(path).shapes.keys()
    of_one = {SINGLE, *ENCODERS}
    return bool(names) and all(name in of_one or name.startswith(BUNDLE) for name in names)


def inspect_embedding(path: Path) -> EmbeddingReport:
    """
    Raises:
        UserError: the file is damaged, or no embedding.
    """
    names = names_in(path)
    tensors = {name: load_embedding(path, name) for name in names.bundled or ("",)}
    widths = {key: one.shape[1] for key, one in sorted(next(iter(tensors.values())).items())}
    sizes = tuple(sorted(widths.values()))
    other = f"a model whose text encoder is {sizes[0]} wide"
    try:
        hashes, size = hash_file(path), path.stat().st_size
    except OSError as error:
        raise CheckpointError.of(path, f"cannot be read: {error.strerror}") from error
    return EmbeddingReport(
        path=path,
        size=size,
        family=_FAMILIES.get(sizes, other),
        embeddings={n or path.stem: len(next(iter(one.values()))) for n, one in tensors.items()},
        word=names.word,
        widths=widths,
        hashes=hashes,
        metadata=dict(read_header(path).metadata),
    )
