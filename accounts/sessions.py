"""Sessions: what begins with a sign-in, goes on with each refresh, and ends for all of its tokens at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.caller import Caller
from accounts.exceptions import Conflict, NotAuthenticated, NotFound
from accounts.models import AuditEvent, BlacklistedToken, Session, User
from accounts.snapshots import drop_snapshots

Reason = Session.Reason

# Two tabs of one browser may send the same refresh token at the same moment. The second one gets nothing, but for so
# long it is not taken for a thief, which would sign out the first.
CONCURRENT_USE = timedelta(seconds=10)


def open_session(
    *,
    session_id: UUID,
    user: User,
    refresh_jti: str,
    expires_at: datetime,
    device: str = "",
    ip: str | None = None,
    user_agent: str = "",
) -> Session:
    """Begin a session with its first refresh token."""
    return Session.objects.create(
        pk=session_id,
        user=user,
        refresh_jti=refresh_jti,
        expires_at=expires_at,
        device=device,
        ip=ip,
        user_agent=user_agent,
    )


def rotate_session(
    *,
    session_id: UUID,
    user_id: UUID,
    old_jti: str,
    new_jti: str,
    expires_at: datetime,
    ip: str | None = None,
    user_agent: str = "",
) -> None:
    """Replace a session's refresh token; of several calls with the same one, exactly one does.

    `NotAuthenticated` if the session has ended. `Conflict` if the token was replaced a moment ago; if it was longer
    ago, somebody has kept a token that they should not have: the whole session ends, and `NotAuthenticated` says so.
    """
    now = timezone.now()
    # No join: Django would put it into a subquery, which PostgreSQL does not look at again when the row has changed.
    owner = User.objects.filter(pk=OuterRef("user_id"), is_active=True)
    live = Session.objects.live(now).filter(Exists(owner), pk=session_id, user_id=user_id)
    if live.filter(refresh_jti=old_jti).update(
        refresh_jti=new_jti,
        previous_jti=F("refresh_jti"),
        rotated_at=now,
        last_seen_at=now,
        expires_at=expires_at,
        ip=ip,
        user_agent=user_agent,
    ):
        return
    session = live.select_related("user").first()
    if session is None:
        raise NotAuthenticated("The session has ended. Sign in again.", code="session_ended")
    if session.previous_jti == old_jti and session.rotated_at and session.rotated_at > now - CONCURRENT_USE:
        raise Conflict("Another call has just exchanged this refresh token.", code="token_already_rotated")
    with transaction.atomic():
        if _end(Session.objects.filter(pk=session_id), Reason.TOKEN_REUSED, by_id=None):
            drop_snapshots(user_id)
            audit.record(
                "session.token_reused",
                by=None,
                target=session,
                status=AuditEvent.Status.FAILURE,
                ip=ip,
                user_agent=user_agent,
            )
    raise NotAuthenticated("This refresh token was used before: the session has ended.", code="token_reused")


def sign_out(*, session_id: UUID, user_id: UUID, by: Caller) -> None:
    """End one session, with the access token that it was asked with."""
    with transaction.atomic():
        ended = _end(Session.objects.filter(pk=session_id, user_id=user_id), Reason.SIGNED_OUT, by_id=by.pk)
        if ended and by.session_id == session_id:
            at_the_latest = timezone.now() + settings.ACCESS_TOKEN_LIFETIME
            _blacklist(
                [(by.token_id, session_id, at_the_latest)], BlacklistedToken.Type.ACCESS, Reason.SIGNED_OUT, by.pk
            )
        if ended:
            drop_snapshots(user_id)
            audit.record("session.signed_out", by=by, target=ended[0])


def revoke_session(*, session_id: UUID, by: Caller | User, user_id: UUID | None = None) -> None:
    """End a session from elsewhere; with `user_id`, only if it is that user's. `NotFound` if there is none."""
    sessions = Session.objects.filter(pk=session_id)
    if user_id is not None:
        sessions = sessions.filter(user_id=user_id)
    with transaction.atomic():
        session = sessions.first()
        if session is None:
            raise NotFound("No such session.")
        if _end(sessions, Reason.REVOKED, by_id=by.pk):
            drop_snapshots(session.user_id)
            audit.record("session.revoked", by=by, target=session)


def revoke_sessions(
    *, user_id: UUID, reason: Session.Reason, by: Caller | User | None, keep: UUID | None = None
) -> int:
    """End all sessions of a user but `keep`, inside the caller's transaction; how many there were."""
    sessions = Session.objects.filter(user_id=user_id)
    ended = _end(
        sessions if keep is None else sessions.exclude(pk=keep), reason, by_id=by.pk if by is not None else None
    )
    if ended:
        drop_snapshots(user_id)
    return len(ended)


def sign_out_everywhere(*, user_id: UUID, by: Caller | User) -> int:
    """End all of a user's sessions, of the API and of the admin; how many of the API there were."""
    with transaction.atomic():
        user = User.objects.select_for_update(no_key=True).filter(pk=user_id).first()
        if user is None:
            raise NotFound("No such user.")
        User.objects.filter(pk=user_id).update(signed_out_at=timezone.now())
        count = revoke_sessions(user_id=user_id, reason=Reason.SIGNED_OUT_EVERYWHERE, by=by)
        drop_snapshots(user_id)
        audit.record("user.signed_out_everywhere", by=by, target=user, sessions=count)
    return count


def blacklist_access_token(*, token_id: str, session_id: UUID, expires_at: datetime, by: Caller | User) -> None:
    """Let a single access token be worth nothing from the next request on; its session goes on."""
    with transaction.atomic():
        session = Session.objects.filter(pk=session_id).first()
        if session is None:
            raise NotFound("No such session.")
        _blacklist([(token_id, session_id, expires_at)], BlacklistedToken.Type.ACCESS, Reason.REVOKED, by.pk)
        drop_snapshots(session.user_id)
        audit.record("session.token_blacklisted", by=by, target=session)


def _end(sessions: QuerySet[Session], reason: Session.Reason, *, by_id: UUID | None) -> list[Session]:
    """End those that have not ended, blacklist their refresh tokens, and answer them."""
    now = timezone.now()
    locked = list(sessions.filter(revoked_at=None).order_by("pk").select_for_update(no_key=True))
    Session.objects.filter(pk__in=[session.pk for session in locked]).update(revoked_at=now, revoked_reason=reason)
    refresh_tokens = [
        (session.refresh_jti, session.pk, session.expires_at) for session in locked if session.expires_at > now
    ]
    _blacklist(refresh_tokens, BlacklistedToken.Type.REFRESH, reason, by_id)
    return locked


def _blacklist(
    tokens: Iterable[tuple[str, UUID, datetime]],
    token_type: BlacklistedToken.Type,
    reason: Session.Reason,
    by_id: UUID | None,
) -> None:
    rows = [
        BlacklistedToken(
            jti=jti,
            session_id=session_id,
            token_type=token_type,
            reason=reason,
            revoked_by=by_id,
            expires_at=expires_at,
        )
        for jti, session_id, expires_at in tokens
    ]
    BlacklistedToken.objects.bulk_create(rows, ignore_conflicts=True)
