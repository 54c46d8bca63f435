//! `docs/reference/errors.md`, generated from the table.

use std::fmt::Write as _;

use crate::error::table::{ErrorReason, Scope, code_name};

/// The text before the table.
const ABOUT: &str = "\
# Errors

Generated from the table in `crates/server/src/error/table.rs`. A test compares the two.

Every error carries a `google.rpc.ErrorInfo` with the domain `blip.v1` and one of the reasons below.
Its metadata contain the `field`, `value`, `limit` and `cause` of the message. Other details are:

- `google.rpc.BadRequest` names the invalid field of a request.
- `google.rpc.RetryInfo` contains the delay before a retry, if it is known.
- `google.rpc.RequestInfo` contains the id of the request, which the response has in `x-request-id`
  ([tracing](../operations/tracing.md#request-ids)).

An error of *an item* is the `error` of one response, such as `AskResponse`. The other items of the
call are processed. An error of *the call* is the status with which the call ends.

Faults below gRPC have no `ErrorInfo`, because they are not part of a call: headers that are too
long (HTTP status 431), streams above the limit (`REFUSED_STREAM`), streams whose client takes no
data (`CANCEL`), and connections that the server closes (`GOAWAY`). A request to the gRPC port that
is no gRPC call has the HTTP status below, in addition to the gRPC status.

Over HTTP, an error of *the call* is a problem document (RFC 9457, `application/problem+json`) with
the HTTP status below. `request_id` contains the id of the request. The header `Retry-After`
contains the delay before a retry, if it is known. An error of *an item* is a `null` among the
results and an entry in `errors`, in a response of status 200.

| reason | gRPC code | HTTP | of | retry | message | remedy |
| --- | --- | --- | --- | --- | --- | --- |
";

/// Returns the content of `docs/reference/errors.md`.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(ABOUT);
    for reason in ErrorReason::ALL {
        let spec = reason.spec();
        let scope = match spec.scope {
            Scope::Call => "the call",
            Scope::Item => "an item",
            Scope::Either => "either",
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {scope} | {} | {} | {} |",
            spec.name,
            code_name(spec.code),
            spec.http,
            if spec.retryable { "yes" } else { "no" },
            spec.template,
            spec.remedy
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::assert_committed;

    #[test]
    fn documentation_equals_committed_file() {
        assert_committed("docs/reference/errors.md", &documentation());
    }
}
