"""The three roles: their groups, and what each may open and do in the admin."""

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.test import Client

from accounts import tokens
from accounts.credentials import caller_for_key
from accounts.models import ApiKey, AuditEvent, Session
from accounts.roles import Role
from accounts.tests.credentials import api_key
from accounts.tests.factories import PASSWORD, UserFactory
from analytics.models import DailyStat
from config import roles
from conversations.models import Conversation
from inference.models import Request
from quotas.models import Plan
from quotas.tests.factories import QuotaFactory
from tests.admin import act, filled_form, page, save
from tests.test_admin_pages import ROWS

NEW_PASSWORD = "another horse, another battery"
ALL, OPERATORS, HELPERS = {"operator", "support", "analyst"}, {"operator"}, {"operator", "support"}

# Who may open the list and the pages of a model. Whoever adds a page to the admin says so here.
PAGES = {
    "accounts.user": HELPERS,
    "auth.group": OPERATORS,
    "accounts.apikey": HELPERS,
    "accounts.auditevent": HELPERS,
    "accounts.session": HELPERS,
    "accounts.channelidentity": HELPERS,
    "accounts.blacklistedtoken": OPERATORS,
    "quotas.plan": OPERATORS,
    "quotas.planlimit": OPERATORS,
    "quotas.subscription": HELPERS,
    "quotas.stripeevent": OPERATORS,
    "quotas.quota": HELPERS,
    "quotas.grant": HELPERS,
    "quotas.reservation": HELPERS,
    "quotas.featureflag": OPERATORS,
    "quotas.event": HELPERS,
    "quotas.webhookendpoint": OPERATORS,
    "quotas.webhookdelivery": OPERATORS,
    "inference.provider": OPERATORS,
    "inference.model": OPERATORS,
    "inference.price": OPERATORS,
    "inference.request": HELPERS,
    "conversations.conversation": OPERATORS,
    "conversations.channelconfig": OPERATORS,
    "prompts.prompttemplate": OPERATORS,
    "prompts.savedprompt": OPERATORS,
    "prompts.collection": OPERATORS,
    "prompts.sharelink": OPERATORS,
    "prompts.prompthistory": OPERATORS,
    "prompts.technique": OPERATORS,
    "prompts.techniqueeffectiveness": {"operator", "analyst"},
    "prompts.intentpattern": OPERATORS,
    "prompts.intentclassifier": OPERATORS,
    "analytics.dailystat": {"operator", "analyst"},
}

# Who may do what an action of a page does.
ACTIONS = {
    "accounts.user.change_password": OPERATORS,
    "accounts.user.send_verification_mail": HELPERS,
    "accounts.user.send_password_reset": HELPERS,
    "accounts.user.sign_out": HELPERS,
    "accounts.user.reset_two_factor": set(),
    "accounts.user.export_data": OPERATORS,
    "accounts.user.merge_into": OPERATORS,
    "accounts.user.erase": OPERATORS,
    "accounts.auditevent.export_csv": HELPERS,
    "accounts.auditevent.export_json": HELPERS,
    "accounts.session.revoke": HELPERS,
    "accounts.session.revoke_chosen": HELPERS,
    "accounts.channelidentity.unlink": OPERATORS,
    "accounts.blacklistedtoken.blacklist": OPERATORS,
    "accounts.apikey.set_budgets": OPERATORS,
    "accounts.user.new_key": OPERATORS,
    "accounts.user.change_plan": OPERATORS,
    "accounts.user.activate": OPERATORS,
    "accounts.user.deactivate": OPERATORS,
    "accounts.apikey.revoke": HELPERS,
    "accounts.apikey.revoke_chosen": HELPERS,
    "quotas.plan.make_default": OPERATORS,
    "quotas.featureflag.who_gets_what": OPERATORS,
    "quotas.webhookendpoint.send_test": OPERATORS,
    "quotas.webhookendpoint.rotate_secret": OPERATORS,
    "quotas.webhookendpoint.replay_dead": OPERATORS,
    "quotas.webhookdelivery.replay": OPERATORS,
    "quotas.subscription.change_plan": OPERATORS,
    "quotas.subscription.start_trial": OPERATORS,
    "quotas.subscription.cancel": OPERATORS,
    "quotas.subscription.resume": OPERATORS,
    "quotas.subscription.end_now": OPERATORS,
    "quotas.stripeevent.replay": OPERATORS,
    "quotas.quota.change_limit": OPERATORS,
    "quotas.quota.grant_extra": HELPERS,
    "quotas.quota.reset_usage": HELPERS,
    "quotas.quota.clear_override": OPERATORS,
    "quotas.grant.revoke": HELPERS,
    "accounts.user.add_quota": OPERATORS,
    "prompts.prompttemplate.try_out": OPERATORS,
    "prompts.prompttemplate.new_version": OPERATORS,
    "conversations.channelconfig.switch": OPERATORS,
    "prompts.prompttemplate.move_label": OPERATORS,
    "prompts.prompttemplate.share": OPERATORS,
    "prompts.savedprompt.import_file": OPERATORS,
    "prompts.sharelink.revoke": OPERATORS,
    "prompts.prompthistory.correct_intent": OPERATORS,
    "prompts.intentpattern.correct_intent": OPERATORS,
    "prompts.intentclassifier.retrain": OPERATORS,
}

ADD = {
    *("accounts.user", "accounts.apikey", "quotas.plan", "quotas.featureflag", "quotas.webhookendpoint"),
    *("inference.provider", "inference.model", "inference.price", "prompts.intentpattern"),
    "prompts.technique",
    "prompts.prompttemplate",
    "conversations.channelconfig",
}

MODELS = {model._meta.label_lower: model for model in admin.site._registry}
each_role = pytest.mark.parametrize("role", sorted(ALL))


def member(role, **fields):
    user = UserFactory(**{"is_staff": True} | fields)
    user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture
def as_role(db):
    def client_of(role, **fields):
        client = Client()
        client.force_login(member(role, **fields))
        return client

    return client_of


# Groups --------------------------------------------------------------------------------------------------------------


def wanted(role):
    """What the table gives to a role, of all permissions that there are now."""
    permissions = Permission.objects.select_related("content_type")
    return {name for name in (named(permission) for permission in permissions) if roles.may(role, name)}


def named(permission):
    return f"{permission.content_type.app_label}.{permission.codename}"


def given(role):
    group = Group.objects.get(name=role)
    return {named(permission) for permission in group.permissions.select_related("content_type")}


def test_the_table_speaks_of_the_roles():
    assert set(roles.PERMISSIONS) == set(Role.values) == ALL


def test_every_pattern_means_a_permission_that_exists(db):
    known = [named(permission) for permission in Permission.objects.select_related("content_type")]
    for patterns in roles.PERMISSIONS.values():
        for pattern in patterns:
            assert any(roles.fnmatchcase(name, pattern) for name in known), pattern


def test_the_migrations_give_each_group_what_the_table_says(db):
    """Fails when a model or a permission is newer than the last migration of `config`."""
    loader = MigrationLoader(connection)
    (last,) = loader.graph.leaf_nodes("config")
    Group.objects.all().delete()
    Permission.objects.all().delete()

    roles.grant(loader.project_state(last).apps, None)

    for app in apps.get_app_configs():
        create_permissions(app, verbosity=0)
    for role in roles.PERMISSIONS:
        assert given(role) == wanted(role), "config/roles.py says how the groups learn of it"


def test_granting_again_keeps_what_was_given_by_hand_and_brings_back_what_was_taken(db):
    group = Group.objects.get(name="analyst")
    group.permissions.set([Permission.objects.get(codename="view_plan")])

    roles.grant(apps, None)
    roles.grant(apps, None)

    assert given("analyst") == wanted("analyst") | {"quotas.view_plan"}
    assert Group.objects.filter(name__in=ALL).count() == 3


def test_a_group_without_staff_gives_nothing(api, db):
    user = member("operator", is_staff=False)
    client = Client()
    client.force_login(user)

    assert client.get("/admin/").headers["Location"].startswith("/admin/login/")
    assert api(user).get("/api/v1/analytics/daily-stats").status_code == 403


# Pages ---------------------------------------------------------------------------------------------------------------


def test_the_tables_know_every_page_and_every_action():
    assert set(PAGES) == set(MODELS)
    found = set()
    for label, model in MODELS.items():
        of_page = admin.site._registry[model]
        for names in (of_page.actions, of_page.actions_detail, of_page.actions_row, of_page.actions_list):
            for name in names or ():
                found |= {f"{label}.{one}" for one in (name["items"] if isinstance(name, dict) else [name])}
    assert set(ACTIONS) == found


@each_role
def test_each_role_opens_its_pages_and_no_others(as_role, role):
    client = as_role(role)
    sidebar = client.get("/admin/").content.decode()

    for label, model in MODELS.items():
        row = ROWS[model]()
        expected = 200 if role in PAGES[label] else 403
        assert client.get(page(model, "changelist")).status_code == expected, label
        assert client.get(page(row)).status_code == expected, label
        assert (f'href="{page(model, "changelist")}"' in sidebar) == (expected == 200), label


@each_role
def test_each_role_adds_changes_and_deletes_what_it_may(as_role, role):
    client = as_role(role)

    for label, model in MODELS.items():
        row = ROWS[model]()
        expected = 200 if role == "operator" and label in ADD else 403
        assert client.get(page(model, "add")).status_code == expected, label
        if role != "operator":
            assert client.post(page(model, "add"), {}).status_code == 403, label
            assert client.post(page(row), {}).status_code == 403, label
            assert client.post(page(row, "delete"), {"post": "yes"}).status_code == 403, label
            assert model.objects.filter(pk=row.pk).exists()


@each_role
def test_each_role_does_what_it_may_and_is_refused_the_rest(as_role, role):
    client = as_role(role)

    for name, allowed in ACTIONS.items():
        label, _, action = name.rpartition(".")
        model = MODELS[label]
        row = ROWS[model]()
        if action in (admin.site._registry[model].actions or ()):
            rows = model.objects.filter(pk=row.pk)
            if action == "activate":
                rows.update(is_active=False)
            before = rows.values().get()
            client.post(page(model, "changelist"), {"action": action, "_selected_action": [str(row.pk)]})
            assert (rows.values().get() != before) == (role in allowed), name
        else:
            address = page(model if action in admin.site._registry[model].actions_list else row, action)
            assert (client.get(address).status_code != 403) == (role in allowed), name
            answer = client.post(address, {"_form_submitted": "on"})
            assert (answer.status_code != 403) == (role in allowed), name


def test_a_user_page_links_only_what_one_may_open(as_role, alice, olga, client):
    seen = as_role("support").get(page(alice)).content.decode()
    client.force_login(olga)
    all_links = client.get(page(alice)).content.decode()

    for label, shown in (("quotas/quota", True), ("inference/request", True), ("conversations/conversation", False)):
        link = f"/admin/{label}/?user__id__exact={alice.pk}"
        assert link in all_links
        assert (link in seen) == shown


# Support -------------------------------------------------------------------------------------------------------------


def test_support_helps_users(as_role, alice):
    support = as_role("support")
    api_key(alice)
    quota = QuotaFactory(user=alice, limit=100, current_usage=40)

    tokens.sign_in(user=alice, ip=None, user_agent="")
    act(support, alice, "send_password_reset")
    act(support, alice, "sign_out")
    act(support, ApiKey.objects.get(), "revoke")
    act(support, quota, "grant_extra", amount="50", reason="Ticket 7")
    act(support, quota, "reset_usage", reason="Ticket 7")

    alice.refresh_from_db()
    quota.refresh_from_db()
    assert not ApiKey.objects.get().is_active
    assert not Session.objects.live().exists()
    assert (quota.limit, quota.base_limit, quota.current_usage) == (150, 100, 0)
    actions = {
        "user.password_reset_sent",
        "user.signed_out_everywhere",
        "api_key.revoked",
        "quota.granted",
        "quota.usage_reset",
    }
    assert set(AuditEvent.objects.exclude(actor_id=alice.pk).values_list("action", flat=True)) == actions


@each_role
def test_no_role_touches_other_staff(as_role, olga, role):
    client = as_role(role)
    colleague = member("support")

    for staff in (olga, colleague):
        address = page(staff, "change_password")
        assert client.post(address, {"_form_submitted": "on", "password": NEW_PASSWORD}).status_code == 403
        assert client.post(page(staff), {"full_name": "Mine"}).status_code == 403
        staff.refresh_from_db()
        assert staff.check_password(PASSWORD)


def test_support_sees_what_a_request_cost_and_not_what_it_said(as_role, alice, olga, client):
    asked = Request.objects.create(
        user=alice,
        request_type="llm",
        model="smollm2",
        request_data={"content": "my secret"},
        response_data={"a": "yes"},
    )

    seen = as_role("support").get(page(asked)).content.decode()
    client.force_login(olga)

    assert "smollm2" in seen
    assert "my secret" not in seen
    assert "my secret" in client.get(page(asked)).content.decode()
    assert "my secret" in as_role("operator").get(page(asked)).content.decode()


def test_support_finds_no_word_of_a_conversation(as_role, alice):
    said = Conversation.objects.create(user=alice, title="My illness")

    support = as_role("support")

    assert support.get(page(said)).status_code == 403
    assert "My illness" not in support.get(page(alice)).content.decode()


# Operators -----------------------------------------------------------------------------------------------------------


def test_an_operator_makes_keys_and_plans_but_neither_staff_nor_groups(as_role, alice):
    operator = as_role("operator")
    group = Group.objects.get(name="operator")

    save(operator, page(alice), is_superuser="on", is_staff="on", groups=[str(group.pk)], username="alice")
    key = save(operator, page(ApiKey, "add"), user=str(alice.pk), name="Theirs")
    save(operator, page(Plan, "add"), name="Team", slug="team")

    alice.refresh_from_db()
    assert (alice.username, alice.is_staff, alice.is_superuser, alice.groups.count()) == ("alice", False, False, 0)
    assert key.context["secret"]
    assert Plan.objects.filter(slug="team").exists()
    assert operator.get(page(group)).status_code == 200
    assert operator.post(page(group), {"name": "mine"}).status_code == 403


def test_the_form_of_a_user_explains_the_groups(client, olga, alice):
    client.force_login(olga)

    html = client.get(page(alice)).content.decode()

    for role in Role:
        assert f"{role.value}: " in html
    assert filled_form(client, page(alice))["email"] == alice.email


def test_who_joins_or_leaves_a_group_is_known_at_once(client, olga, alice, django_capture_on_commit_callbacks):
    client.force_login(olga)
    group, raw = Group.objects.get(name="analyst"), api_key(alice)

    def sees_statistics():
        return caller_for_key(raw).has_perm("analytics.view_dailystat")

    assert not sees_statistics()
    with django_capture_on_commit_callbacks(execute=True):
        save(client, page(alice), groups=[str(group.pk)], is_staff="on")
    assert sees_statistics()
    with django_capture_on_commit_callbacks(execute=True):
        save(client, page(group), permissions=[])
    assert not sees_statistics()


# Analysts ------------------------------------------------------------------------------------------------------------


def test_an_analyst_sees_the_dashboard_and_no_link_that_is_refused(as_role):
    analyst = as_role("analyst")

    answer = analyst.get("/admin/")

    assert "Last 7 days" in answer.content.decode()
    assert page(Request, "changelist") not in answer.content.decode()
    DailyStat.objects.create(day="2026-01-01", request_type="llm", model="m", requests=1)
    assert "2026-01-01" in analyst.get(page(DailyStat, "changelist")).content.decode()


def test_support_sees_no_figures_of_the_house(as_role):
    answer = as_role("support").get("/admin/")

    assert "What you may open is in the sidebar." in answer.content.decode()
    assert "spans" not in answer.context


@pytest.mark.parametrize(("role", "status"), [("operator", 200), ("analyst", 200), ("support", 403)])
def test_the_statistics_over_the_api_go_by_the_role(api, db, role, status):
    assert api(member(role)).get("/api/v1/analytics/daily-stats").status_code == status
    assert api(UserFactory(is_staff=True)).get("/api/v1/analytics/daily-stats").status_code == 403
