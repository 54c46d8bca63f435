"""The answering network: configuration, losses and the question mask in training."""

import torch
from torch import nn
from torch.nn import functional
from transformers import BlipConfig, BlipForQuestionAnswering

from ..data import preprocess
from ..data.scenes import COLORS, SHAPES


def build(vocabulary, stop, width, heads, vision_layers, text_layers, side, patch):
    """Returns an untrained network.

    `vocabulary` is the size of the tokenizer. Two further rows follow it: [DEC] and [ENC].
    """
    config = BlipConfig(
        text_config=dict(
            vocab_size=vocabulary + 2,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=text_layers,
            num_attention_heads=heads,
            max_position_embeddings=128,
            projection_dim=width,
            initializer_range=0.04,
            bos_token_id=vocabulary,
            eos_token_id=stop,
            sep_token_id=stop,
            pad_token_id=0,
        ),
        vision_config=dict(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=vision_layers,
            num_attention_heads=heads,
            image_size=side,
            patch_size=patch,
            projection_dim=width,
            # With the default of the library, 1e-10, the vision encoder hardly learns.
            initializer_range=0.04,
        ),
    )
    model = BlipForQuestionAnswering(config)
    with torch.no_grad():
        nn.init.normal_(model.vision_model.embeddings.position_embedding, std=0.04)
        nn.init.normal_(model.vision_model.embeddings.class_embedding, std=0.04)
    apply_question_mask(model)
    return model


def apply_question_mask(model):
    """Makes cross-attention apply the question mask.

    transformers 4.54 and later pass the mask under another name and then drop it, so that answers
    depend on padding. With this hook, a question in a padded batch is treated as if it were alone.
    `max_padding_difference` checks this.
    """

    def rename(_module, arguments, keywords):
        keywords["encoder_attention_mask"] = keywords.get("attention_mask")
        return arguments, keywords

    for tower in (model.text_encoder, model.text_decoder.bert):
        for layer in tower.encoder.layer:
            layer.crossattention.self.register_forward_pre_hook(rename, with_kwargs=True)


class PatchClassifier(nn.Module):
    """An auxiliary head that classifies the shape, colour and centre of every patch.

    The vision encoder is trained with it first. Without it, the network does not learn shapes.
    """

    def __init__(self, width):
        super().__init__()
        self.sizes = (len(SHAPES) + 1, len(COLORS) + 1, 2)
        self.head = nn.Linear(width, sum(self.sizes))

    def loss(self, image_embeds, labels):
        """Returns the mean of three losses.

        image_embeds has the shape [n, patches + 1, width], labels [n, 3, patches].
        """
        parts = self.head(image_embeds[:, 1:]).split(self.sizes, -1)
        return sum(
            functional.cross_entropy(part.flatten(0, 1), labels[:, i].long().flatten())
            for i, part in enumerate(parts)
        ) / len(parts)

    @torch.no_grad()
    def accuracy(self, image_embeds, labels):
        """Returns the fraction of non-background patches with correct shape and colour."""
        parts = self.head(image_embeds[:, 1:]).split(self.sizes, -1)
        right = (parts[0].argmax(-1) == labels[:, 0]) & (parts[1].argmax(-1) == labels[:, 1])
        return right[labels[:, 0] > 0].float().mean().item()


def answer_logits(model, image_embeds, questions, answers):
    """Returns teacher-forced logits [rows, answer tokens - 1, vocabulary] for padded texts."""
    mask = (questions != 0).long()
    states = model.text_encoder(
        input_ids=questions, attention_mask=mask, encoder_hidden_states=image_embeds
    ).last_hidden_state
    return model.text_decoder(
        input_ids=answers[:, :-1], encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
    ).logits


def answer_loss(model, image_embeds, questions, answers):
    """Returns the mean cross-entropy of the answers.

    image_embeds has the shape [n, tokens, width], questions [n, q, L], answers [n, q, A].
    """
    questions, answers = questions.flatten(0, 1).long(), answers.flatten(0, 1).long()
    # Columns that are padding in every row do not change the result.
    questions = questions[:, : int((questions != 0).sum(1).max())]
    answers = answers[:, : int((answers != 0).sum(1).max())]
    per_image = len(questions) // len(image_embeds)
    logits = answer_logits(model, image_embeds.repeat_interleave(per_image, 0), questions, answers)
    return functional.cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten(), ignore_index=0)


@torch.no_grad()
def max_padding_difference(model, bank, rows=8):
    """Returns the largest difference of any logit between a padded batch and single questions."""
    embeds = model.vision_model(preprocess.normalize(bank.pixels[:rows])).last_hidden_state
    questions, answers = bank.questions[:rows, 0].long(), bank.answers[:rows, 0].long()
    batched = answer_logits(model, embeds, questions, answers)
    worst = 0.0
    for i in range(len(embeds)):
        tokens = int((questions[i] != 0).sum())
        single = answer_logits(model, embeds[i : i + 1], questions[i : i + 1, :tokens], answers[i : i + 1])
        real = int((answers[i] != 0).sum()) - 1
        worst = max(worst, float((single[0, :real] - batched[i, :real]).abs().max()))
    return worst
