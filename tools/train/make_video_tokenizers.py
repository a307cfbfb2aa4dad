"""Makes the video demo's tokenizers: Llama 3's byte-level BPE with whole words, and CLIP's.

HunyuanVideoPipeline puts the prompt into a fixed template and drops the first 95 states of the
encoded text. So the template has to take 95 tokens here, too: the words of the template and of the
captions are tokens as they are (`ignore_merges`, as in Llama 3), anything else falls into bytes.

Writes OUTPUT/tokenizer and OUTPUT/tokenizer_2.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from clips import caption, sample_clip
from make_tokenizers import CAPTIONS, CLIP_CONFIG, make_clip_tokenizer, write
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokens import LLAMA_TOKENS, TEMPLATE, TEMPLATE_TOKENS

BEGIN, PADDING = "<|begin_of_text|>", "<|padding|>"
SPECIALS = (BEGIN, PADDING, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LLAMA_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA_CONFIG = {
    "bos_token": BEGIN,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|eot_id|>",
    "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 512,
    "pad_token": PADDING,
    "padding_side": "right",
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def make_llama_tokenizer(captions: list[str]) -> Tokenizer:
    """Byte-level BPE as Llama 3's, every word of the templates and captions a token."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    plain = TEMPLATE
    for special in SPECIALS:
        plain = plain.replace(special, "\n")
    texts = [plain, *captions]
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text)}
    words |= {word for word, _ in split.pre_tokenize_str("\n\n")}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + sorted(words - set(alphabet))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens(list(SPECIALS))
    begin = tokenizer.token_to_id(BEGIN)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, begin)]
            ),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    captions = [caption(sample_clip(rng)) for _ in range(CAPTIONS)]
    clip, llama = make_clip_tokenizer(captions), make_llama_tokenizer(captions)
    dropped = len(llama.encode(TEMPLATE.format("")).ids) - 1
    if dropped != TEMPLATE_TOKENS:
        raise SystemExit(f"the template takes {dropped} tokens")
    longest = max(len(llama.encode(TEMPLATE.format(text)).ids) - dropped for text in captions)
    if longest > LLAMA_TOKENS:
        raise SystemExit(f"captions take up to {longest} tokens")
    write(llama, LLAMA_CONFIG, args.output / "tokenizer")
    write(clip, CLIP_CONFIG, args.output / "tokenizer_2")
    entries = f"Llama {llama.get_vocab_size()} entries, CLIP {clip.get_vocab_size()}"
    print(f"{entries}; captions take {longest} tokens at most")


if __name__ == "__main__":
    main()
