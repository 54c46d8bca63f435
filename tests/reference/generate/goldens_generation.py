"""Writes the golden files of generation and ranking.

Each is crates/blip/tests/goldens/NAME/generation.json.

They belong to the checkpoints, questions and images that `goldens.py` writes. The script writes no
weights. `transformers` computes each question alone in f32. A result is recorded only if f64 leads
to the same tokens:

    answers     beam search, and greedy search with logits processors, by BlipForQuestionAnswering
    captions    the same by BlipForConditionalGeneration, which loads the vision encoder and the
                decoder of the same checkpoint, from prompts of several lengths
    rankings    the ranking of the original repository, computed in f64, each candidate alone;
                `transformers` has no ranking

The script also writes crates/blip/tests/logits_processors.json: the results of the library's logits
processors for random numbers.

    python tests/reference/generate/goldens_generation.py
    python tests/reference/generate/goldens_generation.py --only untied_head
"""

import argparse
import json
import math
import random

import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import BlipForConditionalGeneration, BlipForQuestionAnswering, GenerationConfig
from transformers import __version__ as transformers_version
from transformers.models.blip.configuration_blip import BlipTextConfig
from transformers.models.blip.modeling_blip_text import BlipTextLMHeadModel

from golden_cases import CASES
from golden_checkpoint import GOLDENS

# Smaller differences of scores may depend on the order of additions.
MIN_SCORE_DIFFERENCE = 2e-3

SEARCHES = (
    dict(num_beams=3, max_new_tokens=9, num_sequences=1),  # the default of the original repository
    dict(num_beams=3, max_new_tokens=9, num_sequences=3),
    dict(num_beams=2, length_penalty=0.0, num_sequences=2),
    dict(num_beams=5, length_penalty=2.0, num_sequences=5),
    dict(num_beams=4, length_penalty=-1.0, num_sequences=2),
    dict(num_beams=3, min_length=6, num_sequences=2),
    dict(num_beams=3, repetition_penalty=1.3, num_sequences=3),
    dict(
        num_beams=4,
        min_length=5,
        repetition_penalty=1.3,
        length_penalty=1.5,
        max_new_tokens=12,
        num_sequences=4,
    ),
    dict(num_beams=2, max_new_tokens=1, num_sequences=2),
    dict(min_length=6),
    dict(repetition_penalty=1.3),
    dict(repetition_penalty=1.8, min_length=8, max_new_tokens=12),
)
CAPTION_SEARCHES = (
    dict(num_beams=3, max_new_tokens=9, num_sequences=3),
    dict(num_beams=3, min_length=7, repetition_penalty=1.1),
    dict(),
    dict(min_length=7, repetition_penalty=1.3),
)
PROMPT_LENGTHS = (0, 1, 4)
DEFAULTS = dict(
    num_beams=1, max_new_tokens=8, min_length=0, length_penalty=1.0, repetition_penalty=1.0, num_sequences=1
)


def search(model, inputs, prompt_tokens, options):
    """Returns the sequences of `generate`, best first, without start token, prompt and padding."""
    options = DEFAULTS | options
    count = options.pop("num_sequences")
    config = model.config.text_config
    found = model.generate(
        **inputs,
        **options,
        num_return_sequences=count,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    )
    sequences = []
    for index, ids in enumerate(found.sequences[:, 1 + prompt_tokens :].tolist()):
        if config.sep_token_id in ids:
            ids = ids[: ids.index(config.sep_token_id) + 1]
        if options["num_beams"] > 1:
            score = float(found.sequences_scores[index])
        else:
            steps = torch.stack(found.logits).double().log_softmax(-1)[:, 0]
            score = float(steps.gather(1, torch.tensor(ids)[:, None]).sum())
        sequences.append({"token_ids": ids, "score": score})
    return sequences


def agree(one, other):
    """Returns whether f32 and f64 lead to the same sequences, with clearly different scores."""
    same = [s["token_ids"] for s in one] == [s["token_ids"] for s in other]
    near = all(math.isclose(a["score"], b["score"], rel_tol=1e-4, abs_tol=1e-4) for a, b in zip(one, other))
    gaps = [a["score"] - b["score"] for a, b in zip(one, one[1:])]
    return same and near and all(gap > MIN_SCORE_DIFFERENCE for gap in gaps)


def searches(single, double, inputs_of, prompt_tokens, options_list, **context):
    """Yields one record for each of the options for which both precisions agree."""
    for options in options_list:
        found = search(single, inputs_of(torch.float32), prompt_tokens, options)
        if agree(found, search(double, inputs_of(torch.float64), prompt_tokens, options)):
            yield {**context, "options": DEFAULTS | options, "sequences": found}


def candidate_lists(config, rng):
    """Yields (candidates, shortlist).

    Many candidates share a prefix, some are equal, one is unique.
    """
    specials = {config.bos_token_id, config.sep_token_id, config.pad_token_id}
    tokens = [token for token in range(config.vocab_size) if token not in specials]
    few = rng.sample(tokens, 12)
    lists = [[rng.choice(few) for _ in range(rng.randint(1, 4))] for _ in range(40)]
    lists += [lists[3][:1], list(lists[5]), lists[7] + [few[0]]]
    yield lists, len(lists)
    yield lists, 9
    yield [[token] for token in rng.sample(tokens, 5)], 128


@torch.no_grad()
def ranking(model, question_states, candidates, shortlist):
    """Returns the original ranking in f64, or None if the shortlist is ambiguous."""
    config = model.config.text_config
    decode = lambda ids: model.text_decoder(
        torch.tensor([ids]), encoder_hidden_states=question_states, is_decoder=True, use_cache=False
    ).logits[0]
    first = decode([config.bos_token_id])[-1].log_softmax(-1)
    by_first = [float(first[tokens[0]]) for tokens in candidates]
    order = sorted(range(len(candidates)), key=lambda candidate: -by_first[candidate])
    if shortlist < len(order):
        last, next_best = (by_first[order[i]] for i in (shortlist - 1, shortlist))
        if 0 < last - next_best < MIN_SCORE_DIFFERENCE:
            return None
    chosen = order[:shortlist]
    scores = []
    for candidate in chosen:
        ids = [config.bos_token_id, *candidates[candidate], config.sep_token_id]
        losses = functional.cross_entropy(
            decode(ids[:-1]), torch.tensor(ids[1:]), label_smoothing=0.1, reduction="none"
        )
        scores.append(-float(losses.sum()))
    probabilities = torch.tensor(scores, dtype=torch.float64).softmax(-1).tolist()
    ranked = sorted(zip(scores, chosen, probabilities), key=lambda entry: (-entry[0], entry[1]))
    return [{"candidate": c, "score": s, "probability": p} for s, c, p in ranked]


@torch.no_grad()
def write(golden, folder):
    """Writes generation.json of one `Golden`."""
    tensors = load_file(folder / "expected.safetensors")
    load = lambda kind, dtype: kind.from_pretrained(folder, dtype=dtype).eval()
    single, double = (load(BlipForQuestionAnswering, dtype) for dtype in (torch.float32, torch.float64))
    captioners = [load(BlipForConditionalGeneration, dtype) for dtype in (torch.float32, torch.float64)]
    config = single.config.text_config
    rng = random.Random(golden.seed)
    answers, captions, rankings = [], [], []
    for case in range(len(golden.lengths)):
        pixels, ids = tensors[f"case{case}.pixel_values"][None], tensors[f"case{case}.input_ids"][None]
        inputs_of = lambda dtype: dict(input_ids=ids, pixel_values=pixels.to(dtype))
        answers += searches(single, double, inputs_of, 0, SEARCHES, case=case)
        states = double.vision_model(pixels.double()).last_hidden_state
        states = double.text_encoder(ids, encoder_hidden_states=states).last_hidden_state
        for candidates, shortlist in candidate_lists(config, rng):
            ranked = ranking(double, states, candidates, shortlist)
            if ranked is not None:
                rankings.append(
                    {"case": case, "candidates": candidates, "shortlist": shortlist, "ranked": ranked}
                )
    for case in range(2):  # the two images
        for length in PROMPT_LENGTHS:
            prompt = [config.bos_token_id] + [rng.randrange(5, 40) for _ in range(length)]
            pixels = tensors[f"case{case}.pixel_values"][None]
            # The reference drops the last token, which is the separator of its processor.
            inputs_of = lambda dtype: dict(
                input_ids=torch.tensor([[*prompt, config.sep_token_id]]), pixel_values=pixels.to(dtype)
            )
            captions += searches(*captioners, inputs_of, length, CAPTION_SEARCHES, case=case, prompt=prompt)
    assert len(answers) > len(golden.lengths) * len(SEARCHES) / 2, "too few unambiguous results"
    assert len(rankings) >= 2 * len(golden.lengths), "too few unambiguous results"
    path = folder / "generation.json"
    versions = {"transformers": transformers_version, "torch": torch.__version__.split("+")[0]}
    goldens = {"answers": answers, "captions": captions, "rankings": rankings}
    lines = [
        f'  "{key}": [\n    ' + ",\n    ".join(map(json.dumps, rounded(records))) + "\n  ]"
        for key, records in goldens.items()
    ]
    head = [f'  "{key}": {json.dumps(value)}' for key, value in versions.items()]
    path.write_text("{\n" + ",\n".join(head + lines) + "\n}\n")
    print(
        f"{golden.name:16} {path.stat().st_size / 1e3:7.0f} kB  {len(answers)} answers, {len(captions)} captions, "
        f"{len(rankings)} rankings"
    )


def rounded(value):
    """Returns numbers with the seven digits of f32."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


PROCESSORS = (
    dict(repetition_penalty=1.5),
    dict(repetition_penalty=0.7),
    dict(min_length=5),
    dict(min_length=4),  # the length of the sequences, so that the stop token is allowed
    dict(temperature=0.3),
    dict(top_k=3),
    dict(top_k=1),
    dict(top_k=100),
    dict(top_p=0.6),
    dict(top_p=0.01),
    dict(temperature=2.5, top_p=0.6),
    dict(top_k=4, top_p=0.9),
    dict(repetition_penalty=1.5, min_length=5, temperature=0.7, top_k=6, top_p=0.8),
)


def write_processors(path, vocabulary=13, stop=2, rows=3, length=4):
    """Writes what the library's processors compute from random logits, in the library's order."""
    text = BlipTextConfig(vocab_size=vocabulary, hidden_size=8, num_attention_heads=1, num_hidden_layers=1)
    model = BlipTextLMHeadModel(text)
    generator = torch.Generator().manual_seed(5)
    records = []
    for options in PROCESSORS:
        sequences = torch.randint(vocabulary, (rows, length), generator=generator)
        logits = 2 * torch.randn(rows, vocabulary, generator=generator)
        config = GenerationConfig(do_sample=True, eos_token_id=stop, **(dict(top_k=0) | options))
        config._eos_token_tensor = torch.tensor([stop])
        processors = model._get_logits_processor(config, input_ids_seq_length=length, device="cpu")
        processed = processors(sequences, logits.clone())
        records.append(
            {
                "options": dict(repetition_penalty=1.0, min_length=0, temperature=1.0, top_k=0, top_p=1.0)
                | options,
                "sequences": sequences.tolist(),
                "logits": logits.tolist(),
                "processed": [[None if math.isinf(x) else x for x in row] for row in processed.tolist()],
            }
        )
    lines = ",\n    ".join(json.dumps(record) for record in records)
    path.write_text(
        f'{{\n  "transformers": "{transformers_version}",\n  "stop_token": {stop},\n  "cases": [\n    {lines}\n  ]\n}}\n'
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="name of one golden folder")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the order of additions is the same on every machine
    for golden in CASES:
        if options.only in (None, golden.name):
            write(golden, GOLDENS / golden.name)
    if options.only is None:
        write_processors(GOLDENS.parent / "logits_processors.json")


if __name__ == "__main__":
    main()
