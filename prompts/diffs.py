"""What has changed between two versions of a template."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff

from prompts.exceptions import TemplateError
from prompts.models import PromptVersion

# Comparing takes time that grows with the square of this.
MOST_LINES = 2000
# Lines of a text that would read like those that stand between texts; and those that would read like these.
AMBIGUOUS = re.compile(r"\\*(\[(system|developer|user|assistant)\]\Z|variable \{)")


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines that are the same in both (`equal`), or stand in one instead of those in the other."""

    op: str
    removed: list[str]
    added: list[str]


@dataclass(frozen=True, slots=True)
class Diff:
    """`unified` is what `diff -u` would print; `lines` say the same, piece by piece, unchanged lines included."""

    unified: str
    lines: list[Lines]


def compare(old: PromptVersion, new: PromptVersion) -> Diff:
    """Raises `TemplateError` if one of them has more than MOST_LINES lines."""
    before, after = lines_of(old), lines_of(new)
    if max(len(before), len(after)) > MOST_LINES:
        raise TemplateError(f"Versions of more than {MOST_LINES} lines are not compared.", code="too_large")
    unified = unified_diff(before, after, f"version {old.number}", f"version {new.number}", lineterm="")
    matcher = SequenceMatcher(None, before, after)
    lines = [Lines(op, before[a:b], after[c:d]) for op, a, b, c, d in matcher.get_opcodes()]
    return Diff("\n".join(unified), lines)


def lines_of(version: PromptVersion) -> list[str]:
    """A version as people read it: each message under its role, then a line for each variable.

    No two versions that say different things have the same lines: a line of a text that looks like a role or a variable
    has a backslash before it.
    """
    if isinstance(version.content, str):
        lines = _lines(version.content)
    else:
        lines = [line for message in version.content for line in (f"[{message['role']}]", *_lines(message["content"]))]
    variables = [f"variable {json.dumps(row, ensure_ascii=False)}" for row in version.variables]
    return [*lines, *variables]


def _lines(text: str) -> list[str]:
    return [f"\\{line}" if AMBIGUOUS.match(line) else line for line in text.split("\n")]
