"""Builds a BERT-style WordPiece tokenizer from any vocabulary, in the Hugging Face layout.

The tokenizer of BLIP is bert-base-uncased. Demo and test models have a smaller vocabulary and
process text in the same way: lower case, accents stripped, split at white space and punctuation,
longest piece first, `[CLS] question [SEP]`.
"""

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PUNCTUATION = "?.,'!-:;\"()"


def pieces():
    """Returns letters, digits and their `##` continuations, so that no ASCII word becomes [UNK]."""
    characters = string.ascii_lowercase + string.digits
    return list(characters) + ["##" + c for c in characters] + list(PUNCTUATION)


def vocabulary(words, special_ids=None):
    """Returns a vocabulary in id order: special tokens at their ids, then pieces, then words.

    `special_ids` maps special tokens to ids. By default these are 0 to 4. Unassigned ids become
    `[unusedN]`, as in bert-base-uncased.
    """
    special_ids = special_ids or {token: i for i, token in enumerate(SPECIALS)}
    ordinary = list(dict.fromkeys(pieces() + list(words)))
    size = max(len(ordinary) + len(special_ids), max(special_ids.values()) + 1)
    entries = [None] * size
    for token, index in special_ids.items():
        entries[index] = token
    fill = iter(ordinary)
    for index, entry in enumerate(entries):
        if entry is None:
            entries[index] = next(fill, f"[unused{index}]")
    return entries


def build(entries):
    """Returns the `tokenizers` object of a vocabulary, given as a list in id order."""
    ids = {entry: i for i, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.add_special_tokens([token for token in SPECIALS if token in ids])
    return tokenizer


def save(entries, folder, vocab_txt_only=False):
    """Writes `tokenizer_config.json` and `tokenizer.json`, or `vocab.txt` as in old checkpoints."""
    folder = Path(folder)
    if vocab_txt_only:
        (folder / "vocab.txt").write_text("".join(entry + "\n" for entry in entries))
    else:
        build(entries).save(str(folder / "tokenizer.json"))
    settings = {
        "cls_token": "[CLS]",
        "do_lower_case": True,
        "mask_token": "[MASK]",
        "model_max_length": 512,
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "tokenizer_class": "BertTokenizer",
        "unk_token": "[UNK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
