"""Initializes a network from the trained answering model: vision encoder and text encoder."""

import copy

import torch


def configuration(source, vocabulary, stop):
    """Returns the configuration of `source` for a vocabulary of `vocabulary` tokens.

    Two further embedding rows follow the vocabulary: [DEC] and [ENC].
    """
    config = copy.deepcopy(source.config)
    config.architectures = None
    text = config.text_config
    text.vocab_size, text.bos_token_id = vocabulary + 2, vocabulary
    text.eos_token_id = text.sep_token_id = stop
    return config


@torch.no_grad()
def copy_weights(source, source_entries, model, text, entries):
    """Copies the vision encoder and the text encoder of `source` into `model`.

    The text encoder already attends to images. `text` is the text network of `model`. Embeddings
    are matched by token, because ids differ. Tokens that `source` lacks retain their initial
    embedding.
    """
    model.vision_model.load_state_dict(source.vision_model.state_dict())
    weights = source.text_encoder.state_dict()
    embeddings = text.embeddings.word_embeddings.weight
    source_rows = {token: row for row, token in enumerate([*source_entries, "[DEC]", "[ENC]"])}
    name = "embeddings.word_embeddings.weight"
    for row, token in enumerate([*entries, "[DEC]", "[ENC]"]):
        if token in source_rows:
            embeddings[row] = weights[name][source_rows[token]]
    del weights[name]
    missing, unexpected = text.load_state_dict(weights, strict=False)
    if missing != [name] or unexpected:
        raise ValueError(f"text networks differ: missing {missing}, unexpected {unexpected}")
