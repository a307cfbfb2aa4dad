"""Captions to token ids for both demo models, padded as FluxPipeline and HunyuanVideoPipeline pad.

Needs numpy and tokenizers only, so that processes without PyTorch can use it. What is too long is
an error, not cut: captions have a grammar, and the lengths here hold all of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLIP_TOKENS = 77
T5_TOKENS = 36  # the longest caption of a scene has 35
LLAMA_TOKENS = 16  # after the template; the longest caption of a clip has 14
FILM_CLIP_TOKENS = 16  # CLIP is causal and pooled at the end token: more padding changes nothing
TEMPLATE_TOKENS = 95  # HunyuanVideoPipeline drops the states of so many
TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following"
    " aspects: 1. The main content and theme of the video.2. The color, shape, size, texture,"
    " quantity, text, and spatial relationships of the objects.3. Actions, events, behaviors"
    " temporal relationships, physical movement changes of the objects.4. background environment,"
    " light, style and atmosphere.5. camera angles, movements, and transitions used in the"
    " video:<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)


class _Words:
    """One tokenizer of a model folder, with its padding."""

    def __init__(self, folder: Path, name: str, padding: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(Path(folder) / name / "tokenizer.json"))
        self.padding = self._tokenizer.token_to_id(padding)

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def padded(self, rows: list[list[int]], length: int) -> np.ndarray:
        """int16 [rows, length]; ValueError when a row is longer."""
        table = np.full((len(rows), length), self.padding, np.int16)
        for line, row in zip(table, rows, strict=True):
            if len(row) > length:
                raise ValueError(f"a caption takes {len(row)} tokens, {length} are trained")
            line[: len(row)] = row
        return table


class PictureTokens:
    """CLIP ids [texts, 77] and T5 ids [texts, 36] of texts, int16."""

    def __init__(self, folder: Path) -> None:
        self._clip = _Words(folder, "tokenizer", "<|endoftext|>")
        self._t5 = _Words(folder, "tokenizer_2", "<pad>")

    def __call__(self, texts: list[str]) -> tuple[np.ndarray, ...]:
        clip = self._clip.padded([self._clip.ids(t) for t in texts], CLIP_TOKENS)
        return clip, self._t5.padded([self._t5.ids(t) for t in texts], T5_TOKENS)


class FilmTokens:
    """Llama ids after the template [texts, 16], words among them [texts], CLIP ids [texts, 16]"""

    def __init__(self, folder: Path) -> None:
        self._llama = _Words(folder, "tokenizer", "<|padding|>")
        self._clip = _Words(folder, "tokenizer_2", "<|endoftext|>")
        self.template = self._llama.ids(TEMPLATE.format(""))[:TEMPLATE_TOKENS]

    def __call__(self, texts: list[str]) -> tuple[np.ndarray, ...]:
        rows = []
        for text in texts:
            ids = self._llama.ids(TEMPLATE.format(text))
            if ids[:TEMPLATE_TOKENS] != self.template:
                raise ValueError(f"the tokenizer splits the template otherwise before {text!r}")
            rows.append(ids[TEMPLATE_TOKENS:])
        lengths = np.array([len(row) for row in rows], np.int16)
        clip = self._clip.padded([self._clip.ids(t) for t in texts], FILM_CLIP_TOKENS)
        return self._llama.padded(rows, LLAMA_TOKENS), lengths, clip
