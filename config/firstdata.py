"""The first data of an installation: an operator who can sign in, and local models and a demo user to try them with."""

from __future__ import annotations

import secrets

from django.db import transaction

from accounts import services as accounts
from accounts.credentials import hash_key
from accounts.exceptions import NotAuthenticated
from accounts.models import ApiKey, User
from conversations.channels import drop_channels
from conversations.models import ChannelConfig
from inference.models import Model, Provider
from quotas import services as quotas
from quotas.meters import Resource
from quotas.models import Plan

LOCAL_PROVIDER = "local"
LOCAL_MODEL = "smollm2"
DEMO_EMAIL = "demo@mainstay.local"


def ensure_operator(*, email: str, password: str, is_known: bool) -> None:
    """Make sure that `email` is an operator; `is_known` passwords are not set again: theirs may have changed since."""
    email = email.strip().lower()
    with transaction.atomic():
        user = User.objects.filter(email=email).first()
        if user is None:
            accounts.register_user(
                email=email,
                password=password,
                full_name="Operator",
                is_staff=True,
                is_superuser=True,
                is_verified=True,
            )
        elif not is_known:
            accounts.set_password(user_id=user.pk, password=password, by=user)
            accounts.administer_user(
                user_id=user.pk, by=user, is_active=True, is_staff=True, is_superuser=True, is_verified=True
            )


def ensure_local_models(url: str) -> None:
    """Make sure that the local model server's provider points at it, and that its models have been there once."""
    provider, _created = Provider.objects.update_or_create(name=LOCAL_PROVIDER, defaults={"base_url": url})
    if provider.offered_models.exists():
        return
    Model.objects.bulk_create(
        [
            Model(
                name=LOCAL_MODEL,
                provider=provider,
                upstream_name=LOCAL_MODEL,
                kind=Resource.LLM,
                context_window=8192,
                max_output_tokens=512,
            ),
            Model(
                name="use-multilingual",
                provider=provider,
                upstream_name="use-multilingual",
                kind=Resource.EMBEDDING,
            ),
        ],
        ignore_conflicts=True,
    )
    if ChannelConfig.objects.filter(default_model="").update(default_model=LOCAL_MODEL):
        drop_channels()


def ensure_demo_key(*, known: str | None = None) -> str:
    """An API key of the demo user, who is on the pro plan: `known` if it still works, else a new one."""
    if known and (key := ApiKey.objects.usable().filter(key_hash=hash_key(known)).first()) is not None:
        return known if key.user.email == DEMO_EMAIL else _new_demo_key()
    return _new_demo_key()


def _new_demo_key() -> str:
    with transaction.atomic():
        user = User.objects.filter(email=DEMO_EMAIL).first()
        if user is None:
            user = User.objects.create_user(DEMO_EMAIL, None, full_name="Demo")
            quotas.change_plan(user_id=user.pk, plan=Plan.objects.get(slug="pro"), by=user)
        if not user.is_active:
            raise NotAuthenticated(f"{DEMO_EMAIL} is not active.")
        return accounts.create_api_key(user_id=user.pk, name="Demo", by=user)[1]


def ensure(
    *, operator_email: str, operator_password: str | None, api_key: str | None, models_url: str
) -> dict[str, str | None]:
    """Bring the first data about and make it agree with what is remembered.

    Answers `operator_email`, and `operator_password` and `api_key` where new ones had to be made, else None.
    """
    password = operator_password or secrets.token_urlsafe(15)
    ensure_operator(email=operator_email, password=password, is_known=password == operator_password)
    ensure_local_models(models_url)
    key = ensure_demo_key(known=api_key)
    return {
        "operator_email": operator_email,
        "operator_password": None if password == operator_password else password,
        "api_key": None if key == api_key else key,
    }
