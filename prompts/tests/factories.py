"""Templates with one version, under the label that calls use."""

from itertools import count
from typing import Any

from accounts.caller import Caller
from accounts.models import User
from prompts import templates
from prompts.models import PromptTemplate

number = count()


def a_template(
    user: User, content: Any = "Hello {{ who }}!", *, label: str = "production", **fields: Any
) -> PromptTemplate:
    by = Caller(user_id=user.pk, email=user.email or "", is_staff=True, is_superuser=True)
    fields = {"name": f"template-{next(number)}"} | fields
    template = templates.create_template(by=by, content=content, **fields)
    if label:
        templates.move_label(template=template, label=label, number=1, by=by)
    return template
