"""Writes the token ids of `transformers` for every form of tokenizer files.

The output is crates/blip/tests/tokenizers.json: the files of each tokenizer, texts with their token
ids, and lists of ids with their text.

    pip install transformers==5.17.0
    python tests/reference/generate/tokenizer_goldens.py
"""

import json
import pathlib
import tempfile

from transformers import AutoTokenizer

OUTPUT = pathlib.Path(__file__).resolve().parents[3] / "crates/blip/tests/tokenizers.json"

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = "how many dogs are on the table what cafe x ray ##s ##ray ? - < > Dogs Café 日 ##本".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
VOCAB_TXT = "".join(f"{token}\n" for token in dict.fromkeys(VOCAB))
FIRST = len(dict.fromkeys(VOCAB))
ROOM = 8
"""Word embeddings of the model after those of the vocabulary."""

TEXTS = (
    "How many Dogs are on the table?",
    "Café CAFÉ café",
    "日本 dogs日",
    "what [DEC] graffiti x-ray <skin> do [MASK] [SEP] [enc]",
    "xgraffitix GRAFFITI, x-raysx <SKIN>s",
    "",
)

# The ids of [DEC] and [ENC] follow the vocabulary, as in the released checkpoints.
NEW = ["[DEC]", "[ENC]", "<skin>", "graffiti", "x-ray"]
BY_TOKEN = {token: FIRST + index for index, token in enumerate(NEW)}
PLAIN = {"lstrip": False, "rstrip": False, "single_word": False}


def decoder(**changes):
    """Returns the key `added_tokens_decoder` of tokenizer_config.json."""
    token = {**PLAIN, "normalized": True, "special": False, **changes}
    return {str(number): {"content": name, **token} for name, number in BY_TOKEN.items()}


def tokenizer_json(normalizer=None, added=(), **changes):
    """Returns a tokenizer.json."""
    ids = {token: number for number, token in enumerate(dict.fromkeys(VOCAB))}
    special = [
        {"id": ids[token], "content": token, **PLAIN, "normalized": False, "special": True}
        for token in SPECIAL
    ]
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    single.append({"SpecialToken": {"id": "[SEP]", "type_id": 0}})
    bert = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [*special, *added],
            "normalizer": {"type": "BertNormalizer", **bert, **(normalizer or {})},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": single,
                "special_tokens": {
                    token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in SPECIAL[2:4]
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": ids,
            },
            **changes,
        }
    )


ADDED_IN_JSON = [
    {"id": number, "content": token, **PLAIN, "normalized": True, "special": False}
    for token, number in BY_TOKEN.items()
]


def vocab(config=None, **files):
    """Returns a folder with vocab.txt."""
    return folder({"vocab.txt": VOCAB_TXT}, config, files)


def fast(config=None, normalizer=None, added=(), changes=None, **files):
    """Returns a folder with tokenizer.json."""
    return folder({"tokenizer.json": tokenizer_json(normalizer, added, **(changes or {}))}, config, files)


def folder(files, config, more):
    """Returns the files of a folder by name."""
    if config is not None:
        files["tokenizer_config.json"] = json.dumps(config)
    files.update({f"{name}.json": json.dumps(content) for name, content in more.items()})
    return files


BERT = {"tokenizer_class": "BertTokenizer"}
CASES = {
    "vocab": vocab(),
    "vocab_cased": vocab({"do_lower_case": False}),
    "vocab_cased_without_accents": vocab({"do_lower_case": False, "strip_accents": True}),
    "vocab_with_accents": vocab({**BERT, "do_lower_case": True, "strip_accents": False}),
    "vocab_chinese_words": vocab({**BERT, "tokenize_chinese_chars": False}),
    "vocab_fast_class": vocab({"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}),
    "vocab_nulls": vocab({"strip_accents": None, "added_tokens_decoder": {}, "bos_token": None}),
    "json": fast(),
    "json_config_cased": fast({**BERT, "do_lower_case": False}),
    "json_config_with_accents": fast({**BERT, "strip_accents": False}),
    "json_config_chinese_words": fast({**BERT, "tokenize_chinese_chars": False}),
    "json_cased_without_config": fast(normalizer={"lowercase": False}),
    "json_cased_config_silent": fast(BERT, normalizer={"lowercase": False}),
    "json_cased_other_class": fast(
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": True}, normalizer={"lowercase": False}
    ),
    "json_other_pre_tokenizer": fast(BERT, changes={"pre_tokenizer": {"type": "WhitespaceSplit"}}),
    "json_without_post_processor": fast(BERT, changes={"post_processor": None}),
    "json_added": fast(BERT, added=ADDED_IN_JSON),
    "json_added_in_config": fast({**BERT, "added_tokens_decoder": decoder()}),
    "json_added_in_added_tokens": fast(BERT, added_tokens=BY_TOKEN),
    "vocab_added_tokens": vocab(BERT, added_tokens=BY_TOKEN),
    "vocab_added_tokens_without_config": vocab(added_tokens=BY_TOKEN),
    "vocab_added_decoder": vocab({**BERT, "added_tokens_decoder": decoder()}),
    "vocab_added_decoder_wins": vocab(
        {**BERT, "added_tokens_decoder": dict(list(decoder().items())[:2])}, added_tokens=BY_TOKEN
    ),
    "vocab_added_not_normalized": vocab({**BERT, "added_tokens_decoder": decoder(normalized=False)}),
    "vocab_added_special": vocab(
        {**BERT, "added_tokens_decoder": decoder(special=True, normalized=False)}
    ),
    "vocab_added_single_words": vocab(
        {**BERT, "added_tokens_decoder": decoder(single_word=True, lstrip=True, rstrip=True)}
    ),
    "vocab_blip": vocab(
        BERT,
        added_tokens={"[DEC]": FIRST, "[ENC]": FIRST + 1},
        special_tokens_map={
            "bos_token": "[DEC]",
            "additional_special_tokens": ["[ENC]"],
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
            "pad_token": "[PAD]",
            "sep_token": "[SEP]",
            "unk_token": "[UNK]",
        },
    ),
    "vocab_special_tokens_without_ids": vocab(
        BERT,
        special_tokens_map={
            "bos_token": {"content": "[DEC]", **PLAIN, "normalized": True},
            "additional_special_tokens": ["[ENC]"],
        },
    ),
    "vocab_special_tokens_in_config": vocab(
        {**BERT, "bos_token": "[DEC]", "extra_special_tokens": ["[ENC]"]}
    ),
    "vocab_word_as_added_token": vocab(
        {
            **BERT,
            "added_tokens_decoder": {
                str(VOCAB.index("what")): {"content": "what", **PLAIN, "special": True}
            },
        }
    ),
}


def golden(files):
    """Returns the files of a folder with the ids of its tokenizer."""
    with tempfile.TemporaryDirectory() as path:
        place = pathlib.Path(path)
        (place / "config.json").write_text(json.dumps({"model_type": "blip"}))
        for name, content in files.items():
            (place / name).write_text(content, encoding="utf-8")
        tokenizer = AutoTokenizer.from_pretrained(path)
        texts = {text: tokenizer(text)["input_ids"] for text in TEXTS}
        assert max(map(max, texts.values())) < FIRST + ROOM
        # Version 0.23 of the tokenizers library decodes [ENC] in lower case, the server's does not.
        last = len(tokenizer) - 1
        if tokenizer.convert_ids_to_tokens(last).startswith("["):
            last = VOCAB.index("many")
        ids = [VOCAB.index("how"), VOCAB.index("dogs") - 1, VOCAB.index("##s"), last, 3]
        decoded = [[ids, tokenizer.decode(ids, skip_special_tokens=True)]]
    return {"files": files, "texts": texts, "decoded": decoded}


def main():
    """Writes the file."""
    cases = {name: golden(files) for name, files in CASES.items()}
    content = {"vocab_size": FIRST + ROOM, "first_added": FIRST, "cases": cases}
    OUTPUT.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
