"""Sessions and blacklisted tokens in the admin: what the lists say, what ends, and who may end it."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from accounts import tokens
from accounts.exceptions import DomainError
from accounts.models import AuditEvent, BlacklistedToken, Session
from accounts.tests.factories import UserFactory
from tests.admin import act, messages, page

SESSIONS = page(Session, "changelist")
TOKENS = page(BlacklistedToken, "changelist")
BLACKLIST = page(BlacklistedToken, "blacklist")
ME = "/api/v1/users/me"


@pytest.fixture
def operator(client, olga):
    client.force_login(olga)
    return client


@pytest.fixture
def committing(django_capture_on_commit_callbacks):
    """What waits for the commit runs when the block ends: tests do not commit."""
    return lambda: django_capture_on_commit_callbacks(execute=True)


def sign_in(user, device="Laptop", **fields):
    return tokens.sign_in(**{"user": user, "ip": "10.1.2.3", "user_agent": "Browser/1.0", "device": device} | fields)


def session_on(device):
    return Session.objects.get(device=device)


def staff_who_may(client, *codes):
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    client.force_login(user)
    return user


def listed(client, address=SESSIONS, **query):
    return list(client.get(address, query).context["cl"].result_list)


def end_chosen(client, *chosen):
    return client.post(SESSIONS, {"action": "revoke_chosen", "_selected_action": [str(one.pk) for one in chosen]})


# The list of sessions -------------------------------------------------------------------------------------------------


def test_the_list_says_who_is_signed_in_where(operator, alice):
    sign_in(alice, user_agent="Browser/1.0 " + "x" * 200)

    html = operator.get(SESSIONS).content.decode()

    for text in ("alice@example.com", "Laptop", "Browser/1.0", "10.1.2.3", "live", "Sign out everywhere"):
        assert text in html
    assert "x" * 100 not in html
    assert "x" * 200 in operator.get(page(Session.objects.get())).content.decode()


def test_each_state_is_named_and_can_be_filtered_for(operator, alice, olga):
    for device in ("live", "ended", "expired"):
        sign_in(alice, device)
    act(operator, session_on("ended"), "revoke")
    Session.objects.filter(device="expired").update(expires_at=timezone.now() - timedelta(seconds=1))

    for state, word in (("live", "live"), ("ended", "revoked"), ("expired", "expired")):
        session = session_on(state)
        assert listed(operator, state=state) == [session]
        assert f">{word}<" in "".join(operator.get(page(session)).content.decode().split())
    assert len(listed(operator)) == 3


@pytest.mark.parametrize("term", ["alice", "Phone", "10.9.9.9", "id"])
def test_a_session_is_found(operator, alice, bob, term):
    sign_in(bob)
    sign_in(alice, "Phone", ip="10.9.9.9")
    session = session_on("Phone")

    assert listed(operator, q=str(session.pk) if term == "id" else term) == [session]


def test_an_empty_list_offers_nothing_that_cannot_be_done(operator):
    assert "Nothing here yet" in operator.get(SESSIONS).content.decode()
    searched = operator.get(SESSIONS, {"q": "nobody"}).content.decode()
    assert "No session matches" in searched
    assert "Add session" not in searched


def test_nobody_adds_changes_or_deletes_one(operator, alice):
    sign_in(alice)
    session = Session.objects.get()

    assert operator.get(page(Session, "add")).status_code == 403
    assert operator.post(page(session), {"device": "Mine"}).status_code == 403
    assert operator.post(page(session, "delete"), {"post": "yes"}).status_code == 403
    assert session_on("Laptop") == session


# Ending them ----------------------------------------------------------------------------------------------------------


def test_a_session_that_is_ended_is_refused_at_once(operator, olga, api, alice, committing):
    ended, other = sign_in(alice), sign_in(alice, "Phone")
    assert api(ended.access).get(ME).status_code == 200

    with committing():
        answer = act(operator, session_on("Laptop"), "revoke")

    assert messages(answer, operator) == ["The session has ended."]
    assert api(ended.access).get(ME).status_code == 401
    assert api().post("/api/v1/auth/token/refresh", {"refresh": ended.refresh}).status_code == 401
    assert api(other.access).get(ME).status_code == 200
    session = session_on("Laptop")
    assert session.revoked_reason == "revoked"
    event = AuditEvent.objects.get(action="session.revoked")
    assert (event.actor_id, event.target_id, event.ip) == (olga.pk, str(session.pk), "127.0.0.1")


def test_opening_the_dialog_ends_nothing(operator, alice):
    sign_in(alice)

    assert operator.get(page(Session.objects.get(), "revoke")).status_code == 200

    assert Session.objects.live().exists()


@pytest.mark.parametrize("state", ["ended", "expired"])
def test_what_is_over_is_not_offered_to_be_ended(operator, alice, state):
    sign_in(alice)
    session = Session.objects.get()
    if state == "ended":
        act(operator, session, "revoke")
    else:
        Session.objects.update(expires_at=timezone.now() - timedelta(seconds=1))

    assert page(session, "revoke") not in operator.get(page(session)).content.decode()
    assert operator.post(page(session, "revoke"), {"_form_submitted": "on"}).status_code == 403


def test_several_are_ended_at_once_and_only_those(operator, alice, bob):
    for user, device in ((alice, "one"), (bob, "two"), (bob, "three")):
        sign_in(user, device)
    end_chosen(operator, session_on("one"))

    answer = end_chosen(operator, session_on("one"), session_on("two"))

    assert messages(answer, operator) == ["1 session ended."] * 2
    assert [session.device for session in Session.objects.live()] == ["three"]
    assert AuditEvent.objects.filter(action="session.revoked").count() == 2


@pytest.mark.parametrize("right", ["support_user", "change_session"])
def test_either_right_lets_one_end_those_of_users_but_not_of_staff(client, alice, olga, right):
    sign_in(alice, "user's")
    sign_in(olga, "staff's")
    staff_who_may(client, "view_session", right)

    assert client.post(page(session_on("staff's"), "revoke"), {"_form_submitted": "on"}).status_code == 403
    end_chosen(client, session_on("staff's"))
    assert Session.objects.live().count() == 2
    act(client, session_on("user's"), "revoke")
    assert [session.device for session in Session.objects.live()] == ["staff's"]


def test_who_may_only_look_ends_nothing(client, alice):
    sign_in(alice)
    session = Session.objects.get()
    staff_who_may(client, "view_session")

    assert page(session, "revoke") not in client.get(page(session)).content.decode()
    assert client.get(page(session, "revoke")).status_code == 403
    assert client.post(page(session, "revoke"), {"_form_submitted": "on"}).status_code == 403
    end_chosen(client, session)
    assert Session.objects.live().exists()


# Blacklisted tokens ---------------------------------------------------------------------------------------------------


def blacklist(client, text):
    headers = {"HX-Current-URL": f"http://x{TOKENS}"}
    return client.post(BLACKLIST, {"_form_submitted": "on", "token": text}, headers=headers)


def test_a_pasted_access_token_is_refused_at_once_and_its_session_goes_on(operator, olga, api, alice, committing):
    signed_in = sign_in(alice)
    assert api(signed_in.access).get(ME).status_code == 200

    with committing():
        answer = blacklist(operator, f"  {signed_in.access}\n")

    assert messages(answer, operator) == ["The token is blacklisted."]
    assert api(signed_in.access).get(ME).status_code == 401
    renewed = tokens.refresh(signed_in.refresh, ip=None, user_agent="")
    assert api(renewed.access).get(ME).status_code == 200
    row = BlacklistedToken.objects.get(token_type="access")
    assert (row.session.user, row.reason, row.revoked_by) == (alice, "revoked", olga.pk)
    event = AuditEvent.objects.get(action="session.token_blacklisted")
    assert (event.actor_id, event.target_id, event.metadata) == (olga.pk, str(row.session_id), {})


@pytest.mark.parametrize("kind", ["nothing", "nonsense", "changed", "refresh"])
def test_what_is_no_good_access_token_is_explained_at_the_field(operator, alice, kind):
    signed_in = sign_in(alice)
    pasted = {"nothing": "", "nonsense": "abc", "changed": f"{signed_in.access[:-3]}abc", "refresh": signed_in.refresh}

    answer = blacklist(operator, pasted[kind])

    assert answer.status_code == 200
    sentence = "This field is required." if kind == "nothing" else "The token is"
    assert sentence in answer.content.decode()
    assert not BlacklistedToken.objects.exists()
    assert not AuditEvent.objects.filter(action="session.token_blacklisted").exists()


def test_the_token_itself_is_kept_nowhere(operator, alice):
    text = sign_in(alice).access

    blacklist(operator, text)

    row = BlacklistedToken.objects.get()
    html = "".join(operator.get(address).content.decode() for address in (TOKENS, page(row)))
    assert row.jti in html
    assert text not in html


def test_the_list_and_the_page_say_whose_and_by_whom(operator, olga, alice):
    signed_in = sign_in(alice)
    blacklist(operator, signed_in.access)
    act(operator, Session.objects.get(), "revoke")

    assert {token.token_type for token in listed(operator, TOKENS)} == {"access", "refresh"}
    row = BlacklistedToken.objects.get(token_type="access")
    assert listed(operator, TOKENS, q=row.jti) == listed(operator, TOKENS, q=str(row.pk)) == [row]
    assert len(listed(operator, TOKENS, q="ALICE@")) == 2
    assert listed(operator, TOKENS, token_type__exact="access") == [row]
    html = operator.get(page(row)).content.decode()
    for link in (page(alice), page(row.session), page(olga)):
        assert f'href="{link}"' in html


def test_a_token_that_no_person_blacklisted_has_a_page(operator, alice):
    first = sign_in(alice)
    tokens.refresh(first.refresh, ip=None, user_agent="")
    Session.objects.update(rotated_at=timezone.now() - timedelta(hours=1))
    with pytest.raises(DomainError):
        tokens.refresh(first.refresh, ip=None, user_agent="")
    row = BlacklistedToken.objects.get()

    assert row.reason == "token_reused"
    assert operator.get(page(row)).status_code == 200


def test_without_the_right_no_token_is_blacklisted(client, alice):
    signed_in = sign_in(alice)
    staff_who_may(client, "view_blacklistedtoken", "change_blacklistedtoken", "support_user")

    assert BLACKLIST not in client.get(TOKENS).content.decode()
    assert client.get(BLACKLIST).status_code == 403
    assert blacklist(client, signed_in.access).status_code == 403
    assert not BlacklistedToken.objects.exists()
