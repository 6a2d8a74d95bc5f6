"""Makes the tokenizers in `assets/` again: `python -m migrator.verify.train.assets_build`.

Both files hold the same byte-level BPE, trained on our own corpus: a
`tokenizer.json` folder for torchtitan 0.2 on, and the base64 rank file that
the tiktoken reader of 0.1.0 wants. The vocabulary stays small, so that every
debug model (2048 entries, specials included) has room for it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from migrator.verify.train.corpus import documents

ASSETS = Path(__file__).parent / "assets"
VOCABULARY = 512
BEGIN, END = "<|begin_of_text|>", "<|end_of_text|>"


def build(folder: Path = ASSETS) -> None:
    """Writes `tokenizer/` and `tokenizer.model` into `folder`; needs the `tokenizers` package."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # No specials while training: the first 256 ids are then the bytes and the
    # rest the merges in order, which is just what a tiktoken rank is.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents(), trainer)
    ranks = {_raw_bytes(token): rank for token, rank in tokenizer.get_vocab().items()}
    tokenizer.add_special_tokens([BEGIN, END])

    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"), pretty=False)
    config = {
        "bos_token": BEGIN,
        "eos_token": END,
        "add_bos_token": True,
        "add_eos_token": True,
    }
    (folder / "tokenizer" / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2) + "\n"
    )
    with open(folder / "tokenizer.model", "w", encoding="ascii") as file:
        for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
            file.write(f"{base64.b64encode(token).decode()} {rank}\n")


def _raw_bytes(token: str) -> bytes:
    """The bytes that a token of the byte-level alphabet stands for.

    The alphabet (GPT-2's) shows printable Latin-1 bytes as themselves and
    numbers the others from U+0100 on.
    """
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    table = {chr(byte): byte for byte in shown}
    table |= {chr(0x100 + index): byte for index, byte in enumerate(hidden)}
    return bytes(table[letter] for letter in token)


if __name__ == "__main__":
    build()
