"""Mails that operators send on a user's behalf. They see neither the link nor the password."""

from __future__ import annotations

from typing import Any

from celery import Task
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action
from unfold.forms import BaseDialogForm

from accounts import audit, tasks
from accounts.admin.base import OperatorAdmin, operator
from accounts.models import User

ONCE_A_MINUTE = "An address gets one mail of a kind each minute; more are left out."


class MailActions(OperatorAdmin):
    """For the admin class of users."""

    mail_actions = ("send_verification_mail", "send_password_reset")

    @action(
        description="Send verification mail",
        icon="mark_email_read",
        permissions=["support"],
        dialog={
            "title": "Send verification mail?",
            "description": f"It holds a link that proves the e-mail address. {ONCE_A_MINUTE}",
            "form_class": BaseDialogForm,
            "form_submit_text": "Send",
        },
    )
    def send_verification_mail(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        user: User = self.find(request, object_id)
        if user.is_verified:
            self.message_user(request, f"The address of {user} is verified already.", messages.ERROR)
            return self.go_back(request)
        return self.send(request, user, "verification_mail", tasks.send_verification_mail, str(user.pk))

    @action(
        description="Send password reset",
        icon="lock_reset",
        permissions=["support"],
        dialog={
            "title": "Send password reset?",
            "description": f"It holds a link to a new password. The old one stays good until then. {ONCE_A_MINUTE}",
            "form_class": BaseDialogForm,
            "form_submit_text": "Send",
        },
    )
    def send_password_reset(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        user: User = self.find(request, object_id)
        return self.send(request, user, "password_reset", tasks.send_password_reset, user.email or "")

    def send(self, request: HttpRequest, user: User, what: str, task: Task[..., Any], *args: str) -> HttpResponse:
        """Enqueue a mail, and write down who did; refused for those who could not use its link."""
        if not user.is_active or not user.email:
            self.message_user(request, f"{user} is shut out or has no e-mail address.", messages.ERROR)
            return self.go_back(request)
        with transaction.atomic():
            audit.record(f"user.{what}_sent", by=operator(request), target=user)
            tasks.enqueue(task, *args)
        self.message_user(request, f"The mail to {user} is on its way.", messages.SUCCESS)
        return self.go_back(request)
