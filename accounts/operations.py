"""A migration operation that other applications use, too."""

from __future__ import annotations

from django.db.migrations.operations import RunSQL


class FollowMerges(RunSQL):
    """Rows that are inserted into `table` for a user who was merged meanwhile become those of the user it became.

    The trigger locks the user until the row is committed, so that a merge either sees the row or is seen by it. For an
    erased user nothing can be written any more. The table must have a column `user_id`; the function that the trigger
    calls is made in migration 0006 of `accounts`.
    """

    def __init__(self, table: str) -> None:
        name = f"{table}_follow_merge"
        super().__init__(
            f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION accounts_follow_merge()",
            f"DROP TRIGGER {name} ON {table}",
        )
