"""Measures the matching head and the search by cosine of a matching model."""

import collections
import random

import torch

from ..data import captions, match_texts

GROUP = 100  # images to search in


@torch.no_grad()
def probabilities(model, tokenizer, scene_set, pairs, batch=250):
    """Returns the match probability of each (image index, text) of `pairs`."""
    result = []
    for start in range(0, len(pairs), batch):
        part = pairs[start : start + batch]
        ids, mask = match_texts.batch(tokenizer, [text for _, text in part])
        images = scene_set.images([index for index, _ in part])
        logits = model(input_ids=ids, attention_mask=mask, pixel_values=images).itm_score
        result += logits.float().softmax(-1)[:, 1].tolist()
    return result


@torch.no_grad()
def cosines(model, tokenizer, scene_set, indices, texts):
    """Returns the cosines between image and text embeddings: [images, texts]."""
    ids, mask = match_texts.batch(tokenizer, texts)
    return model(
        input_ids=ids, attention_mask=mask, pixel_values=scene_set.images(indices), use_itm_head=False
    ).itm_score


def hard_pairs(scene_set, seed="hard pairs"):
    """Returns (image index, text, wrong word or None) for captions and their false variants."""
    rng = random.Random(seed)
    pairs = []
    for index, scene_kinds in enumerate(scene_set.kinds):
        right = captions.phrases(scene_kinds)
        pairs.append((index, captions.write(right), None))
        for change in captions.CHANGES:
            wrong = match_texts.falsified(right, scene_kinds, rng, change)
            if wrong is not None:
                pairs.append((index, captions.write(wrong), change))
    return pairs


def matching(model, tokenizer, scene_set):
    """Returns the accuracy of the matching head, in total and by wrong word."""
    pairs = hard_pairs(scene_set)
    result = probabilities(model, tokenizer, scene_set, [(index, text) for index, text, _ in pairs])
    by_change = collections.defaultdict(list)
    for (_, _, change), probability in zip(pairs, result, strict=True):
        by_change[change].append((probability > 0.5) == (change is None))
    accepted = by_change.pop(None)
    rejected = [right for part in by_change.values() for right in part]
    rates = {change: sum(part) / len(part) for change, part in by_change.items()}
    return {
        "texts": len(pairs),
        "right": sum(accepted) + sum(rejected),
        "accuracy": (sum(accepted) + sum(rejected)) / len(pairs),
        "captions": len(accepted),
        "captions_accepted": sum(accepted) / len(accepted),
        "one_word_wrong": len(rejected),
        "one_word_wrong_rejected": sum(rejected) / len(rejected),
        "rejected_by_wrong_word": rates,
    }


def groups(scene_set):
    """Returns lists of `GROUP` images with distinct captions."""
    result, group, group_captions = [], [], set()
    for index, scene_kinds in enumerate(scene_set.kinds):
        caption = captions.write(captions.phrases(scene_kinds))
        if caption not in group_captions:
            group_captions.add(caption)
            group.append((index, caption))
        if len(group) == GROUP:
            result.append(group)
            group, group_captions = [], set()
    return result


def search(model, tokenizer, scene_set):
    """Returns recall at 1 among `GROUP` images by cosine, in both directions, and mean cosines."""
    image_found, text_found, right_cosines, wrong_cosines = [], [], [], []
    for group in groups(scene_set):
        indices, texts = map(list, zip(*group, strict=True))
        matrix = cosines(model, tokenizer, scene_set, indices, texts)
        positions = torch.arange(len(group))
        image_found += (matrix.argmax(0) == positions).tolist()
        text_found += (matrix.argmax(1) == positions).tolist()
        right_cosines += matrix.diagonal().tolist()
        wrong_cosines += matrix[~torch.eye(len(group), dtype=torch.bool)].tolist()
    return {
        "groups": len(image_found) // GROUP,
        "images_per_group": GROUP,
        "image_for_text_recall_at_1": sum(image_found) / len(image_found),
        "text_for_image_recall_at_1": sum(text_found) / len(text_found),
        "mean_cosine_of_match": sum(right_cosines) / len(right_cosines),
        "mean_cosine_of_others": sum(wrong_cosines) / len(wrong_cosines),
    }


def take(model, tokenizer, scene_set):
    """Returns the results of `matching` and `search`."""
    return {"matching": matching(model, tokenizer, scene_set), "search": search(model, tokenizer, scene_set)}
