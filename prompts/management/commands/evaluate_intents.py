"""manage.py evaluate_intents"""

from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from accounts.management.plain import PlainCommand
from prompts.intents import evaluation
from prompts.intents.evaluation import Labelled, Sets


class Command(PlainCommand):
    help = (
        "Train a classifier of intents on one CSV file and measure it on another, with the columns text and intent. "
        "Nothing that is stored is used or changed; the texts are embedded by the model of EMBEDDING_MODEL, so its "
        "server must run. Prints accuracy, calibration error, and with --oos how well strange texts are told apart."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--train", required=True, type=Path, metavar="T.csv", help="what is learned")
        parser.add_argument("--test", required=True, type=Path, metavar="E.csv", help="what is asked")
        parser.add_argument("--oos", type=Path, metavar="O.csv", help="texts of no intent (column text)")
        parser.add_argument("--json", action="store_true", help="the result as one JSON object")
        parser.add_argument("--seed", type=int, default=0, help="for the choice of what is held out (default: 0)")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["seed"] < 0:
            raise CommandError("--seed is a whole number from 0.")
        known, asked = evaluation.read_csv(options["train"]), evaluation.read_csv(options["test"])
        strange = evaluation.read_csv(options["oos"], labelled=False) if options["oos"] else Labelled([], [])
        count = len(known.texts) + len(asked.texts) + len(strange.texts)
        by = evaluation.by_model(settings.EMBEDDING_MODEL)
        with tqdm(total=count, unit="text", desc="Embedding", file=self.stderr, disable=None) as bar:
            parts = [evaluation.embedded(part.texts, by, bar.update) for part in (known, asked, strange)]
        sets = Sets(parts[0], known.intents, parts[1], asked.intents, parts[2])
        result = evaluation.evaluate(sets, seed=options["seed"])
        self.stdout.write(orjson.dumps(result).decode() if options["json"] else report(result))


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    facts = {
        "learned": f"{result['patterns']:,} texts of {result['intents']} intents",
        "asked": f"{result['texts']:,} texts",
        "accuracy": f"{result['accuracy']:.4f}",
        "calibration error": f"{result['calibration_error']:.4f} (0 is perfect)",
        "… without calibration": f"{result['uncalibrated_error']:.4f}",
        "called unknown": f"{result['called_unknown']:.4f} of them, below a confidence of {result['threshold']}",
    }
    if result["out_of_scope_texts"]:
        facts |= {
            "out of scope": f"{result['out_of_scope_texts']:,} texts",
            "out-of-scope AUROC": f"{result['out_of_scope_auroc']:.4f}",
            "… called unknown": f"{result['out_of_scope_called_unknown']:.4f} of them",
        }
    return "\n".join(f"{name:22}{fact}" for name, fact in facts.items())
