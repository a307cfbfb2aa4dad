"""Makes the demo model's tokenizers from the words of its captions: CLIP's BPE and T5's Unigram.

Writes OUTPUT/tokenizer and OUTPUT/tokenizer_2, each a tokenizer.json with the normaliser,
pre-tokenizer and post-processor of the real model, and its tokenizer_config.json.

T5's pieces are the words themselves: a trained Unigram splits so few words into letters. Its
normaliser is SentencePiece's nmt_nfkc, as in the published T5.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import string
from pathlib import Path

import numpy as np
import sentencepiece
from scenes import BACKGROUNDS, COLORS, MATERIALS, PATTERNS, PLACES, SHAPES, SIZES
from scenes import caption, sample_scene
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers
from tokens import CLIP_TOKENS, T5_TOKENS

START, END = "<|startoftext|>", "<|endoftext|>"
CLIP_VOCABULARY = 192
CLIP_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
CAPTIONS = 20_000


def caption_words() -> list[str]:
    """Every word that a caption may hold, sorted."""
    lists = (BACKGROUNDS, COLORS, MATERIALS, PATTERNS, PLACES, SHAPES, SIZES)
    words = {word for names in lists for name in names for word in name.split()}
    return sorted((words - {"plain"}) | {"a", "and", "at", "background", "on", "the"})


def sample_captions(seed: int) -> list[str]:
    """Captions to learn the CLIP merges from, and to check both tokenizers with."""
    rng = np.random.default_rng(seed)
    return [caption(sample_scene(rng)) for _ in range(CAPTIONS)]


def make_clip_tokenizer(captions: list[str]) -> Tokenizer:
    """Byte-level BPE with an end-of-word suffix, as CLIP's, trained on captions."""
    tokenizer = Tokenizer(
        models.BPE(unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=CLIP_VOCABULARY,
        special_tokens=[START, END],
        initial_alphabet=list(string.ascii_lowercase + ",."),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, tokenizer.token_to_id(END)),
        (START, tokenizer.token_to_id(START)),
        trim_offsets=False,
        add_prefix_space=False,
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def nmt_nfkc_map(captions: list[str]) -> bytes:
    """SentencePiece's compiled nmt_nfkc normaliser, out of a throw-away model."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(captions[:1000]),
        model_writer=written,
        vocab_size=64,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    return model.normalizer_spec.precompiled_charsmap


def make_t5_tokenizer(captions: list[str]) -> Tokenizer:
    """Unigram with one piece a word, single letters for anything else, as T5's."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁" + word, -3.0 - len(word) / 1000) for word in caption_words()]
    pieces += [(letter, -8.0) for letter in "▁,." + string.ascii_lowercase]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(nmt_nfkc_map(captions))
    metaspace = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**metaspace)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.decoder = decoders.Metaspace(**metaspace)
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


CLIP_CONFIG = {
    "bos_token": START,
    "do_lower_case": True,
    "eos_token": END,
    "model_max_length": CLIP_TOKENS,
    "pad_token": END,
    "tokenizer_class": "CLIPTokenizer",
    "unk_token": END,
}
T5_CONFIG = {
    "eos_token": "</s>",
    "extra_ids": 0,
    "legacy": False,
    "model_max_length": 512,
    "pad_token": "<pad>",
    "tokenizer_class": "T5Tokenizer",
    "unk_token": "<unk>",
}


def write(tokenizer: Tokenizer, config: dict[str, object], folder: Path) -> None:
    """Writes a tokenizer folder as transformers does."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    text = json.dumps(config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    captions = sample_captions(args.seed)
    clip, t5 = make_clip_tokenizer(captions), make_t5_tokenizer(captions)
    longest = max(len(encoded.ids) for encoded in t5.encode_batch(captions))
    unknown = [c for c in captions[:1000] if re.search("<unk>", " ".join(t5.encode(c).tokens))]
    if longest > T5_TOKENS or unknown:
        raise SystemExit(f"captions take up to {longest} tokens, {len(unknown)} are not covered")
    write(clip, CLIP_CONFIG, args.output / "tokenizer")
    write(t5, T5_CONFIG, args.output / "tokenizer_2")
    print(f"CLIP {clip.get_vocab_size()} entries, T5 {t5.get_vocab_size()}, {longest} at most")


if __name__ == "__main__":
    main()
