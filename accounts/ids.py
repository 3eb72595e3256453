from datetime import datetime
from uuid import UUID

import uuid_utils.compat


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): new rows land at the end of their index."""
    return uuid_utils.compat.uuid7()


# The `lookup_value_regex` of view sets: anything else is a 404 before the database is asked.
UUID_PATTERN = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def uuid7_floor(instant: datetime) -> UUID:
    """What no id that is made at `instant` or later is below, and all that were made before are."""
    return UUID(int=int(instant.timestamp() * 1000) << 80)
