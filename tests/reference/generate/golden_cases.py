"""The checkpoints of the golden files: one entry for each way in which a folder can differ.

Text and vision encoders of the answering models have equal width. The reference builds the
decoder's cross-attention for the width of the vision encoder, so that it can load no other
answering model. Seeds and stop biases are chosen so that answers end at different steps and never
at a near tie.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Golden:
    """One checkpoint folder. The defaults describe the usual case."""

    name: str
    seed: int
    vision: dict
    text: dict
    stop_bias: float  # added to the logit of the stop token
    lengths: tuple = (3, 6, 11, 19, 28, 35)  # question tokens, [CLS] and [SEP] included
    gain: float = 1.5
    special_ids: dict | None = None
    omit: tuple = ()  # keys left to the class defaults: "text_config.KEY"
    generation: dict | None = None  # contents of generation_config.json; None for no file
    preprocessor: dict | None = None  # differences from the usual preprocessor_config.json
    head: str = "absent"  # decoder.{weight,bias}: absent, duplicate (both tied) or untied
    has_old_buffers: bool = False  # position_ids, as in checkpoints of 2022
    has_vocab_txt: bool = False
    is_sharded: bool = False
    is_f16: bool = False  # weights stored in f16, computed in f32
    projection: int = 256  # width of the embeddings


BERT_SPECIALS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def tower(width, heads, layers, mlp, **rest):
    return dict(
        hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=mlp, **rest
    )


CASES = (
    Golden(
        "thirty_by_six",
        11,
        tower(24, 3, 2, 56, image_size=30, patch_size=6),
        tower(24, 4, 2, 40),
        stop_bias=4.25,
    ),
    Golden(
        "fifty_by_ten",
        212,
        tower(40, 5, 2, 72, image_size=50, patch_size=10),
        tower(40, 2, 2, 60),
        stop_bias=2.75,
        generation={"max_length": 8},
        preprocessor={"image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.5, 0.2]},
    ),
    Golden(
        "class_defaults",
        713,
        tower(24, 12, 12, 32, image_size=48, patch_size=16),
        tower(24, 8, 2, 48),
        stop_bias=4.25,
        special_ids=BERT_SPECIALS,
        is_f16=True,
        omit=(
            "text_config.num_attention_heads",
            "text_config.layer_norm_eps",
            "text_config.hidden_act",
            "text_config.max_position_embeddings",
            "text_config.sep_token_id",
            "text_config.pad_token_id",
            "vision_config.num_attention_heads",
            "vision_config.num_hidden_layers",
            "vision_config.patch_size",
            "vision_config.layer_norm_eps",
            "vision_config.hidden_act",
            "preprocessor.image_mean",
            "preprocessor.image_std",
            "preprocessor.resample",
        ),
    ),
    Golden(
        "untied_head",
        314,
        tower(32, 4, 2, 64, image_size=32, patch_size=8),
        tower(32, 2, 2, 64),
        stop_bias=3.5,
        head="untied",
        generation={"max_new_tokens": 5},
    ),
    Golden(
        "duplicate_head",
        515,
        tower(32, 2, 1, 48, image_size=28, patch_size=7),
        tower(32, 8, 3, 80),
        stop_bias=4.25,
        head="duplicate",
        has_old_buffers=True,
        special_ids=BERT_SPECIALS,
    ),
    Golden(
        "sharded",
        16,
        tower(36, 6, 2, 60, image_size=36, patch_size=12),
        tower(36, 3, 2, 84),
        stop_bias=3.5,
        is_sharded=True,
        generation={"max_length": 4, "max_new_tokens": 12},
    ),
    Golden(
        "vocab_txt",
        217,
        tower(24, 1, 2, 48, image_size=24, patch_size=4, layer_norm_eps=1e-3),
        tower(24, 6, 1, 96, layer_norm_eps=1e-4),
        stop_bias=2.75,
        has_vocab_txt=True,
    ),
    Golden(
        "long_question",
        18,
        tower(24, 2, 1, 32, image_size=24, patch_size=8),
        tower(24, 3, 2, 48, max_position_embeddings=200),
        stop_bias=4.25,
        lengths=(3, 64, 131, 200),
    ),
)

# Captioning: the vision encoder is wider or narrower than the text decoder. `lengths` are those of
# the prompts, [CLS] and [SEP] included, so that 2 means no prompt.
CAPTION_CASES = (
    Golden(
        "wide_vision",
        121,
        tower(40, 5, 2, 72, image_size=30, patch_size=6),
        tower(24, 4, 2, 40),
        stop_bias=3.0,
        lengths=(2, 2, 3, 5, 9, 16),
    ),
    Golden(
        "narrow_vision",
        122,
        tower(24, 3, 2, 48, image_size=32, patch_size=8),
        tower(36, 6, 2, 60),
        stop_bias=3.0,
        lengths=(2, 2, 4, 4, 12, 7),
        head="untied",
        special_ids=BERT_SPECIALS,
    ),
)

# Image-text matching.
RETRIEVAL_CASES = (
    Golden(
        "wide_vision",
        31,
        tower(40, 5, 2, 72, image_size=30, patch_size=6),
        tower(24, 4, 2, 40),
        stop_bias=0.0,
        lengths=(3, 6, 6, 19, 28, 35),
        projection=16,
    ),
    Golden(
        "narrow_vision",
        32,
        tower(24, 3, 2, 48, image_size=32, patch_size=8),
        tower(32, 8, 2, 60),
        stop_bias=0.0,
        lengths=(2, 4, 9, 35),
        projection=20,
    ),
)

# A checkpoint with nearly constant patches, so that the epsilon of the norms has a large effect.
LOW_VARIANCE = Golden(
    "quiet", 141, tower(24, 4, 1, 40, image_size=24, patch_size=8), tower(24, 4, 1, 40), stop_bias=5.0
)
