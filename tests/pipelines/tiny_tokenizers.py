"""Small tokenizers of the three kinds that text-to-image pipelines have, trained on generated English.

The vocabularies are small; everything else (normalisation, splitting, special tokens, padding) is the real thing. The
trainers order equal counts by chance, so that two runs do not make the same vocabulary: what is kept is kept with its ids.
"""

import functools
import json
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, GemmaTokenizer, T5Tokenizer

SIZE = 1000  # entries of a vocabulary
START, END = "<|startoftext|>", "<|endoftext|>"

ADJECTIVES = "red blue golden ancient tiny broken glowing wooden misty quiet giant snowy transparent weathered baroque".split()
NOUNS = "cat dog robot castle lighthouse astronaut teapot forest harbour violin dragon train mountain portrait street".split()
PLACES = "on the moon, in a library, under water, at sunset, by the sea, in heavy rain, on a table, above the clouds".split(", ")
STYLES = "oil painting, watercolour, 35mm photograph, pencil sketch, isometric render, ukiyo-e print, 8k, cinematic light".split(", ")


def prompt(rng):
    """One English prompt."""
    adjective, noun, place, style = (rng.choice(words) for words in (ADJECTIVES, NOUNS, PLACES, STYLES))
    return f"A {adjective} {noun} {place}, {style}"


def corpus():
    """What the vocabularies are trained on; the same at every run. Made-up words give the rare entries."""
    rng = random.Random(0)
    syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "st")]
    word = lambda: "".join(rng.choice(syllables) for _ in range(rng.randint(1, 3)))  # noqa: E731
    return [f"{prompt(rng)}, {word()} {word()}" for _ in range(3000)]


def clip(pad=END, length=77):
    """CLIP: byte-level BPE with an end-of-word suffix, lower case. `pad` is "!" in SD2's and SDXL's second tokenizer."""
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges), pad_token=pad, model_max_length=length)


@functools.cache
def clip_vocabulary():
    """As OpenAI's: bytes, bytes that end a word, one entry a merge, two special tokens.

    "!" is entry 0, and the last entry ends a text: encoders find it by the largest id.
    """
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=SIZE, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator((text.lower() for text in corpus()), trainer)
    merges = merges_of(tokenizer)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = letters + [letter + "</w>" for letter in letters]
    merged = [left + right for left, right in merges][: SIZE - 2 - len(entries)]
    entries += list(dict.fromkeys(merged)) + [START, END]
    return {entry: i for i, entry in enumerate(entries)}, merges[: len(merged)]


def t5(length=64):
    """T5: a unigram model, with the end token only; normalised by NFKC as sentencepiece's models are."""
    return T5Tokenizer(vocab=list(t5_vocabulary()), extra_ids=0, model_max_length=length)


@functools.cache
def t5_vocabulary():
    specials = ["<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=SIZE, special_tokens=specials, unk_token="<unk>", show_progress=False,
        initial_alphabet=[chr(c) for c in range(33, 127)],
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus(), trainer)
    entries = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    # The trainer's scores are its own; a score falls with the rank and rises with the length here.
    return [(e, 0.0 if e in specials else -2.0 - 0.01 * i + 0.5 * len(e)) for i, e in enumerate(entries)]


def gemma(length=300):
    """Gemma: BPE over text whose spaces are "▁", with 256 tokens for bytes that no other token covers."""
    vocabulary, merges = gemma_vocabulary()
    return GemmaTokenizer(vocab=dict(vocabulary), merges=list(merges), model_max_length=length, padding_side="right")


@functools.cache
def gemma_vocabulary():
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=SIZE - 256 - len(specials), show_progress=False)
    tokenizer.train_from_iterator((text.replace(" ", "▁") for text in corpus()), trainer)
    merges = merges_of(tokenizer)
    entries = specials + [f"<0x{byte:02X}>" for byte in range(256)]
    entries += sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    return {entry: i for i, entry in enumerate(entries)}, merges


def merges_of(tokenizer):
    """The merges of a trained BPE model, first ones first, as pairs."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in merges]
