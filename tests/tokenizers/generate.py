"""Writes what transformers' tokenizers make of 1,000 prompts: the oracle of the tokenizers of text-to-image pipelines.

`python tests/tokenizers/generate.py` (packages: tests/pipelines/requirements.txt) writes beside itself
- NAME/: the tokenizer's own files, of each kind; clip_older/ has no tokenizer.json but vocab.json and merges.txt,
- prompts.json: the prompts,
- ids.npz: NAME/whole and NAME/offsets, the ids of prompt i being whole[offsets[i]:offsets[i + 1]], as int32;
  NAME/fixed, [1000, LENGTH], the ids padded and truncated to the length of NAME in `LENGTHS`.
"""

import io
import json
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
from tokenizers import normalizers
from transformers import CLIPTokenizer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "pipelines"))
import export  # noqa: E402
import tiny_tokenizers as tiny  # noqa: E402

LENGTHS = {"clip": 77, "clip_second": 77, "clip_older": 77, "t5": 64, "gemma": 64}
WRITINGS = [(0x21, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x400, 0x45F), (0x5D0, 0x5EA), (0x620, 0x64A), (0x900, 0x94D), (0xE01, 0xE3A),
            (0x3041, 0x30FE), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0xFF01, 0xFF5E), (0x1D400, 0x1D433), (0x20000, 0x2007F)]  # fmt: skip
EMOJI = ["🙂", "👩‍🚀", "🏳️‍🌈", "👍🏽", "🇫🇷", "❤️", "🧿", "1️⃣"]
SPACES = [" ", "  ", "\t", "\n", "\u00a0", "\u2003", "\u3000", "\u200b"]
ODD = ["", " ", "   ", "\n", "!", "!!!", "a", "</w>", "▁", "<|endoftext|>", "a <|startoftext|> b", "<pad>", "</s>", "<unk>", "<eos>", "<0x41>",
       "don't we'll I'm they've", "DON'T", "3.14159", "2026-11-26", "a\u0301 e\u0301", "\ufb01 \u2460 \u00bd", "İstanbul", "ß ẞ ǅ", "\ud7a3\u1100\u1161"]  # fmt: skip


def prompts():
    """1,000 of them: odd ones, very long ones, English, and mixtures of writings, emoji and spaces."""
    rng = random.Random(8)
    found = list(ODD)
    found += [" ".join(tiny.prompt(rng) for _ in range(60))[:2700] for _ in range(3)]  # about 500 words
    found += [" ".join(mixture(rng) for _ in range(100)) for _ in range(3)]
    while len(found) < 1000:
        found.append(rng.choice([tiny.prompt, mixture, weighted])(rng))
    return found


def mixture(rng):
    """Words of one to four writings, with emoji and uncommon spaces between them."""
    words = []
    for _ in range(rng.randint(1, 5)):
        low, high = rng.choice(WRITINGS)
        words.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6))))
        words.append(rng.choice(EMOJI) if rng.random() < 0.2 else rng.choice(SPACES) if rng.random() < 0.4 else " ")
    return "".join(words)


def weighted(rng):
    """As people write prompts: parentheses, weights, capitals, numbers, punctuation."""
    text = tiny.prompt(rng)
    forms = [
        f"(({text}:1.{rng.randint(0, 9)})), masterpiece",
        text.upper() + "!!!",
        f"{text}; f/{rng.random():.2f}, #{rng.randint(0, 9999)}",
        f'"{text}" --ar 16:9',
    ]
    return rng.choice(forms)


def charsmap():
    """Sentencepiece's table of NFKC, which T5's tokenizer.json holds."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as messages

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(tiny.corpus()), model_writer=model, vocab_size=200, minloglevel=2, normalization_rule_name="nmt_nfkc",
    )  # fmt: skip
    proto = messages.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def tokenizers():
    """Each kind, saved; the older one read again from its files."""
    found = {"clip": tiny.clip(), "clip_second": tiny.clip(pad="!"), "t5": tiny.t5(LENGTHS["t5"]), "gemma": tiny.gemma(LENGTHS["gemma"])}
    found["t5"].backend_tokenizer.normalizer = normalizers.Precompiled(charsmap())
    for name, tokenizer in found.items():
        tokenizer.save_pretrained(HERE / name)
    export.older_tokenizer(found["clip"], HERE / "clip_older")
    return found | {"clip_older": CLIPTokenizer.from_pretrained(HERE / "clip_older")}


def main():
    texts = prompts()
    (HERE / "prompts.json").write_text(json.dumps(texts, ensure_ascii=False, indent=0) + "\n")
    arrays = {}
    for name, tokenizer in tokenizers().items():
        whole = tokenizer(texts).input_ids
        arrays[f"{name}/offsets"] = np.cumsum([0] + [len(ids) for ids in whole]).astype(np.int32)
        arrays[f"{name}/whole"] = np.concatenate([np.array(ids, np.int32) for ids in whole])
        fixed = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTHS[name]).input_ids
        arrays[f"{name}/fixed"] = np.array(fixed, np.int32)
    with zipfile.ZipFile(HERE / "ids.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.save(data, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
