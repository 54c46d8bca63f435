"""The model of the peers that do not run `transformers`: two parts for export and compilation.

`Images` computes the keys and values of images that the text encoder reads. `Questions` computes
the answers from them. So a peer can store what it knows about an image, and computes it once for
several questions. Three greedy steps are unrolled, without masks and padding. Both parts give the
answers of `transformers` when no answer ends earlier.
"""

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from sizes import ANSWER_TOKENS, HEADS, LAYERS, START_TOKEN


def linear(weights, *names):
    """Returns one layer that computes the layers with these names from the same input."""
    weight = torch.cat([weights[f"{name}.weight"] for name in names])
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight)
    layer.bias = nn.Parameter(torch.cat([weights[f"{name}.bias"] for name in names]))
    return layer


def norm(weights, name, epsilon):
    layer = nn.LayerNorm(weights[f"{name}.weight"].shape, eps=epsilon)
    layer.weight = nn.Parameter(weights[f"{name}.weight"])
    layer.bias = nn.Parameter(weights[f"{name}.bias"])
    return layer


def split_heads(states):
    """Returns `[batch, tokens, width]` as `[batch, heads, tokens, width / heads]`."""
    batch, tokens, width = states.shape
    return states.view(batch, tokens, HEADS, width // HEADS).transpose(1, 2)


def attend(queries, keys, values):
    """Returns the attention of `[batch, heads, tokens, size]` as `[batch, tokens, width]`."""
    states = functional.scaled_dot_product_attention(queries, keys, values)
    return states.transpose(1, 2).flatten(2)


class VisionLayer(nn.Module):
    def __init__(self, weights, name):
        super().__init__()
        self.norm1 = norm(weights, f"{name}.layer_norm1", 1e-5)
        self.qkv = linear(weights, f"{name}.self_attn.qkv")
        self.projection = linear(weights, f"{name}.self_attn.projection")
        self.norm2 = norm(weights, f"{name}.layer_norm2", 1e-5)
        self.up = linear(weights, f"{name}.mlp.fc1")
        self.down = linear(weights, f"{name}.mlp.fc2")

    def forward(self, states):
        parts = self.qkv(self.norm1(states)).chunk(3, dim=-1)
        states = states + self.projection(attend(*map(split_heads, parts)))
        return states + self.down(functional.gelu(self.up(self.norm2(states))))


class Images(nn.Module):
    """Pixels `[images, 3, 384, 384]` to keys and values, each `[images, heads, 577, 64]`."""

    def __init__(self, weights):
        super().__init__()
        name = "vision_model.embeddings"
        patch = weights[f"{name}.patch_embedding.weight"]
        self.patch = nn.Conv2d(3, patch.shape[0], patch.shape[-1], patch.shape[-1])
        self.patch.weight = nn.Parameter(patch)
        self.patch.bias = nn.Parameter(weights[f"{name}.patch_embedding.bias"])
        self.first = nn.Parameter(weights[f"{name}.class_embedding"])
        self.positions = nn.Parameter(weights[f"{name}.position_embedding"])
        layers = [VisionLayer(weights, f"vision_model.encoder.layers.{at}") for at in range(LAYERS)]
        self.layers = nn.ModuleList(layers)
        self.norm = norm(weights, "vision_model.post_layernorm", 1e-5)
        texts = [f"text_encoder.encoder.layer.{at}.crossattention.self" for at in range(LAYERS)]
        names = [f"{text}.{part}" for text in texts for part in ("key", "value")]
        self.keys_values = nn.ModuleList([linear(weights, name) for name in names])

    def forward(self, pixels):
        patches = self.patch(pixels).flatten(2).transpose(1, 2)
        first = self.first.expand(pixels.shape[0], -1, -1)
        states = torch.cat([first, patches], 1) + self.positions
        for layer in self.layers:
            states = layer(states)
        states = self.norm(states)
        return tuple(split_heads(layer(states)).contiguous() for layer in self.keys_values)


class TextLayer(nn.Module):
    """A layer of the text encoder or decoder."""

    def __init__(self, weights, name):
        super().__init__()
        text, image = f"{name}.attention", f"{name}.crossattention"
        self.qkv = linear(weights, *(f"{text}.self.{part}" for part in ("query", "key", "value")))
        self.self_output = linear(weights, f"{text}.output.dense")
        self.self_norm = norm(weights, f"{text}.output.LayerNorm", 1e-12)
        self.query = linear(weights, f"{image}.self.query")
        self.cross_output = linear(weights, f"{image}.output.dense")
        self.cross_norm = norm(weights, f"{image}.output.LayerNorm", 1e-12)
        self.up = linear(weights, f"{name}.intermediate.dense")
        self.down = linear(weights, f"{name}.output.dense")
        self.norm = norm(weights, f"{name}.output.LayerNorm", 1e-12)

    def forward(self, states, keys, values, past=None):
        """Returns the states `[rows, tokens, width]`, and the keys and values for the next step.

        `keys` and `values` are what the rows read. When they have fewer rows than the states, as
        many rows that follow each other read the same.
        """
        parts = [split_heads(part) for part in self.qkv(states).chunk(3, dim=-1)]
        if past is not None:
            parts[1:] = [torch.cat(pair, 2) for pair in zip(past, parts[1:])]
        states = self.self_norm(states + self.self_output(attend(*parts)))
        rows, tokens, width = states.shape
        queries = split_heads(self.query(states).reshape(keys.shape[0], -1, width))
        read = attend(queries, keys, values).reshape(rows, tokens, width)
        states = self.cross_norm(states + self.cross_output(read))
        return self.norm(states + self.down(functional.gelu(self.up(states)))), parts[1:]


class Embeddings(nn.Module):
    def __init__(self, weights, name):
        super().__init__()
        self.words = nn.Parameter(weights[f"{name}.word_embeddings.weight"])
        self.positions = nn.Parameter(weights[f"{name}.position_embeddings.weight"])
        self.norm = norm(weights, f"{name}.LayerNorm", 1e-12)

    def forward(self, token_ids, first):
        """Returns the states of token ids `[rows, tokens]` that begin at position `first`."""
        words = functional.embedding(token_ids, self.words)
        return self.norm(words + self.positions[first : first + token_ids.shape[1]])


class Questions(nn.Module):
    """Token ids `[images, questions, tokens]`, keys and values to `[images, questions, 3]`."""

    def __init__(self, weights):
        super().__init__()
        decoder, head = "text_decoder.bert", "text_decoder.cls.predictions"
        self.embed_question = Embeddings(weights, "text_encoder.embeddings")
        layers = [TextLayer(weights, f"text_encoder.encoder.layer.{at}") for at in range(LAYERS)]
        self.encoder = nn.ModuleList(layers)
        self.embed_answer = Embeddings(weights, f"{decoder}.embeddings")
        names = [f"{decoder}.encoder.layer.{at}" for at in range(LAYERS)]
        self.decoder = nn.ModuleList([TextLayer(weights, name) for name in names])
        pairs = [[f"{name}.crossattention.self.{part}" for part in ("key", "value")] for name in names]
        self.keys_values = nn.ModuleList([linear(weights, *pair) for pair in pairs])
        self.transform = linear(weights, f"{head}.transform.dense")
        self.transform_norm = norm(weights, f"{head}.transform.LayerNorm", 1e-12)
        self.head = nn.Linear(*self.embed_answer.words.shape[::-1])
        self.head.weight = self.embed_answer.words
        self.head.bias = nn.Parameter(weights[f"{head}.bias"])

    def forward(self, token_ids, *keys_values):
        images, questions, tokens = token_ids.shape
        states = self.embed_question(token_ids.view(images * questions, tokens), 0)
        for at, layer in enumerate(self.encoder):
            states, _ = layer(states, *keys_values[2 * at : 2 * at + 2])
        pairs = [layer(states).chunk(2, dim=-1) for layer in self.keys_values]
        question = [[split_heads(part) for part in pair] for pair in pairs]
        answer, past = [], [None] * LAYERS
        last = torch.full_like(token_ids.view(images * questions, tokens)[:, :1], START_TOKEN)
        for step in range(ANSWER_TOKENS):
            states = self.embed_answer(last, step)
            for at, layer in enumerate(self.decoder):
                states, past[at] = layer(states, *question[at], past[at])
            logits = self.head(self.transform_norm(functional.gelu(self.transform(states))))
            last = logits.argmax(-1)
            answer.append(last)
        return torch.cat(answer, 1).view(images, questions, ANSWER_TOKENS)


def load_parts(folder):
    """Returns both parts with the weights of a checkpoint folder, in f32."""
    weights = load_file(folder / "model/model.safetensors")
    with torch.no_grad():
        return Images(weights).eval(), Questions(weights).eval()


def examples():
    """Returns an input of each part, to trace them with."""
    pixels = torch.zeros(2, 3, 384, 384)
    keys_values = [torch.zeros(2, HEADS, 577, 64) for _ in range(2 * LAYERS)]
    return (pixels,), (torch.full((2, 3, 12), 100), *keys_values)
