"""Trains a demo model and writes its folder below models/.

    python models/training/train.py --task answer      # minutes on one GPU
    python models/training/train.py --task answer --device cpu --scenes 30000 --max-seconds 2400
    python models/training/train.py --task caption     # half an hour on one CPU
    python models/training/train.py --task match --smoke-test --out /tmp/demo-match

The captioning and the matching model start from the trained answering model `models/demo`. See
README.md for the data and the flow.
"""

import argparse

from demo.tasks import answer, caption, match

TASKS = {"answer": answer, "caption": caption, "match": match}


def parse():
    """Returns the options. They depend on the task."""
    task = argparse.ArgumentParser(add_help=False)
    task.add_argument("--task", choices=TASKS, help="model to train")
    name = task.parse_known_args()[0].task
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], parents=[task])
    if name:
        TASKS[name].add_options(parser)
    options = parser.parse_args()
    if not name:
        parser.error("--task is required: answer, caption or match")
    if options.smoke_test:
        TASKS[name].apply_smoke_test(options)
    return options


def main():
    options = parse()
    TASKS[options.task].run(options)


if __name__ == "__main__":
    main()
