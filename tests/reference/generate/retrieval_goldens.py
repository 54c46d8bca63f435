"""Writes recall of random embeddings and logits, computed with NumPy.

    python tests/reference/generate/retrieval_goldens.py \\
        > crates/cli/src/commands/eval/retrieval/golden_recall.json
"""

import json
import sys

import numpy as np


def unit(matrix):
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def recall(scores, correct):
    """Returns recall at 1, 5 and 10 in percent. `correct` is a matrix of booleans."""
    # The number of candidates that are better than the best correct one.
    best = np.where(correct, scores, -np.inf).max(axis=1, keepdims=True)
    ranks = np.where(np.isfinite(best[:, 0]), (scores > best).sum(axis=1), np.inf)
    return [100.0 * float((ranks < at).mean()) for at in (1, 5, 10)]


def case(rng, images, texts_per_image, k, noise):
    owner = np.repeat(np.arange(images), texts_per_image)
    image_vectors = rng.normal(size=(images, 8))
    text_vectors = unit(unit(image_vectors)[owner] + noise * rng.normal(size=(len(owner), 8)))
    image_vectors = unit(image_vectors)
    # Few digits, so that the file is small. The vectors are then of length 1 nearly.
    image_vectors, text_vectors = image_vectors.round(3), text_vectors.round(3)
    correct = owner[None, :] == np.arange(images)[:, None]
    logits = (2 * correct + 2 * rng.normal(size=correct.shape)).round(3)
    cosines = image_vectors @ text_vectors.T
    total = cosines + logits

    def reranked(cosines, total):
        # All candidates after the first k have no score.
        threshold = np.sort(cosines, axis=1)[:, ::-1][:, min(k, cosines.shape[1]) - 1]
        return np.where(cosines >= threshold[:, None], total, -np.inf)

    return {
        "k": k,
        "images": image_vectors.tolist(),
        "texts": text_vectors.tolist(),
        "image_of_text": owner.tolist(),
        "logits": logits.tolist(),
        "image_to_text": recall(reranked(cosines, total), correct),
        "text_to_image": recall(reranked(cosines.T, total.T), correct.T),
    }


def main():
    rng = np.random.default_rng(3)
    cases = [case(rng, 30, 3, k, 0.45) for k in (1, 4, 16, 128)]
    json.dump([*cases, case(rng, 1, 2, 5, 0.1)], sys.stdout)


if __name__ == "__main__":
    main()
