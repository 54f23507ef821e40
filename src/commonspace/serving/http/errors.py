"""What goes wrong with a request, by status: raised anywhere below, said in each interface's own words."""

from __future__ import annotations


class Refused(Exception):
    """A request that gets no vector. `field` names what in it was wrong, "" for the request as a whole."""

    status = 400

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message, self.field = message, field


class Unauthorised(Refused):
    """No token, or another one."""

    status = 401


class NotFound(Refused):
    """A path or model that is not served."""

    status = 404


class WrongMethod(Refused):
    """A path that is asked otherwise."""

    status = 405


class TooSlow(Refused):
    """A body that did not come in time."""

    status = 408


class TooLarge(Refused):
    """A body beyond the limit."""

    status = 413


class Busy(Refused):
    """More contents are waiting than may; the same request may do later."""

    status = 503


# google.rpc.Code by status, for the Gemini form.
CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    405: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
# What the OpenAI form calls them.
TYPES = {401: "authentication_error", 404: "not_found_error", 500: "server_error", 503: "server_error"}


def openai_error(status: int, message: str, field: str) -> dict[str, object]:
    """The body of an error in the OpenAI form."""
    kind = TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": field or None, "code": None}}


def gemini_error(status: int, message: str, field: str) -> dict[str, object]:
    """The body of an error in the Gemini form."""
    told = f"{field}: {message}" if field and not message.startswith(field) else message
    return {"error": {"code": status, "message": told, "status": CODES.get(status, "UNKNOWN")}}
