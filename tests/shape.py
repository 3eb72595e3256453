"""The one shape of every error, strictly."""

import re
from typing import Any

TYPES = {
    *("invalid_request_error", "authentication_error", "permission_error", "not_found_error", "conflict_error"),
    *("rate_limit_error", "insufficient_quota", "api_error"),
}
CODE = re.compile(r"[a-z][a-z0-9_]*")


def error_of(answer: Any, status: int | None = None) -> dict[str, Any]:
    """The error in an answer, after everything about its form has been asserted."""
    if status is not None:
        assert answer.status_code == status, (answer.status_code, answer.content[:500])
    assert 400 <= answer.status_code < 600
    assert answer.headers["Content-Type"] == "application/json"
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["X-Request-ID"])
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() - {"errors"} == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["type"] in TYPES
    assert CODE.fullmatch(error["code"]), error
    assert error["param"] is None or (isinstance(error["param"], str) and error["param"])
    if "errors" in error:
        assert error["errors"]
        for found in error["errors"]:
            assert found.keys() == {"param", "message", "code"}
            assert CODE.fullmatch(found["code"]), error
        assert error["errors"][0] == {name: error[name] for name in ("param", "message", "code")}
    assert "Traceback" not in answer.content.decode()
    return error
