"""The caller's identities on channels."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.utils.decorators import method_decorator
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import linking
from accounts.attempts import ratelimit
from accounts.exceptions import InvalidInput, NotFound
from accounts.ids import UUID_PATTERN
from accounts.models import ChannelIdentity
from accounts.scopes import Scope
from accounts.serializers import ChannelIdentitySerializer, LinkCodeSerializer, NewLinkCodeSerializer
from accounts.views import caller_of, valid


def person(_group: str, request: Any) -> str:
    """What attempts at codes are counted by: a bot asks from one address for everybody."""
    return str(request.user.user_id)


def link_rate(_group: str, _request: object) -> str:
    return str(settings.RATELIMIT_TOKEN)


class ChannelIdentityViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[ChannelIdentity]):
    """Who the caller is on channels. Linking is what bots do for people, hence the scope."""

    scope = Scope.ACT_AS
    serializer_class = ChannelIdentitySerializer
    queryset = ChannelIdentity.objects.none()
    lookup_value_regex = UUID_PATTERN

    def get_queryset(self) -> QuerySet[ChannelIdentity]:
        return ChannelIdentity.objects.filter(user_id=caller_of(self.request).user_id)

    @extend_schema(
        request=LinkCodeSerializer,
        responses={200: ChannelIdentitySerializer(many=True), 201: NewLinkCodeSerializer},
    )
    @method_decorator(ratelimit(key=person, rate=link_rate, method="POST"))
    def create(self, request: Request) -> Response:
        """Without `code`: a code for another channel (201). With one: become one person with its maker (200)."""
        caller = caller_of(request)
        code = valid(LinkCodeSerializer, request).get("code")
        if code is None:
            made, expires_at = linking.create_link_code(caller=caller)
            answer = NewLinkCodeSerializer({"code": made, "expires_at": expires_at})
            return Response(answer.data, status=status.HTTP_201_CREATED)
        user_id = linking.redeem_link_code(code=code, caller=caller)
        linked = ChannelIdentity.objects.filter(user_id=user_id)
        return Response(ChannelIdentitySerializer(linked, many=True).data)

    @extend_schema(
        operation_id="users_me_channels_unlink",
        parameters=[OpenApiParameter("channel", str, required=True, description="Such as `discord:1234`.")],
        responses={204: None},
    )
    def unlink_named(self, request: Request) -> Response:
        """Unlink the identity that `channel` names."""
        channel_type, is_named, channel_user_id = request.query_params.get("channel", "").partition(":")
        if not is_named:
            raise InvalidInput("Name the identity, such as ?channel=discord:1234.", param="channel", code="required")
        named = self.get_queryset().filter(channel_type=channel_type, channel_user_id=channel_user_id).first()
        if named is None:
            raise NotFound("No such channel identity.")
        return self.destroy(request, named.pk)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID) -> Response:
        caller = caller_of(request)
        linking.unlink(identity_id=pk, user_id=caller.user_id, by=caller)
        return Response(status=status.HTTP_204_NO_CONTENT)
