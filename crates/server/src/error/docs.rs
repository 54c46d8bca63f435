//! `docs/errors.md`, generated from the table.

use std::fmt::Write as _;

use crate::error::{ErrorReason, Scope, code_name};

/// `docs/errors.md`, whole.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Generated from the table in `crates/serve/src/errors/table.rs`; a test compares the two.\n\n\
         Every error carries a `google.rpc.ErrorInfo` with domain `blip.v1` and one of the reasons below; its metadata\n\
         hold the `field`, `value`, `limit` and `cause` that the message names. A field at fault is also named in a\n\
         `google.rpc.BadRequest`; where waiting helps and the wait is known, a `google.rpc.RetryInfo` says how long. A\n\
         `google.rpc.RequestInfo` holds the request's id, the one in the response's `x-request-id` (docs/tracing.md).\n\n\
         An error *of a pair* is the `error` of one `AskResponse`: the other pairs of the call are answered. An error *of\n\
         the call* is the status that the call ends with.\n\n\
         Over HTTP an error *of the call* is a problem document (RFC 9457, `application/problem+json`) with the HTTP\n\
         status below and the request's id in `request_id`; where the wait is known, a `Retry-After` header says how long. An error *of a pair* is a `null`\n\
         among the answers and an entry in `errors`, in a response of status 200.\n\n\
         | reason | gRPC code | HTTP | of | try again | message | what to do |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for reason in ErrorReason::ALL {
        let row = reason.row();
        let scope = match row.scope {
            Scope::Call => "the call",
            Scope::Pair => "a pair",
            Scope::Either => "either",
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {scope} | {} | {} | {} |",
            row.name,
            code_name(row.code),
            row.http,
            if row.retryable { "yes" } else { "no" },
            row.template,
            row.remedy
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_documentation_equals_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, documentation()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == documentation(),
            "docs/errors.md is stale: run UPDATE_DOCS=1 cargo test documentation"
        );
    }
}
