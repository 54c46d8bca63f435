//! The one error table: every way in which a call or one of its pairs can be refused, with its gRPC code, its reason,
//! its HTTP status and whether trying again helps. `docs/errors.md` is generated from it.

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

/// The `domain` of every `google.rpc.ErrorInfo` that this server sends.
pub const DOMAIN: &str = "blip.v1";

/// What an error refuses: the whole call, one (image, question) pair of it, or either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The call ends with this status.
    Call,
    /// One `AskResponse` carries it; the call goes on.
    Pair,
    /// One or the other, depending on when it happens.
    Either,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `ErrorInfo.reason`: stable, upper snake case, unique within [`DOMAIN`].
    pub name: &'static str,
    /// The gRPC status code.
    pub code: Code,
    /// The status of the same refusal over HTTP.
    pub http: u16,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// What is refused.
    pub scope: Scope,
    /// The message, with `{field}`, `{value}`, `{limit}` and `{cause}` to be filled in.
    pub template: &'static str,
    /// What the caller can do about it, for the documentation.
    pub remedy: &'static str,
}

macro_rules! error_table {
    ($($reason:ident = $name:literal, $code:ident, $http:literal, $retryable:literal, $scope:ident,
       $template:literal, $remedy:literal;)*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $template] $reason,)*
        }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$reason),*];

            /// This reason's row of the table.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$reason => Row {
                        name: $name, code: Code::$code, http: $http, retryable: $retryable, scope: Scope::$scope,
                        template: $template, remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

error_table! {
    EmptyRequest = "EMPTY_REQUEST", InvalidArgument, 400, false, Call,
        "{field} is empty", "Send at least one image with at least one question.";
    NoQuestions = "NO_QUESTIONS", InvalidArgument, 400, false, Call,
        "{field} is empty", "Ask at least one question about every image sent.";
    TooManyImages = "TOO_MANY_IMAGES", InvalidArgument, 400, false, Call,
        "{field} holds {value}, the limit is {limit}", "Split the request.";
    TooManyQuestions = "TOO_MANY_QUESTIONS", InvalidArgument, 400, false, Call,
        "{field} holds {value}, the limit is {limit}", "Split the request.";
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, 413, false, Call,
        "the request message is {value} long, the limit is {limit}", "Split the request or send smaller images.";
    InvalidDeadline = "INVALID_DEADLINE", InvalidArgument, 400, false, Call,
        "{field} {value} is not 1 to 8 digits and a unit of H, M, S, m, u or n", "Let the gRPC library set the deadline.";
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, 504, true, Either,
        "the deadline passed before the answer was ready", "Allow more time, or ask less at once.";
    DeadlineUnreachable = "DEADLINE_UNREACHABLE", ResourceExhausted, 429, true, Pair,
        "the queue is too long for the answer to be ready before the deadline", "Wait as RetryInfo says, or allow more time.";
    ServerBusy = "SERVER_BUSY", ResourceExhausted, 429, true, Call,
        "the server holds {value}, the limit is {limit}", "Wait as RetryInfo says.";
    QueueFull = "QUEUE_FULL", ResourceExhausted, 429, true, Pair,
        "the queue is full: {cause}", "Wait as RetryInfo says.";
    PreprocessingBusy = "PREPROCESSING_BUSY", ResourceExhausted, 429, true, Pair,
        "too many images wait to be decoded", "Wait as RetryInfo says.";
    ModelLoading = "MODEL_LOADING", Unavailable, 503, true, Call,
        "the model is still loading", "Wait until grpc.health.v1 says SERVING.";
    ShuttingDown = "SHUTTING_DOWN", Unavailable, 503, true, Either,
        "the server is shutting down", "Ask another server, or this one once it is back.";
    EngineBroken = "ENGINE_BROKEN", Unavailable, 503, true, Either,
        "the engine has stopped: {cause}", "Ask another server; this one ends itself.";
    ImageMissing = "IMAGE_MISSING", InvalidArgument, 400, false, Pair,
        "{field} has no source", "Set data (or url).";
    ImageUrlUnsupported = "IMAGE_URL_UNSUPPORTED", Unimplemented, 501, false, Pair,
        "{field} is not served: this version fetches no images", "Send the image's bytes in data.";
    ImageEmpty = "IMAGE_EMPTY", InvalidArgument, 400, false, Pair,
        "{field} is empty", "Send the whole file.";
    ImageTooLarge = "IMAGE_TOO_LARGE", InvalidArgument, 413, false, Pair,
        "{field} is {value} long, the limit is {limit}", "Compress the image or scale it down.";
    ImageTooManyPixels = "IMAGE_TOO_MANY_PIXELS", InvalidArgument, 413, false, Pair,
        "{field} is too large to decode: {cause}", "Scale the image down.";
    ImageFormatUnknown = "IMAGE_FORMAT_UNKNOWN", InvalidArgument, 415, false, Pair,
        "{field} cannot be decoded: {cause}", "Send PNG, JPEG, WebP, GIF, BMP or TIFF.";
    ImageUnreadable = "IMAGE_UNREADABLE", InvalidArgument, 422, false, Pair,
        "{field} cannot be decoded: {cause}", "Check that the file is whole.";
    QuestionEmpty = "QUESTION_EMPTY", InvalidArgument, 400, false, Pair,
        "{field} holds no text", "Ask something.";
    QuestionTooLong = "QUESTION_TOO_LONG", InvalidArgument, 413, false, Pair,
        "{field} is {value} long, the limit is {limit}", "Ask more briefly.";
    QuestionUnreadable = "QUESTION_UNREADABLE", InvalidArgument, 422, false, Pair,
        "{field} cannot be tokenized: {cause}", "Rephrase the question.";
    EngineRefused = "ENGINE_REFUSED", Internal, 500, false, Pair,
        "the model cannot answer this pair: {cause}", "Report it, with the image and the question.";
    EngineFailed = "ENGINE_FAILED", Internal, 500, true, Pair,
        "the model failed: {cause}", "Try again.";
    EngineOutOfMemory = "ENGINE_OUT_OF_MEMORY", ResourceExhausted, 503, true, Pair,
        "the device has no memory left for this pair: {cause}", "Wait as RetryInfo says.";
    InternalError = "INTERNAL_ERROR", Internal, 500, true, Either,
        "internal error: {cause}", "Report it.";
}

/// One refusal: a reason with the particulars that its template and its `ErrorInfo.metadata` name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct Refusal {
    reason: Reason,
    field: Option<String>,
    value: Option<String>,
    limit: Option<String>,
    cause: Option<String>,
    retry_after: Option<Duration>,
}

/// Longest piece of a caller's own text, or of a library's error, that is given back in a message, in characters.
/// A call's status travels in HTTP/2 headers, which clients limit to 8 KiB.
const MAX_ECHO_CHARS: usize = 200;

impl Refusal {
    /// A refusal without particulars.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, field: None, value: None, limit: None, cause: None, retry_after: None }
    }

    /// Names the field of the request at fault, such as `inputs[0].image.data`.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// What was found, with its unit.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(excerpt(value.into()));
        self
    }

    /// What would be allowed, with its unit.
    #[must_use]
    pub fn limit(mut self, limit: impl Into<String>) -> Self {
        self.limit = Some(limit.into());
        self
    }

    /// What went wrong underneath.
    #[must_use]
    pub fn cause(mut self, cause: impl ToString) -> Self {
        self.cause = Some(excerpt(cause.to_string()));
        self
    }

    /// When trying again can help; becomes a `google.rpc.RetryInfo`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    fn particulars(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [("field", &self.field), ("value", &self.value), ("limit", &self.limit), ("cause", &self.cause)]
            .into_iter()
            .filter_map(|(name, text)| text.as_deref().map(|text| (name, text)))
    }

    /// The template with its particulars filled in.
    #[must_use]
    pub fn message(&self) -> String {
        let mut message = String::new();
        let mut rest = self.reason.row().template;
        // One pass, so that braces inside a caller's text are never taken for a placeholder.
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            message.push_str(before);
            message.push_str(
                self.particulars().find(|(known, _)| *known == name).map_or("unknown", |(_, text)| text),
            );
            rest = after;
        }
        message.push_str(rest);
        message
    }

    /// The status of a call: code, message, and details in `grpc-status-details-bin`.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let row = self.reason.row();
        let message = self.message();
        let metadata: HashMap<String, String> =
            self.particulars().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(row.name, DOMAIN, metadata);
        if let (Some(field), Code::InvalidArgument | Code::Unimplemented) = (&self.field, row.code) {
            details.add_bad_request_violation(field, &message);
        }
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(row.code, message, details)
    }

    /// The same as a message, for one pair of a call.
    #[must_use]
    pub fn to_rpc_status(&self) -> pb::Status {
        let status = self.to_status();
        let plain = || pb::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: vec![],
        };
        pb::Status::decode(status.details()).unwrap_or_else(|_| plain())
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.to_status()
    }
}

fn excerpt(text: String) -> String {
    match text.char_indices().nth(MAX_ECHO_CHARS) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// `docs/errors.md`, whole.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         Generated from the table in `crates/serve/src/errors.rs`; a test compares the two.\n\n\
         Every error carries a `google.rpc.ErrorInfo` with domain `blip.v1` and one of the reasons below; its metadata\n\
         hold the `field`, `value`, `limit` and `cause` that the message names. A field at fault is also named in a\n\
         `google.rpc.BadRequest`; where waiting helps and the wait is known, a `google.rpc.RetryInfo` says how long.\n\n\
         An error *of a pair* is the `error` of one `AskResponse`: the other pairs of the call are answered. An error *of\n\
         the call* is the status that the call ends with.\n\n\
         | reason | gRPC code | HTTP | of | try again | message | what to do |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for reason in Reason::ALL {
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

/// A code as the gRPC specification spells it: `INVALID_ARGUMENT`.
#[must_use]
pub fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_reason_has_a_unique_well_formed_name_of_at_most_63_characters() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.row().name).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for name in names {
            assert!(name.len() <= 63 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{name}");
        }
    }

    #[test]
    fn every_template_names_only_particulars_that_a_refusal_has() {
        for reason in Reason::ALL {
            let refusal = Refusal::new(*reason).field("FIELD").value("VALUE").limit("LIMIT").cause("CAUSE");
            let message = refusal.message();
            assert!(!message.contains(['{', '}']) && !message.contains("unknown"), "{message}");
            assert!(
                !message.ends_with('.')
                    && message.starts_with(|c: char| !c.is_uppercase() || "FVLC".contains(c))
            );
        }
    }

    #[test]
    fn codes_agree_with_the_http_status_and_with_retrying() {
        for reason in Reason::ALL {
            let row = reason.row();
            let same_family = match row.code {
                Code::InvalidArgument => (400..500).contains(&row.http) && !row.retryable,
                Code::ResourceExhausted => [413, 429, 503].contains(&row.http),
                Code::Unavailable => row.http == 503 && row.retryable,
                Code::DeadlineExceeded => row.http == 504 && row.retryable,
                Code::Unimplemented => row.http == 501 && !row.retryable,
                Code::Internal => row.http == 500,
                _ => false,
            };
            assert!(same_family, "{row:?}");
            // A library cancels; a server says what happened.
            assert!(![Code::Cancelled, Code::Unknown, Code::Ok].contains(&row.code));
        }
    }

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

    #[test]
    fn a_status_carries_reason_domain_field_and_retry_delay() {
        let status = Refusal::new(Reason::ImageTooLarge)
            .field("inputs[3].image.data")
            .value("9 bytes")
            .limit("8 bytes")
            .retry_after(Duration::from_millis(1500))
            .to_status();
        assert_eq!(status.message(), "inputs[3].image.data is 9 bytes long, the limit is 8 bytes");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("IMAGE_TOO_LARGE", DOMAIN));
        assert_eq!(info.metadata.get("limit").map(String::as_str), Some("8 bytes"));
        assert_eq!(
            details.bad_request().unwrap().field_violations.first().unwrap().field,
            "inputs[3].image.data"
        );
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_status_of_a_pair_holds_the_same_details_as_that_of_a_call() {
        use tonic_types::RpcStatusExt as _;
        let refusal = Refusal::new(Reason::QuestionEmpty).field("inputs[0].questions[1].text");
        let (call, pair) = (refusal.to_status(), refusal.to_rpc_status());
        assert_eq!((pair.code, pair.message.as_str()), (call.code() as i32, call.message()));
        let (pair, call) = (pair.get_error_details_vec(), call.get_error_details_vec());
        assert_eq!((pair.len(), format!("{pair:?}")), (2, format!("{call:?}")));
    }

    proptest! {
        #[test]
        fn no_text_of_a_caller_makes_a_message_long_or_is_taken_for_a_placeholder(text in "\\PC{0,2000}") {
            let status = Refusal::new(Reason::ImageUnreadable).field("{cause}").cause(&text).to_status();
            let begins_right = status.message().starts_with("{cause} cannot be decoded: ");
            prop_assert!(begins_right);
            prop_assert!(status.message().chars().count() < 300);
        }
    }
}
