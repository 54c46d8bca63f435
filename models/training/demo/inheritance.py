"""What a new network takes over from the trained demo: its vision tower, and text layers that read pictures."""

import copy

import torch


def configuration(demo, vocabulary, stop):
    """The demo's configuration for a vocabulary of `vocabulary` tokens; two rows follow it, [DEC] and [ENC]."""
    config = copy.deepcopy(demo.config)
    config.architectures = None
    text = config.text_config
    text.vocab_size, text.bos_token_id = vocabulary + 2, vocabulary
    text.eos_token_id = text.sep_token_id = stop
    return config


@torch.no_grad()
def take_over(demo, old_entries, model, text, entries):
    """Copies the demo's tower and text encoder, which already attends to pictures, into `model`.

    `text` is the text network of `model`. Its embeddings are found by the token, since ids differ;
    a token that the demo has no row for keeps its fresh one.
    """
    model.vision_model.load_state_dict(demo.vision_model.state_dict())
    source = demo.text_encoder.state_dict()
    words = text.embeddings.word_embeddings.weight
    old = {token: row for row, token in enumerate([*old_entries, "[DEC]", "[ENC]"])}
    name = "embeddings.word_embeddings.weight"
    for row, token in enumerate([*entries, "[DEC]", "[ENC]"]):
        if token in old:
            words[row] = source[name][old[token]]
    del source[name]
    missing, unexpected = text.load_state_dict(source, strict=False)
    if missing != [name] or unexpected:
        raise ValueError(f"text networks differ: missing {missing}, unexpected {unexpected}")
