from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.scopes import Scope
from accounts.tasks import enqueue
from accounts.views import caller_of, valid
from quotas import billing, services, stripe_api, stripe_events, stripe_sync
from quotas.models import Plan, Subscription
from quotas.serializers import SubscriptionSerializer
from quotas.tasks import leave_stripe


class PlanChoiceSerializer(serializers.Serializer[Any]):
    plan = serializers.SlugRelatedField(slug_field="slug", queryset=Plan.objects.all())


class CheckoutSerializer(PlanChoiceSerializer):
    success_url = serializers.CharField(max_length=2000, required=False)
    cancel_url = serializers.CharField(max_length=2000, required=False)


class PortalSerializer(serializers.Serializer[Any]):
    return_url = serializers.CharField(max_length=2000, required=False)


class CancelSerializer(serializers.Serializer[Any]):
    at_once = serializers.BooleanField(default=False, help_text="Now, instead of when the period ends.")


class PageSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(help_text="A page of Stripe's, to which the person is to be sent.")


class ReceiptSerializer(serializers.Serializer[Any]):
    status = serializers.CharField(help_text="What became of the event: applied or ignored.")


class BillingViewSet(viewsets.GenericViewSet[Subscription]):
    """Pages of Stripe's on which the caller buys a plan, and manages what was bought."""

    scope = Scope.ADMIN
    serializer_class = PageSerializer
    queryset = Subscription.objects.none()

    @extend_schema(request=CheckoutSerializer, responses={201: PageSerializer})
    @action(detail=False, methods=["post"], url_path="checkout-session")
    def checkout_session(self, request: Request) -> Response:
        """A page on which the caller can buy a plan. An earlier one of theirs is closed."""
        caller = caller_of(request)
        url = billing.open_checkout(user_id=caller.user_id, by=caller, **valid(CheckoutSerializer, request))
        return Response({"url": url}, status=status.HTTP_201_CREATED)

    @extend_schema(request=PortalSerializer, responses={201: PageSerializer})
    @action(detail=False, methods=["post"], url_path="portal-session")
    def portal_session(self, request: Request) -> Response:
        """A page for cards, invoices and the subscription."""
        caller = caller_of(request)
        url = billing.open_portal(user_id=caller.user_id, by=caller, **valid(PortalSerializer, request))
        return Response({"url": url}, status=status.HTTP_201_CREATED)


class MySubscriptionViewSet(viewsets.GenericViewSet[Subscription]):
    """Changing the caller's own subscription; each answers how it is then."""

    scope = Scope.ADMIN
    serializer_class = SubscriptionSerializer
    queryset = Subscription.objects.none()

    @extend_schema(request=PlanChoiceSerializer, responses=SubscriptionSerializer)
    @action(detail=False, methods=["post"])
    def change(self, request: Request) -> Response:
        """To a higher plan at once, to a lower one when the period ends; the present one calls off what was planned."""
        caller = caller_of(request)
        billing.choose_plan(user_id=caller.user_id, by=caller, **valid(PlanChoiceSerializer, request))
        return self._answer(request)

    @extend_schema(request=CancelSerializer, responses=SubscriptionSerializer)
    @action(detail=False, methods=["post"])
    def cancel(self, request: Request) -> Response:
        """When the period ends, unless `at_once`; then the caller is on the default plan."""
        caller = caller_of(request)
        billing.cancel(user_id=caller.user_id, by=caller, **valid(CancelSerializer, request))
        return self._answer(request)

    @extend_schema(request=None, responses=SubscriptionSerializer)
    @action(detail=False, methods=["post"])
    def resume(self, request: Request) -> Response:
        """Call off what was planned for the end of the period."""
        caller = caller_of(request)
        billing.resume(user_id=caller.user_id, by=caller)
        return self._answer(request)

    def _answer(self, request: Request) -> Response:
        found = services.current_subscription(user_id=caller_of(request).user_id)
        return Response(SubscriptionSerializer(found).data)


class StripeWebhookView(APIView):
    """Where Stripe sends its events. What counts is their signature, not who sends them."""

    scope = None
    authentication_classes = ()
    anonymous_rate = "RATELIMIT_WEBHOOK"

    @extend_schema(
        operation_id="billing_webhook_create",
        request=OpenApiTypes.OBJECT,
        responses=ReceiptSerializer,
        parameters=[OpenApiParameter("Stripe-Signature", str, OpenApiParameter.HEADER, required=True)],
    )
    def post(self, request: Request) -> Response:
        """Signed on the raw body. 503 asks Stripe to send the event again."""
        payload = request._request.read(stripe_api.MOST_EVENT_BYTES + 1)
        event = stripe_api.verified_event(payload, request.headers.get("Stripe-Signature", ""))
        kept = stripe_events.receive(event)
        if kept.reason == stripe_sync.ERASED:
            enqueue(leave_stripe, kept.customer_id)
        return Response({"status": kept.status})
