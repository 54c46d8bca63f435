"""Writes tokens and scores of pycocoevalcap for generated captions: crates/caption_metrics/tests.

It needs Java and the package pycocoevalcap 1.2, which contains the tokenizer.

    python tests/reference/generate/caption_metrics_goldens.py \\
        > crates/caption_metrics/tests/pycocoevalcap.json

With --annotations and --results, it prints the scores of files in the format of COCO instead.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

CAPTIONS = 3500
PLAIN = """a the two three man woman dog cat bus street red old large near on of with in and is are
    riding standing sitting next to player ball table grass A The Two An There People""".split()
ODD = """don't can't won't isn't it's It's he's they're we've I'm I'll she'd dogs' boss's James's o'clock
    O'Brien d'Artagnan ma'am y'all rock'n'roll 'em 'til 'cause 'n' ol' c'mon 'tis '90s cannot gonna wanna
    don’t it’s dogs’ they’ll Mr. Mrs. Dr. St. Ave. Jan. Feb. Inc. co. etc. vs. No. no. fig. U.S. U.S.A. u.k.
    Ph.D. e.g. i.e. a.m. p.m. J. K. 5 10 12 1990 2014 5:30 5:30pm 10am 1,000 1,000.50 3.5 .5 -5 +5 1/2 3/4
    1st 2nd 50s 1990's 24/7 9/11 1/2/2003 2003-01-02 555-1234 5' 6" 5'6 4x4 3-D 10-year-old 50% $5 $5.00
    £5 €5 5¢ 5° t-shirt two-story up-to-date e-mail black-and-white and/or w/ w/o his/her n/a AT&T R&D b&w
    C++ C# #1 #tag @user user@example.com http://example.com/a?b=1 https://example.com www.example.com
    example.com photo.jpg img_01 x_y Yahoo! Stop! what?! wow!! <br> </b> &amp; &quot; &lt; café naïve über
    año Zürich русский ελληνικά 日本語 한국어 ½ ¼ © ™ ® √ ★ → ♥ 😀 🇺🇸 ² :) ;-) :D :( <3 ^_^ -- --- ... … – — -
    & * / + = ~ | \\ ^ _ %""".split()
OPENING = ['"', "'", "(", "[", "“", "‘", "``", "{", "«"]
CLOSING = [*'"\')]}.,;:!?', "”", "’", "''", "»", "...", "!!", ".)", '."', ',"', "?!"]
# Spaces of Unicode, a soft hyphen in a word, and characters without a token.
INVISIBLE = ["\u00a0", "\u2009", "\u3000", "\u200b", "soft\u00adly", "\u200d", "\ufeff"]


def caption(rng):
    """Returns a caption with odd words and punctuation."""
    words = []
    for _ in range(rng.randint(4, 11)):
        word = rng.choice(PLAIN if rng.random() < 0.5 else ODD)
        chance = rng.random()
        if chance < 0.05:
            word = word.upper()
        elif chance < 0.1:
            word = word.capitalize()
        elif chance < 0.2:
            word = rng.choice(OPENING) + word + rng.choice(CLOSING)
        elif chance < 0.3:
            word += rng.choice(CLOSING)
        elif chance < 0.32:
            word = rng.choice(INVISIBLE)
        words.append(word)
    return " ".join(words) + rng.choice(["", "", ".", " .", "!"])


def corpus(rng, name, images, make):
    """Returns captions and references with their scores."""
    listed = []
    for _ in range(images):
        references = [make(rng) for _ in range(rng.randint(1, 6))]
        words = rng.choice(references).split()
        # Captions that share words with a reference, and some that do not.
        for at in range(len(words)):
            if rng.random() < 0.3:
                words[at] = rng.choice(PLAIN)
        text = " ".join(words[: rng.randint(1, len(words))]) if rng.random() < 0.9 else make(rng)
        listed.append({"caption": text, "references": references})
    return {"name": name, "images": listed, "scores": scores(listed)}


def tokens(lists):
    """Returns the tokens of lists of captions."""
    by_id = {at: [{"caption": text} for text in texts] for at, texts in enumerate(lists)}
    return list(PTBTokenizer().tokenize(by_id).values())


def scores(images):
    references = dict(enumerate(tokens([image["references"] for image in images])))
    captions = dict(enumerate(tokens([[image["caption"]] for image in images])))
    bleu, _ = Bleu(4).compute_score(references, captions, verbose=0)
    result = {f"Bleu_{order}": float(score) for order, score in enumerate(bleu, 1)}
    result["ROUGE_L"] = float(Rouge().compute_score(references, captions)[0])
    result["CIDEr"] = float(Cider().compute_score(references, captions)[0])
    return result


def scores_of_files(annotations, results):
    """Returns the scores of the images that have a result and annotations."""
    results = {entry["image_id"]: entry["caption"] for entry in json.loads(results.read_text())}
    data, references = json.loads(annotations.read_text()), {}
    for annotation in data["annotations"]:
        references.setdefault(annotation["image_id"], []).append(annotation["caption"])
    ids = [image["id"] for image in data["images"] if image["id"] in results]
    return scores([{"caption": results[at], "references": references[at]} for at in ids])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    if options.annotations:
        print(json.dumps(scores_of_files(options.annotations, options.results), indent=1))
        return
    rng = random.Random(7)
    captions = [caption(rng) for _ in range(CAPTIONS)]
    plain = lambda rng: " ".join(rng.choices(PLAIN, k=rng.randint(5, 14)))  # noqa: E731
    goldens = {
        "captions": captions,
        "tokens": [texts[0] for texts in tokens([[text] for text in captions])],
        "corpora": [
            corpus(rng, "plain words", 120, plain),
            corpus(rng, "odd words", 120, caption),
            corpus(rng, "one image", 1, plain),
        ],
    }
    json.dump(goldens, sys.stdout, indent=0, ensure_ascii=False)


if __name__ == "__main__":
    main()
