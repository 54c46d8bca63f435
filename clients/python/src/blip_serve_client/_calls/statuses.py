"""Errors from statuses of the server and of gRPC."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc

from .._proto import error_details_pb2, status_pb2
from ..errors import (
    AuthenticationError,
    BlipError,
    CallError,
    ConnectionFailedError,
    DeadlineExceededError,
    ItemError,
)
from ..reasons import REMEDIES
from .remedies import connection_remedy

_ErrorT = TypeVar("_ErrorT", bound=BlipError)
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_DETAILS = "grpc-status-details-bin"
_KINDS: dict[str, type[CallError]] = {
    "UNAUTHENTICATED": AuthenticationError,
    "PERMISSION_DENIED": AuthenticationError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "UNAVAILABLE": ConnectionFailedError,
}
# An error with these codes and without details does not come from the server: a connection was
# lost, perhaps one of a proxy.
_LOST = {"UNAVAILABLE", "INTERNAL", "UNKNOWN", "CANCELLED"}
#: Reasons that mean that the server does not serve at present.
NOT_SERVING = {"MODEL_LOADING", "SHUTTING_DOWN", "ENGINE_BROKEN"}


def item_error(status: status_pb2.Status) -> ItemError:
    """Returns the error of an item."""
    return _from_status(status, ItemError)


def call_error_of_item(error: ItemError) -> CallError:
    """Returns the error of an item as the error of its call."""
    kind = _KINDS.get(error.code, CallError)
    call_error = kind(error.message)
    call_error.__dict__.update(error.__dict__)
    return call_error


def item_error_of_call(error: CallError) -> ItemError:
    """Returns the error of a call as the error of one of its items."""
    item = ItemError(error.message)
    item.__dict__.update(error.__dict__)
    return item


def call_error(error: Any) -> CallError:
    """Returns the error of a call from the `grpc.RpcError` that ended it."""
    code = error.code().name
    details = dict(error.trailing_metadata() or ()).get(_DETAILS)
    if details is not None:
        return _from_status(status_pb2.Status.FromString(details), _KINDS.get(code, CallError))
    kind = ConnectionFailedError if code in _LOST else _KINDS.get(code, CallError)
    message = error.details() or "the call failed"
    return kind(message, code=code, remedy=connection_remedy(message))


def ended_early() -> CallError:
    """Returns the error of a call that ended without results for some of its items."""
    return ConnectionFailedError(
        "the call ended before all results were received", code="UNAVAILABLE"
    )


def retry_delay_s(error: BlipError) -> float | None:
    """Returns the least delay before a retry, or None if a retry cannot succeed."""
    if error.retry_delay_s is not None:
        return error.retry_delay_s
    is_lost = isinstance(error, ConnectionFailedError) and not error.reason
    return 0.0 if is_lost or error.reason in NOT_SERVING | {"UPLOAD_STALLED"} else None


def _from_status(status: status_pb2.Status, kind: type[_ErrorT]) -> _ErrorT:
    error = kind(status.message, code=_CODES.get(status.code, str(status.code)))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    bad_request, request = error_details_pb2.BadRequest(), error_details_pb2.RequestInfo()
    for detail in status.details:
        if detail.Unpack(info):
            error.reason, error.metadata = info.reason, dict(info.metadata)
            error.remedy = REMEDIES.get(info.reason, "")
        elif detail.Unpack(retry):
            error.retry_delay_s = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Unpack(bad_request) and bad_request.field_violations:
            error.field = bad_request.field_violations[0].field
        elif detail.Unpack(request):
            error.request_id = request.request_id
    return error
