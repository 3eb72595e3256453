"""GET /metrics: what this installation counts, in Prometheus' text format."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator

from django.conf import settings
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from conversations import partitions


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For whoever sends METRICS_TOKEN as a bearer token; for everybody else, and without such a setting, not there."""
    wanted = f"Bearer {settings.METRICS_TOKEN}"
    given = request.headers.get("Authorization", "")
    if not settings.METRICS_TOKEN or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise Http404
    of_database = CollectorRegistry()
    of_database.register(PartitionCollector())
    counted = generate_latest(_registry()) + generate_latest(of_database)
    return HttpResponse(counted, content_type=CONTENT_TYPE_LATEST)


class PartitionCollector(Collector):
    """How the partitions of messages stand, asked of the database by each scrape."""

    def collect(self) -> Iterator[Metric]:
        try:
            unplaced, ahead = partitions.unplaced(), partitions.months_ahead()
        except DatabaseError:
            return
        yield GaugeMetricFamily("mainstay_messages_unplaced", "Messages that are in no month's partition.", unplaced)
        yield GaugeMetricFamily("mainstay_message_months_ahead", "Months ahead that have a partition.", ahead)


def _registry() -> CollectorRegistry:
    """All web processes together, if `config.serve` runs several; else this one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
