//! The one error table: every way in which a call or one of its pairs can be refused, with its gRPC code, its reason,
//! its HTTP status and whether trying again helps.

use tonic::Code;

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
pub struct ErrorSpec {
    /// `ErrorInfo.reason`: stable, upper snake case, unique within [`crate::error::DOMAIN`].
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
        pub enum ErrorReason {
            $(#[doc = $template] $reason,)*
        }

        impl ErrorReason {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$reason),*];

            /// This reason's row of the table.
            #[must_use]
            pub const fn row(self) -> ErrorSpec {
                match self {
                    $(Self::$reason => ErrorSpec {
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
    ModelTaskMismatch = "MODEL_TASK_MISMATCH", InvalidArgument, 400, false, Call,
        "{field} cannot be used: {cause}", "Name a model that does it; ListModels says what each is for.";
    GenerationOutOfRange = "GENERATION_OUT_OF_RANGE", InvalidArgument, 400, false, Call,
        "{field} is {value}, allowed is {limit}", "Choose a value in the range, or leave it to the model.";
    GenerationConflict = "GENERATION_CONFLICT", InvalidArgument, 400, false, Call,
        "{field} does not go with the rest of the request: {cause}", "Leave one of the two out.";
    TagTooLong = "TAG_TOO_LONG", InvalidArgument, 400, false, Call,
        "{field} is {value} long, the limit is {limit}", "Use a shorter tag.";
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, 413, false, Call,
        "the request message is {value} long, the limit is {limit}", "Split the request or send smaller images.";
    UploadStalled = "UPLOAD_STALLED", DeadlineExceeded, 408, true, Call,
        "the request message stood still for {limit}", "Send the message at once.";
    ApiKeyMissing = "API_KEY_MISSING", Unauthenticated, 401, false, Call,
        "this server needs an api key", "Send it as authorization: Bearer, x-api-key or secret_token.";
    ApiKeyInvalid = "API_KEY_INVALID", Unauthenticated, 401, false, Call,
        "the api key is not known", "Ask the operator for a key.";
    RateLimited = "RATE_LIMITED", ResourceExhausted, 429, true, Call,
        "{value} are too many for the api key now, the limit is {limit}", "Wait as RetryInfo says.";
    BurstTooLarge = "BURST_TOO_LARGE", ResourceExhausted, 413, false, Call,
        "{value} are too many for the api key, the limit is {limit}", "Split the request.";
    RouteUnknown = "ROUTE_UNKNOWN", NotFound, 404, false, Call,
        "{value} is not served", "See /docs for what is served over HTTP.";
    MethodRefused = "METHOD_REFUSED", Unimplemented, 405, false, Call,
        "{value} is not among the methods of this path", "Use one of those that the Allow header names.";
    OriginRefused = "ORIGIN_REFUSED", PermissionDenied, 403, false, Call,
        "pages of {value} may not call this server", "Have the origin named in the server's http-cors-origins.";
    MediaTypeRefused = "MEDIA_TYPE_REFUSED", InvalidArgument, 415, false, Call,
        "{field} is {value}, the body has to be {limit}", "Name the body's media type in content-type.";
    BodyUnreadable = "BODY_UNREADABLE", InvalidArgument, 400, false, Call,
        "the request body cannot be read: {cause}", "Check how the body is encoded.";
    PayloadInvalid = "PAYLOAD_INVALID", InvalidArgument, 400, false, Call,
        "{field} is not as expected: {cause}", "See /docs for what a request looks like.";
    PayloadTooManyValues = "PAYLOAD_TOO_MANY_VALUES", InvalidArgument, 400, false, Call,
        "{field} holds {value}, the limit is {limit}", "Split the request.";
    TextsMismatched = "TEXTS_MISMATCHED", InvalidArgument, 400, false, Call,
        "{field} holds {value}, but there must be one for each of the {limit}", "Send one list of questions for each image, in the same order.";
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
    ModelUnknown = "MODEL_UNKNOWN", NotFound, 404, false, Call,
        "{field} is {value}, which is not here: there is {limit}", "Name a model that ListModels tells, or none.";
    AdminOff = "ADMIN_OFF", Unimplemented, 501, false, Call,
        "models of this server cannot be changed while it runs", "Start it with --admin.";
    AdminRequired = "ADMIN_REQUIRED", PermissionDenied, 403, false, Call,
        "this is for administrators", "Use an API key with admin set; without keys, call from the machine itself.";
    ModelNameInvalid = "MODEL_NAME_INVALID", InvalidArgument, 400, false, Call,
        "{field} is {value}, expected {limit}", "Choose another name.";
    ModelSourceRefused = "MODEL_SOURCE_REFUSED", PermissionDenied, 403, false, Call,
        "{field} is {value}, which cannot be loaded: {cause}", "Name a folder below --model-dir, or a model of the hub.";
    ModelOptionInvalid = "MODEL_OPTION_INVALID", InvalidArgument, 400, false, Call,
        "{field} is {value}: {cause}", "Leave it empty, or use one of the values named.";
    ModelLoadFailed = "MODEL_LOAD_FAILED", FailedPrecondition, 424, false, Call,
        "the model cannot be loaded: {cause}", "See to what is wrong; the models are as they were.";
    ModelLast = "MODEL_LAST", FailedPrecondition, 409, false, Call,
        "{value} is the last model, which stays", "Load another one first.";
    TooManyModels = "TOO_MANY_MODELS", ResourceExhausted, 413, false, Call,
        "there are {value} models, the limit is {limit}", "Take one away first.";
    ModelsBusy = "MODELS_BUSY", ResourceExhausted, 429, true, Call,
        "a model is being loaded and another one waits for that", "Wait as RetryInfo says.";
    ImageMissing = "IMAGE_MISSING", InvalidArgument, 400, false, Pair,
        "{field} has no source", "Set data (or url).";
    ImageUrlUnsupported = "IMAGE_URL_UNSUPPORTED", Unimplemented, 501, false, Pair,
        "{field} is not served: this server fetches no images", "Send the image's bytes in data, or a data: URL.";
    FetchingBusy = "FETCHING_BUSY", ResourceExhausted, 429, true, Pair,
        "too many images wait to be fetched", "Wait as RetryInfo says.";
    UrlInvalid = "URL_INVALID", InvalidArgument, 400, false, Pair,
        "{field} cannot be fetched: {cause}", "Send an absolute http, https or data URL.";
    UrlSchemeRefused = "URL_SCHEME_REFUSED", InvalidArgument, 400, false, Pair,
        "{field} has scheme {value}, which is not allowed", "Use https, http or data.";
    UrlCredentialsRefused = "URL_CREDENTIALS_REFUSED", InvalidArgument, 400, false, Pair,
        "{field} has a user name or password, which is not allowed", "Use a URL that needs none, such as a signed one.";
    UrlPortRefused = "URL_PORT_REFUSED", InvalidArgument, 403, false, Pair,
        "{field} has port {value}, which is not allowed", "Use a port that the server's fetch settings allow.";
    UrlHostRefused = "URL_HOST_REFUSED", InvalidArgument, 403, false, Pair,
        "{field} has host {value}, which is not allowed", "Use a domain that the server's fetch settings allow.";
    UrlAddressRefused = "URL_ADDRESS_REFUSED", InvalidArgument, 403, false, Pair,
        "{field} has host {value}, which has no public address", "Use a public host, or have its network allowed.";
    UrlTooManyRedirects = "URL_TOO_MANY_REDIRECTS", FailedPrecondition, 424, false, Pair,
        "{field} redirects too often, the limit is {limit}", "Use the URL that it leads to.";
    UrlInvalidRedirect = "URL_INVALID_REDIRECT", FailedPrecondition, 424, false, Pair,
        "{field} redirects to no valid url", "Use the URL that it should lead to.";
    UrlHostNotFound = "URL_HOST_NOT_FOUND", FailedPrecondition, 424, false, Pair,
        "{field} has host {value}, which is not found", "Check the host's name.";
    UrlConnectionFailed = "URL_CONNECTION_FAILED", Unavailable, 502, true, Pair,
        "{field} could not be read from {value}: {cause}", "Try again, or send the image's bytes in data.";
    UrlTimeout = "URL_TIMEOUT", Unavailable, 504, true, Pair,
        "{field} took too long: {cause} is limited to {limit}", "Try again, or send the image's bytes in data.";
    UrlBadStatus = "URL_BAD_STATUS", FailedPrecondition, 424, false, Pair,
        "{field} was answered with HTTP status {value}", "Check that the URL gives the image to anyone who asks.";
    UrlEncoded = "URL_ENCODED", FailedPrecondition, 424, false, Pair,
        "{field} was answered with content-encoding {value}, which is not allowed",
        "Have its server send the file as it is.";
    UrlTooManyBytes = "URL_TOO_MANY_BYTES", InvalidArgument, 413, false, Pair,
        "{field} is too long, the limit is {limit}", "Compress the image or scale it down.";
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
    CandidateEmpty = "CANDIDATE_EMPTY", InvalidArgument, 400, false, Pair,
        "{field} holds no text", "Leave the candidate out.";
    CandidateTooLong = "CANDIDATE_TOO_LONG", InvalidArgument, 413, false, Pair,
        "{field} is {value} long, the limit is {limit}", "Use shorter candidates.";
    CandidateUnreadable = "CANDIDATE_UNREADABLE", InvalidArgument, 422, false, Pair,
        "{field} cannot be tokenized: {cause}", "Rephrase the candidate.";
    TooManyCandidates = "TOO_MANY_CANDIDATES", InvalidArgument, 413, false, Pair,
        "{field} holds {value}, the limit is {limit}", "Send fewer candidates, or have a list of them configured.";
    CandidatesTwice = "CANDIDATES_TWICE", InvalidArgument, 400, false, Pair,
        "{field} is set, and so are the question's candidates", "Set one of the two.";
    CandidateListUnknown = "CANDIDATE_LIST_UNKNOWN", InvalidArgument, 400, false, Pair,
        "{field} {value} is no list of this server", "Name one of those that GetModel tells.";
    EngineRefused = "ENGINE_REFUSED", Internal, 500, false, Pair,
        "the model cannot answer this pair: {cause}", "Report it, with the image and the question.";
    EngineFailed = "ENGINE_FAILED", Internal, 500, true, Pair,
        "the model failed: {cause}", "Try again.";
    EngineOutOfMemory = "ENGINE_OUT_OF_MEMORY", ResourceExhausted, 503, true, Pair,
        "the device has no memory left for this pair: {cause}", "Wait as RetryInfo says.";
    InternalError = "INTERNAL_ERROR", Internal, 500, true, Either,
        "internal error: {cause}", "Report it.";
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

    use super::*;

    #[test]
    fn every_reason_has_a_unique_well_formed_name_of_at_most_63_characters() {
        let names: HashSet<_> = ErrorReason::ALL.iter().map(|reason| reason.row().name).collect();
        assert_eq!(names.len(), ErrorReason::ALL.len());
        for name in names {
            assert!(name.len() <= 63 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{name}");
        }
    }

    #[test]
    fn codes_agree_with_the_http_status_and_with_retrying() {
        for reason in ErrorReason::ALL {
            let row = reason.row();
            let same_family = match row.code {
                Code::InvalidArgument => (400..500).contains(&row.http) && !row.retryable,
                Code::ResourceExhausted => [413, 429, 503].contains(&row.http),
                Code::Unavailable => (502..=504).contains(&row.http) && row.retryable,
                Code::FailedPrecondition => [409, 424].contains(&row.http) && !row.retryable,
                Code::DeadlineExceeded => [408, 504].contains(&row.http) && row.retryable,
                Code::Unauthenticated => row.http == 401 && !row.retryable,
                Code::PermissionDenied => row.http == 403 && !row.retryable,
                Code::NotFound => row.http == 404 && !row.retryable,
                Code::Unimplemented => [405, 501].contains(&row.http) && !row.retryable,
                Code::Internal => row.http == 500,
                _ => false,
            };
            assert!(same_family, "{row:?}");
            // A library cancels; a server says what happened.
            assert!(![Code::Cancelled, Code::Unknown, Code::Ok].contains(&row.code));
        }
    }
}
