"""Quotas, grants, plan limits and subscriptions as CSV: out as lists show them, in through the services."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from accounts.admin import imports
from accounts.admin.transfer import UploadStorage
from accounts.exceptions import InvalidInput
from accounts.models import AuditEvent
from accounts.tests.factories import UserFactory
from quotas import services
from quotas.meters import Meter
from quotas.models import Grant, Plan, PlanLimit, Quota
from quotas.tests.factories import PlanFactory, QuotaFactory, SubscriptionFactory
from tests.admin import messages

GRANTS = "email,resource,unit,period,amount,expires_at,reason"
LIMITS = "email,resource,unit,period,limit,reason"
PLAN_LIMITS = "plan,resource,unit,period,cycle,limit,soft_threshold,overage_allowed"


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def quota(alice):
    services.provision(user_id=alice.pk)
    return Quota.objects.get(user=alice, resource_type="llm", unit="requests")


def upload(client, model, *lines, **fields):
    file = SimpleUploadedFile("rows.csv", "\n".join(lines).encode())
    return client.post(f"/admin/quotas/{model}/import/", {"import_file": file, "format": "0", **fields})


def confirm(client, model, preview):
    return client.post(f"/admin/quotas/{model}/process_import/", preview.context["confirm_form"].initial)


def export(client, model, **query):
    return client.get(f"/admin/quotas/{model}/export/", query).content.decode().splitlines()


def row_errors(preview):
    return {row.number: sorted(row.error_dict) for row in preview.context["result"].invalid_rows}


def events():
    return list(AuditEvent.objects.order_by("id").values_list("action", flat=True))


# Out -------------------------------------------------------------------------------------------------------------


def test_lists_are_exported_as_they_are_filtered_and_without_formulas(operator, alice, bob, olga, monkeypatch):
    quota = QuotaFactory(user=alice, limit=100, current_usage=5, is_override=True)
    QuotaFactory(user=bob)
    services.grant(quota=quota, amount=7, by=olga, reason="=HYPERLINK(1)")
    services.consume(user_id=alice.pk, amounts={Meter("llm", "requests"): 98})
    subscription = SubscriptionFactory(user=alice)
    limit = PlanFactory(slug="gold", limits={("llm", "tokens", "day"): 9}).limits.get()

    head, row = export(operator, "quota", q="alice@")
    assert head == "email,resource,unit,period,base_limit,override,granted,limit,used,held,reset_date"
    assert row == f"alice@example.com,llm,requests,month,100,yes,7,107,103,0,{quota.reset_date:%Y-%m-%d %H:%M:%S}"
    head, row = export(operator, "grant")
    assert head == "email,resource,unit,period,amount,spent,state,expires_at,created_at,reason"
    assert row.startswith("alice@example.com,llm,requests,month,7,3,open,,20")
    assert row.endswith(",'=HYPERLINK(1)")
    head, row = export(operator, "subscription", q="alice@")
    assert row.startswith(f"alice@example.com,{subscription.plan.slug},active,20")
    assert export(operator, "planlimit", plan__id__exact=limit.plan_id) == [
        PLAN_LIMITS,
        "gold,llm,tokens,day,calendar,9,80,no",
    ]
    assert events()[-4:] == ["quota.exported", "grant.exported", "subscription.exported", "planlimit.exported"]

    monkeypatch.setattr(imports, "MOST_EXPORTED", 1)
    assert messages(operator.get("/admin/quotas/quota/export/"), operator) == [
        "A file has at most 1 rows: filter the list first."
    ]


# In --------------------------------------------------------------------------------------------------------------


def test_grants_are_imported_after_a_preview_that_writes_nothing(operator, alice, bob, olga, quota):
    later = (timezone.now() + timedelta(days=3)).replace(microsecond=0)
    rows = [
        f"ALICE@example.com,llm,requests,{quota.period},50,,Outage",
        f"{bob.pk},llm,requests,{quota.period},60,{later:%Y-%m-%d %H:%M:%S},Outage",
    ]

    preview = upload(operator, "grant", GRANTS, *rows)
    assert [row.import_type for row in preview.context["result"].rows] == ["new", "new"]
    assert (Grant.objects.count(), bob.quotas.count(), events()) == (0, 0, [])
    done = confirm(operator, "grant", preview)

    assert messages(done, operator) == ["Imported: 2 new, 0 changed, 0 as they were."]
    assert sorted(Grant.objects.values_list("quota__user__email", "amount", "expires_at", "reason")) == [
        ("alice@example.com", 50, None, "Outage"),
        ("bob@example.com", 60, later, "Outage"),
    ]
    quota.refresh_from_db()
    assert quota.limit == quota.base_limit + 50
    assert events() == ["quota.granted"] * 2
    assert set(AuditEvent.objects.values_list("actor_id", flat=True)) == {olga.pk}


def test_one_bad_row_keeps_all_out_unless_the_good_ones_are_asked_for(operator, alice, quota):
    bob_is_gone = "nobody@example.com,llm,requests,day,1,,r"
    rows = [
        f"alice@example.com,llm,requests,{quota.period},50,,r",
        bob_is_gone,
        f"alice@example.com,llm,requests,{quota.period},-5,2020-01-01,",
        "alice@example.com,llm,bytes,year,5,,r",
        f"alice@example.com,<b>llm</b>,requests,{quota.period},{10**18},later,r",
        "alice@example.com",
        "\0,llm,requests,day,5,,r",
    ]

    refused = upload(operator, "grant", GRANTS, *rows)
    assert "confirm_form" not in refused.context
    assert row_errors(refused) == {
        2: ["email"],
        3: ["amount", "expires_at", "reason"],
        4: ["__all__"],
        5: ["amount", "expires_at", "resource"],
        6: ["amount", "period", "reason", "resource", "unit"],
        7: ["email"],
    }
    assert "<b>llm</b>" not in refused.content.decode()

    offered = upload(operator, "grant", GRANTS, *rows, good_rows="on")
    assert (len(row_errors(offered)), Grant.objects.count()) == (6, 0)
    assert "Left out" in offered.content.decode()
    done = confirm(operator, "grant", offered)

    assert messages(done, operator) == [
        "Imported: 1 new, 0 changed, 0 as they were.",
        "Left out: 6 that had errors.",
    ]
    assert Grant.objects.get().amount == 50


def test_what_changes_between_preview_and_import_keeps_all_out(operator, alice, bob, quota):
    rows = [f"{user.email},llm,requests,{quota.period},5,,r" for user in (alice, bob)]
    preview = upload(operator, "grant", GRANTS, *rows)
    bob.is_active = False
    bob.save()

    done = confirm(operator, "grant", preview)

    assert "Nothing was imported" in messages(done, operator)[0]
    assert (Grant.objects.count(), events()) == (0, [])


def test_limits_of_users_are_imported(operator, alice, bob, quota):
    rows = [
        f"alice@example.com,llm,requests,{quota.period},70,Agreement",
        "bob@example.com,llm,cost,day,2500000,Agreement",
    ]
    confirm(operator, "quota", upload(operator, "quota", LIMITS, *rows))

    quota.refresh_from_db()
    assert (quota.base_limit, quota.is_override) == (70, True)
    assert (bob.quotas.get(unit="cost").limit, events()) == (2_500_000, ["quota.limit_changed", "quota.added"])
    again = upload(operator, "quota", LIMITS, *rows)
    assert [row.import_type for row in again.context["result"].rows] == ["skip", "skip"]
    twice = upload(operator, "quota", LIMITS, rows[0], rows[0].replace("70", "80"))
    assert row_errors(twice) == {2: ["__all__"]}


def test_plan_limits_are_imported_and_reach_the_subscribers(operator, alice, olga, django_capture_on_commit_callbacks):
    plan = PlanFactory(slug="gold", limits={("llm", "tokens", "day"): 9, ("llm", "requests", "day"): 5})
    services.change_plan(user_id=alice.pk, plan=plan, by=olga)
    same, tokens = export(operator, "planlimit", plan__id__exact=plan.pk)[1:]
    rows = [tokens.replace(",9,80,no", ",900,70,Yes"), same, "gold,stt,seconds,month,anniversary,60,80,no"]

    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        preview = upload(operator, "planlimit", PLAN_LIMITS, *rows)
    assert ([row.import_type for row in preview.context["result"].rows], callbacks) == (["update", "skip", "new"], [])
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        confirm(operator, "planlimit", preview)

    assert sorted(map(str, PlanLimit.objects.filter(plan=plan))) == [
        *("5 llm.requests a day", "60 stt.seconds a month", "900 llm.tokens a day"),
    ]
    assert events()[-2:] == ["plan.updated", "plan.updated"]
    assert len(callbacks) == 1
    plan.refresh_from_db()
    assert plan.limits_changed_at is not None
    services.apply_plan_limits(plan_id=plan.pk)
    tokens = Quota.objects.get(user=alice, unit="tokens", period="day")
    assert (tokens.limit, tokens.soft_threshold, tokens.overage_allowed) == (900, 70, True)
    wrong = upload(
        operator,
        "planlimit",
        PLAN_LIMITS,
        "lead,llm,tokens,day,calendar,1,80,no",
        "gold,llm,tokens,day,lunar,-1,101,maybe",
    )
    assert row_errors(wrong) == {1: ["plan"], 2: ["cycle", "limit", "overage_allowed", "soft_threshold"]}


@pytest.mark.parametrize(
    ("model", "head", "message"),
    [("grant", LIMITS, "must name these columns: email, resource"), ("quota", GRANTS, "email, resource, unit, period")],
)
def test_a_file_with_other_columns_is_refused_as_a_whole(operator, model, head, message):
    preview = upload(operator, model, head, "a,b,c,d,e,f,g"[: len(head.split(",")) * 2 - 1])
    assert "confirm_form" not in preview.context
    assert message in str(preview.context["result"].base_errors[0].error)
    assert Plan.objects.exists()


def test_support_takes_lists_away_and_brings_none_back(client):
    helper = UserFactory(is_staff=True)
    helper.groups.add(Group.objects.get(name="support"))
    client.force_login(helper)

    for model in ("quota", "grant", "subscription"):
        assert export(client, model)[0].startswith("email,")
        for name in ("import", "process_import"):
            assert client.post(f"/admin/quotas/{model}/{name}/").status_code == 403
    assert client.get("/admin/quotas/planlimit/export/").status_code == 403


def test_an_upload_that_is_confirmed_twice_at_once_is_imported_once():
    upload = UploadStorage()
    upload.save(b"email")
    assert upload.read() == b"email"

    first, second = UploadStorage(name=upload.name), UploadStorage(name=upload.name)

    assert first.read() == b"email"
    with pytest.raises(InvalidInput):
        second.read()
