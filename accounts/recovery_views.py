"""Verification of e-mail addresses and new passwords over the API. `accounts/pages.py` has the pages for people."""

from __future__ import annotations

from django.conf import settings
from django.utils.decorators import method_decorator
from drf_spectacular.utils import extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import recovery, tasks
from accounts.attempts import ratelimit
from accounts.authentication import client_ip, user_agent
from accounts.models import User
from accounts.serializers import EmailVerificationSerializer, NewPasswordSerializer, PasswordResetSerializer
from accounts.views import valid


def reset_rate(_group: str, _request: object) -> str:
    return str(settings.RATELIMIT_RESET)


# Whoever asks for a mail learns nothing about the address: the answer is made before anybody looks for it.
ON_ITS_WAY: dict[str, str] = {}


class EmailVerificationViewSet(viewsets.GenericViewSet[User]):
    """The token of a link in, to verify the address; or an address in, to have another link sent there."""

    scope = None
    authentication_classes = ()
    queryset = User.objects.none()
    serializer_class = EmailVerificationSerializer

    @extend_schema(request=EmailVerificationSerializer, responses={200: EmailVerificationSerializer, 202: None})
    @method_decorator(ratelimit(key="ip", rate=reset_rate, method="POST"))
    def create(self, request: Request) -> Response:
        body = valid(EmailVerificationSerializer, request)
        if email := body.get("email"):
            tasks.enqueue(tasks.send_verification_mail_to, email)
            return Response(ON_ITS_WAY, status=status.HTTP_202_ACCEPTED)
        user = recovery.verify_email(
            token=body["token"],
            ip=client_ip(request._request),
            user_agent=user_agent(request._request),
        )
        return Response(EmailVerificationSerializer(user).data)


class PasswordResetViewSet(viewsets.GenericViewSet[User]):
    """A link to a new password, for those who have forgotten theirs."""

    scope = None
    authentication_classes = ()
    queryset = User.objects.none()
    serializer_class = PasswordResetSerializer

    @extend_schema(request=PasswordResetSerializer, responses={202: None})
    @method_decorator(ratelimit(key="ip", rate=reset_rate, method="POST"))
    def create(self, request: Request) -> Response:
        tasks.enqueue(tasks.send_password_reset, valid(PasswordResetSerializer, request)["email"])
        return Response(ON_ITS_WAY, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=NewPasswordSerializer, responses={204: None})
    @method_decorator(ratelimit(key="ip", rate=reset_rate, method="POST"))
    @action(detail=False, methods=["post"])
    def confirm(self, request: Request) -> Response:
        body = valid(NewPasswordSerializer, request)
        user = recovery.reset_password(**body, ip=client_ip(request._request), user_agent=user_agent(request._request))
        tasks.enqueue(tasks.send_notice, "password_changed", user.email or "")
        return Response(status=status.HTTP_204_NO_CONTENT)
