"""The demo network: its configuration, its losses, and the mask rule in training."""

import torch
from torch import nn
from torch.nn import functional
from transformers import BlipConfig, BlipForQuestionAnswering

from .scenes import COLORS, SHAPES

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def build(vocabulary, stop, width, heads, vision_layers, text_layers, side, patch):
    """A fresh network. `vocabulary` is the tokenizer's size; two rows follow it, [DEC] and [ENC]."""
    config = BlipConfig(
        text_config=dict(
            vocab_size=vocabulary + 2, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=text_layers,
            num_attention_heads=heads, max_position_embeddings=128, projection_dim=width, initializer_range=0.04,
            bos_token_id=vocabulary, eos_token_id=stop, sep_token_id=stop, pad_token_id=0,
        ),
        vision_config=dict(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=vision_layers, num_attention_heads=heads,
            image_size=side, patch_size=patch, projection_dim=width,
            # The library's default, 1e-10, starts the tower so near zero that it hardly learns.
            initializer_range=0.04,
        ),
    )  # fmt: skip
    model = BlipForQuestionAnswering(config)
    with torch.no_grad():
        nn.init.normal_(model.vision_model.embeddings.position_embedding, std=0.04)
        nn.init.normal_(model.vision_model.embeddings.class_embedding, std=0.04)
    honour_question_mask(model)
    return model


def honour_question_mask(model):
    """Lets the cross-attention see the mask that it is given.

    transformers 4.54 and later hand the mask over under another name and then drop it, so that a
    padded question is answered with an eye on its padding. With this hook a question in a padded
    batch is treated exactly as it is when asked alone; `batched_equals_alone` checks it.
    """

    def rename(_module, arguments, keywords):
        keywords["encoder_attention_mask"] = keywords.get("attention_mask")
        return arguments, keywords

    for tower in (model.text_encoder, model.text_decoder.bert):
        for layer in tower.encoder.layer:
            layer.crossattention.self.register_forward_pre_hook(rename, with_kwargs=True)


def normalise(pixels):
    """[n, side, side, 3] u8 to [n, 3, side, side] f32, as the image processor does."""
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


class PatchReader(nn.Module):
    """What the vision tower is first taught: to name the shape and colour under every patch and
    to mark the patch where a thing has its middle. Without it the shapes stay at chance."""

    def __init__(self, width):
        super().__init__()
        self.sizes = (len(SHAPES) + 1, len(COLORS) + 1, 2)
        self.head = nn.Linear(width, sum(self.sizes))

    def loss(self, image_embeds, labels):
        """image_embeds [n, patches + 1, width], labels [n, 3, patches]; the mean of three losses."""
        parts = self.head(image_embeds[:, 1:]).split(self.sizes, -1)
        return sum(functional.cross_entropy(part.flatten(0, 1), labels[:, i].long().flatten())
                   for i, part in enumerate(parts)) / len(parts)  # fmt: skip

    @torch.no_grad()
    def accuracy(self, image_embeds, labels):
        """The share of patches whose shape and colour are both right, among those with a thing."""
        parts = self.head(image_embeds[:, 1:]).split(self.sizes, -1)
        right = (parts[0].argmax(-1) == labels[:, 0]) & (parts[1].argmax(-1) == labels[:, 1])
        return right[labels[:, 0] > 0].float().mean().item()


def answer_logits(model, image_embeds, questions, answers):
    """Teacher-forced logits [rows, answer tokens - 1, vocabulary] for padded questions and answers."""
    mask = (questions != 0).long()
    states = model.text_encoder(
        input_ids=questions, attention_mask=mask, encoder_hidden_states=image_embeds
    ).last_hidden_state
    return model.text_decoder(
        input_ids=answers[:, :-1], encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
    ).logits


def answer_loss(model, image_embeds, questions, answers):
    """image_embeds [n, tokens, width], questions [n, q, L], answers [n, q, A]: mean cross-entropy."""
    questions, answers = questions.flatten(0, 1).long(), answers.flatten(0, 1).long()
    # Columns that are padding in every row cost time and change nothing.
    questions = questions[:, : int((questions != 0).sum(1).max())]
    answers = answers[:, : int((answers != 0).sum(1).max())]
    per_image = len(questions) // len(image_embeds)
    logits = answer_logits(model, image_embeds.repeat_interleave(per_image, 0), questions, answers)
    return functional.cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten(), ignore_index=0)


@torch.no_grad()
def batched_equals_alone(model, bank, rows=8):
    """The largest difference that padding makes to any logit; next to nothing if the mask works."""
    embeds = model.vision_model(normalise(bank.pixels[:rows])).last_hidden_state
    questions, answers = bank.questions[:rows, 0].long(), bank.answers[:rows, 0].long()
    batched = answer_logits(model, embeds, questions, answers)
    worst = 0.0
    for i in range(len(embeds)):
        tokens = int((questions[i] != 0).sum())
        alone = answer_logits(model, embeds[i : i + 1], questions[i : i + 1, :tokens], answers[i : i + 1])
        real = int((answers[i] != 0).sum()) - 1
        worst = max(worst, float((alone[0, :real] - batched[i, :real]).abs().max()))
    return worst
