"""Has transformers take a thousand texts apart, with each tokenizer of the folders that make.py has made: expected/tokens.json.

    python tests/pipelines/tokens.py target/pipelines
"""

import json
import random
import sys
from pathlib import Path

from transformers import AutoTokenizer

WORDS = (
    "a red cat on the moon oil painting 35mm photograph don't we've it's CAT Straße naïve façade 42 3.14 1,000 "
    "x² ½ ﬁne Ωmega Привет мир 東京 こんにちは 안녕 שלום مرحبا नमस्ते 🐈 👩‍🚀 🇺🇳 ❤️ !!! ... -- (a:1.2) [b] {c} <d> #tag @me "
    "<|endoftext|> </s> e\u0301 A\u030a \u00a0 \u200b \ufeff \t \n \\ / \" ' ` ~ ^ $5 €10 50% C++ snake_case camelCase"
).split(" ")
EDGES = ["", " ", "  two  spaces ", "\n", "word " * 500, "é" * 300, "🐈" * 100, "0123456789" * 40, "'s't're've'm'll'd"]
LENGTH = 77


def texts(count=1000):
    rng = random.Random(7)
    found = list(EDGES)
    while len(found) < count:
        found.append(rng.choice([" ", " ", ", ", ""]).join(rng.choices(WORDS, k=rng.randint(1, 30))))
    return found


def tokens(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    more = dict(padding="max_length", truncation=True, max_length=LENGTH)
    return [dict(text=text, ids=tokenizer(text, **more).input_ids) for text in texts()]


for path in sorted(Path(sys.argv[1]).glob("*/expected")):
    found = {own.name: tokens(own) for own in sorted(path.parent.glob("tokenizer*"))}
    (path / "tokens.json").write_text(json.dumps(found) + "\n")
