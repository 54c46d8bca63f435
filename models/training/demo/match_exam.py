"""Asks a matcher whether texts hold of pictures, and searches pictures by text, by the library's own `forward`."""

import collections
import random

import torch

from . import captions, match_texts

GROUP = 100  # pictures to search among


@torch.no_grad()
def probabilities(model, encoder, gallery, asked, batch=250):
    """How likely each (picture's index, text) of `asked` matches, by the matching head."""
    told = []
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        ids, mask = match_texts.batch(encoder, [text for _, text in part])
        images = gallery.images([index for index, _ in part])
        logits = model(input_ids=ids, attention_mask=mask, pixel_values=images).itm_score
        told += logits.float().softmax(-1)[:, 1].tolist()
    return told


@torch.no_grad()
def cosines(model, encoder, gallery, indices, texts):
    """[pictures, texts] of the cosines between their embeddings."""
    ids, mask = match_texts.batch(encoder, texts)
    return model(
        input_ids=ids, attention_mask=mask, pixel_values=gallery.images(indices), use_itm_head=False
    ).itm_score


def hard_pairs(gallery, seed="hard pairs"):
    """(picture's index, text, what is wrong with it): each caption, and false by colour, shape and number."""
    rng = random.Random(seed)
    made = []
    for index, found in enumerate(gallery.kinds):
        some = captions.phrases(found)
        made.append((index, captions.write(some), None))
        for change in captions.CHANGES:
            wrong = match_texts.falsified(some, found, rng, change)
            if wrong is not None:
                made.append((index, captions.write(wrong), change))
    return made


def matching(model, encoder, gallery):
    """The share of texts that the matching head judges rightly, of all and by what is wrong with them."""
    asked = hard_pairs(gallery)
    told = probabilities(model, encoder, gallery, [(index, text) for index, text, _ in asked])
    by_change = collections.defaultdict(list)
    for (_, _, change), probability in zip(asked, told, strict=True):
        by_change[change].append((probability > 0.5) == (change is None))
    accepted = by_change.pop(None)
    rejected = [right for part in by_change.values() for right in part]
    share = {change: sum(part) / len(part) for change, part in by_change.items()}
    return {
        "texts": len(asked),
        "right": sum(accepted) + sum(rejected),
        "accuracy": (sum(accepted) + sum(rejected)) / len(asked),
        "captions": len(accepted),
        "captions_accepted": sum(accepted) / len(accepted),
        "one_word_wrong": len(rejected),
        "one_word_wrong_rejected": sum(rejected) / len(rejected),
        "rejected_by_wrong_word": share,
    }


def groups(gallery):
    """Lists of `GROUP` pictures, no two of a list with the same caption."""
    made, group, seen = [], [], set()
    for index, found in enumerate(gallery.kinds):
        caption = captions.write(captions.phrases(found))
        if caption not in seen:
            seen.add(caption)
            group.append((index, caption))
        if len(group) == GROUP:
            made.append(group)
            group, seen = [], set()
    return made


def search(model, encoder, gallery):
    """Recall at 1 among `GROUP` pictures by the cosine alone, both ways, and how far apart cosines lie."""
    found, described, right_cosine, wrong_cosine = [], [], [], []
    for group in groups(gallery):
        indices, texts = map(list, zip(*group, strict=True))
        matrix = cosines(model, encoder, gallery, indices, texts)
        own = torch.arange(len(group))
        found += (matrix.argmax(0) == own).tolist()
        described += (matrix.argmax(1) == own).tolist()
        right_cosine += matrix.diagonal().tolist()
        wrong_cosine += matrix[~torch.eye(len(group), dtype=torch.bool)].tolist()
    return {
        "groups": len(found) // GROUP,
        "pictures_a_group": GROUP,
        "picture_for_text_recall_at_1": sum(found) / len(found),
        "text_for_picture_recall_at_1": sum(described) / len(described),
        "mean_cosine_of_match": sum(right_cosine) / len(right_cosine),
        "mean_cosine_of_others": sum(wrong_cosine) / len(wrong_cosine),
    }


def take(model, encoder, gallery):
    return {"matching": matching(model, encoder, gallery), "search": search(model, encoder, gallery)}
