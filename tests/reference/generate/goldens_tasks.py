"""Writes the golden files of captioning and of image-text matching.

Each folder holds a small random checkpoint and what `transformers` computes from it for two images,
one text at a time. The tasks differ in their table of cases and in what they record.

captioning: crates/blip/tests/captions/NAME/

    expected.json          prompts, their ids, the generated ids, the whole text, its score
    expected.safetensors   imageN.pixels        [size, size, 3]       u8, at the model's size
                           imageN.image_embeds  [patches + 1, width]  f32
                           caseN.step_logits    [steps, vocabulary]   f32

matching: crates/blip/tests/retrieval/NAME/

    expected.json          texts, their ids, logits of the matching head and cosine, by the
                           conventions of `transformers` and of the original repository
    expected.safetensors   imageN.pixels     [size, size, 3]  u8, at the model's size
                           imageN.embedding  [projection]     f32
                           caseN.embedding   [projection]     f32

    python tests/reference/generate/goldens_tasks.py --task caption
    python tests/reference/generate/goldens_tasks.py --task match
"""

import argparse
import random
import shutil

import numpy
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import BlipConfig, BlipForConditionalGeneration, BlipForImageTextRetrieval
from transformers import BlipImageProcessorPil

from golden_cases import CAPTION_CASES, RETRIEVAL_CASES
from golden_checkpoint import (
    BLIP_TESTS,
    random_images,
    random_question,
    scaled,
    smallest_margin,
    write_checkpoint,
    write_json,
)


def caption(model, pixel_values, input_ids):
    """Returns image embeddings, prompt ids, generated ids, logits by step, and the margin."""
    prompt = input_ids.clone()  # `generate` modifies its input
    generated = model.generate(
        pixel_values=pixel_values, input_ids=prompt, return_dict_in_generate=True, output_logits=True
    )
    logits, ids = torch.cat(generated.logits), generated.sequences[0]
    prompt_tokens = input_ids.shape[1] - 1
    # A second computation: the whole sequence at once, without a cache.
    image_embeds = model.vision_model(pixel_values).last_hidden_state
    whole = model.text_decoder(
        ids[None, :-1], encoder_hidden_states=image_embeds, is_decoder=True, use_cache=False
    )
    whole = whole.logits[0, prompt_tokens - 1 :]
    torch.testing.assert_close(whole, logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(whole.argmax(-1), ids[prompt_tokens:]), "greedy steps do not reproduce generate()"
    return image_embeds[0], ids[:prompt_tokens], ids[prompt_tokens:], logits, smallest_margin(whole)


def match(model, pixel_values, input_ids, first_token=None):
    """Returns the logits of the matching head and the cosine.

    `first_token` replaces [CLS] in the input of the matching head.
    """
    matched = input_ids.clone()
    if first_token is not None:
        matched[:, 0] = first_token
    logits = model(input_ids=matched, pixel_values=pixel_values, use_itm_head=True).itm_score[0]
    cosine = model(input_ids=input_ids, pixel_values=pixel_values, use_itm_head=False).itm_score
    return logits.tolist(), float(cosine)


def embeddings(model, pixel_values, input_ids):
    """Returns the normalized image and text embeddings. Their product is the cosine."""
    image = model.vision_model(pixel_values).last_hidden_state[:, 0]
    text = model.text_encoder(input_ids).last_hidden_state[:, 0]
    return normalize(model.vision_proj(image), dim=-1)[0], normalize(model.text_proj(text), dim=-1)[0]


class CaptionRecorder:
    """Records what a captioning model generates."""

    def __init__(self, folder, tokenizer):
        self.model = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = tokenizer

    def record(self, image, text, pixel_values, input_ids):
        """Returns (case, tensors of the image, tensors of the case)."""
        image_embeds, prompt, generated, logits, margin = caption(self.model, pixel_values, input_ids)
        known = [int(t) for t in [*prompt, *generated] if t < self.tokenizer.get_vocab_size()]
        case = {
            "image": image,
            "prompt": text,
            "prompt_ids": prompt.tolist(),
            "written_ids": generated.tolist(),
            "text": self.tokenizer.decode(known),
            "score": float(logits.double().log_softmax(-1).gather(1, generated[:, None]).sum()),
            "smallest_margin": margin,
        }
        return case, {"image_embeds": image_embeds}, {"step_logits": logits}

    @staticmethod
    def check(cases):
        """Checks that the captions of all folders differ in length."""
        lengths = {len(case["written_ids"]) for case in cases}
        assert len(lengths) >= 4, "captions do not differ in length"


class MatchRecorder:
    """Records what a matching model computes, by both conventions.

    The original repository has an epsilon of 1e-6 in the vision encoder, and [ENC] as the first
    token where the text attends to the image.
    """

    def __init__(self, folder, _tokenizer):
        load = BlipForImageTextRetrieval.from_pretrained
        self.model = load(folder, dtype=torch.float32).eval()
        original_config = BlipConfig.from_pretrained(folder)
        original_config.vision_config.layer_norm_eps = 1e-6
        self.original = load(folder, config=original_config, dtype=torch.float32).eval()
        self.encoder_token = self.model.config.text_config.bos_token_id + 1

    def record(self, image, text, pixel_values, input_ids):
        """Returns (case, tensors of the image, tensors of the case)."""
        image_vector, text_vector = embeddings(self.model, pixel_values, input_ids)
        logits, cosine = match(self.model, pixel_values, input_ids)
        assert abs(float(image_vector @ text_vector) - cosine) < 1e-5
        original_logits, original_cosine = match(self.original, pixel_values, input_ids, self.encoder_token)
        case = {
            "image": image,
            "text": text,
            "input_ids": input_ids[0].tolist(),
            "hf": {"logits": logits, "cosine": cosine},
            "salesforce": {"logits": original_logits, "cosine": original_cosine},
        }
        return case, {"embedding": image_vector}, {"embedding": text_vector}

    @staticmethod
    def check(cases):
        """Checks that the two conventions give different logits."""
        differences = [abs(c["hf"]["logits"][1] - c["salesforce"]["logits"][1]) for c in cases]
        assert min(differences) > 1e-2, "the two conventions hardly differ"


# Task: (cases, folder of the goldens, model class, recorder).
TASKS = {
    "caption": (CAPTION_CASES, BLIP_TESTS / "captions", BlipForConditionalGeneration, CaptionRecorder),
    "match": (RETRIEVAL_CASES, BLIP_TESTS / "retrieval", BlipForImageTextRetrieval, MatchRecorder),
}


@torch.no_grad()
def write(golden, folder, model_class, recorder_class):
    """Writes the folder of one `Golden`. Returns its cases."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, words = write_checkpoint(golden, folder, model_class)
    recorder = recorder_class(folder, tokenizer)
    processor = BlipImageProcessorPil.from_pretrained(folder)
    images = list(random_images(numpy.random.default_rng(golden.seed)))
    rng = random.Random(golden.seed)
    tensors, cases = {}, []
    for i, length in enumerate(golden.lengths):
        image = i % len(images)
        text = random_question(tokenizer, words, length, rng)
        input_ids = torch.tensor([tokenizer.encode(text).ids])
        pixel_values = processor(images[image], return_tensors="pt").pixel_values
        case, of_image, of_case = recorder.record(image, text, pixel_values, input_ids)
        tensors[f"image{image}.pixels"] = scaled(images[image], golden.vision["image_size"])
        tensors |= {f"image{image}.{name}": value.contiguous() for name, value in of_image.items()}
        tensors |= {f"case{i}.{name}": value.contiguous() for name, value in of_case.items()}
        cases.append(case)
    save_file(tensors, folder / "expected.safetensors")
    write_json(folder / "expected.json", {"cases": cases})
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the order of additions is the same on every machine
    goldens, folder, model_class, recorder_class = TASKS[options.task]
    cases = []
    for golden in goldens:
        cases += write(golden, folder / golden.name, model_class, recorder_class)
        print(f"{golden.name}: {len(golden.lengths)} cases")
    recorder_class.check(cases)


if __name__ == "__main__":
    main()
