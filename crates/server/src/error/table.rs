//! The error table: every error of a call or an item.
//!
//! A row has the gRPC code, the reason, the HTTP status and whether a retry can succeed.

use tonic::Code;

/// What an error rejects: the whole call, or one item, which is an (image, text) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The call ends with this status.
    Call,
    /// One response, such as `AskResponse`, carries the error. The call continues.
    Item,
    /// The call or an item, depending on when the error occurs.
    Either,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ErrorSpec {
    /// `ErrorInfo.reason`: stable, in upper snake case, unique within [`crate::error::DOMAIN`].
    pub name: &'static str,
    /// The gRPC status code.
    pub code: Code,
    /// The HTTP status.
    pub http: u16,
    /// Whether the same request can succeed later.
    pub retryable: bool,
    /// What the error rejects.
    pub scope: Scope,
    /// The message, with the placeholders `{field}`, `{value}`, `{limit}` and `{cause}`.
    pub template: &'static str,
    /// What the client can do, for the documentation.
    pub remedy: &'static str,
}

macro_rules! error_table {
    ($($reason:ident = $name:literal, $code:ident, $http:literal, $retryable:literal, $scope:ident,
       $template:literal, $remedy:literal;)*) => {
        /// The reason of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorReason {
            $(#[doc = $template] $reason,)*
        }

        impl ErrorReason {
            /// All reasons, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$reason),*];

            /// Returns the row of this reason.
            #[must_use]
            pub const fn spec(self) -> ErrorSpec {
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
        "{field} is empty", "Send at least one question for every image.";
    TooManyImages = "TOO_MANY_IMAGES", InvalidArgument, 400, false, Call,
        "too many images in {field}: {value}, {limit} allowed", "Split the request.";
    TooManyQuestions = "TOO_MANY_QUESTIONS", InvalidArgument, 400, false, Call,
        "too many questions in {field}: {value}, {limit} allowed", "Split the request.";
    ModelTaskMismatch = "MODEL_TASK_MISMATCH", InvalidArgument, 400, false, Call,
        "{field} does not support the task: {cause}", "Name a model that supports the task. ListModels returns the task of each model.";
    GenerationOutOfRange = "GENERATION_OUT_OF_RANGE", InvalidArgument, 400, false, Call,
        "{field} out of range: {value}, {limit} allowed", "Choose a value in the range, or omit the option.";
    GenerationConflict = "GENERATION_CONFLICT", InvalidArgument, 400, false, Call,
        "{field} conflicts with the rest of the request: {cause}", "Omit one of the two options.";
    TagTooLong = "TAG_TOO_LONG", InvalidArgument, 400, false, Call,
        "{field} too long: {value}, {limit} allowed", "Use a shorter tag.";
    MessageTooLarge = "MESSAGE_TOO_LARGE", ResourceExhausted, 413, false, Call,
        "request message too large: {value}, {limit} allowed", "Split the request, or send smaller images.";
    UploadStalled = "UPLOAD_STALLED", DeadlineExceeded, 408, true, Call,
        "request upload idle for {limit}", "Send the message without pauses.";
    UploadSlow = "UPLOAD_SLOW", DeadlineExceeded, 408, true, Call,
        "request upload not complete after {limit}", "Send smaller messages, or use a faster connection.";
    ApiKeyMissing = "API_KEY_MISSING", Unauthenticated, 401, false, Call,
        "missing api key", "Send the key as authorization: Bearer, x-api-key or secret_token.";
    ApiKeyInvalid = "API_KEY_INVALID", Unauthenticated, 401, false, Call,
        "unknown api key", "Request a key from the operator of the server.";
    RateLimited = "RATE_LIMITED", ResourceExhausted, 429, true, Call,
        "rate limit of the api key exceeded: {value} requested, {limit} allowed", "Retry after the delay in RetryInfo.";
    BurstTooLarge = "BURST_TOO_LARGE", ResourceExhausted, 413, false, Call,
        "burst limit of the api key exceeded: {value} requested, {limit} allowed", "Split the request.";
    RouteUnknown = "ROUTE_UNKNOWN", NotFound, 404, false, Call,
        "unknown route {value}", "See /docs for the routes of the HTTP API.";
    RouteUnsupported = "ROUTE_UNSUPPORTED", NotFound, 404, false, Call,
        "unsupported route {value}, expected one of {limit}", "Call a route that the message lists.";
    MethodRefused = "METHOD_REFUSED", Unimplemented, 405, false, Call,
        "method not allowed: {value}", "Use a method that the Allow header names.";
    MethodUnknown = "METHOD_UNKNOWN", Unimplemented, 501, false, Call,
        "unknown method {value}", "Call a method that reflection lists.";
    ServiceUnknown = "SERVICE_UNKNOWN", NotFound, 404, false, Call,
        "unknown service {value} in {field}; available: {limit}", "Name a service that the message lists.";
    CompressionUnsupported = "COMPRESSION_UNSUPPORTED", Unimplemented, 501, false, Call,
        "unsupported compression of messages in {field}: {value}, expected {limit}",
        "Send messages with a compression that the message names.";
    OriginRefused = "ORIGIN_REFUSED", PermissionDenied, 403, false, Call,
        "origin not allowed: {value}", "Add the origin to http.cors_origins in the settings of the server.";
    HostRefused = "HOST_REFUSED", PermissionDenied, 403, false, Call,
        "host not allowed: {value}", "Add the host to http.allowed_hosts in the settings of the server.";
    HostInvalid = "HOST_INVALID", InvalidArgument, 400, false, Call,
        "invalid host header: {cause}", "Send one Host header with the name of the server and its port.";
    MediaTypeRefused = "MEDIA_TYPE_REFUSED", InvalidArgument, 415, false, Call,
        "unsupported media type in {field}: {value}, expected {limit}", "Set content-type to the media type of the body, and do not compress it.";
    BodyUnreadable = "BODY_UNREADABLE", InvalidArgument, 400, false, Call,
        "cannot read the request body: {cause}", "Check the encoding of the body.";
    PayloadInvalid = "PAYLOAD_INVALID", InvalidArgument, 400, false, Call,
        "{field} is invalid: {cause}", "See /docs for the format of requests.";
    PayloadTooManyValues = "PAYLOAD_TOO_MANY_VALUES", InvalidArgument, 400, false, Call,
        "too many values in {field}: {value}, {limit} allowed", "Split the request.";
    TextsMismatched = "TEXTS_MISMATCHED", InvalidArgument, 400, false, Call,
        "wrong number of lists in {field}: {value} for {limit}",
        "Send one list of questions for each image, in the same order.";
    InvalidDeadline = "INVALID_DEADLINE", InvalidArgument, 400, false, Call,
        "invalid {field}: {value}, expected 1 to 8 digits and a unit (H, M, S, m, u or n)",
        "Set the deadline by the gRPC library.";
    DeadlineExceeded = "DEADLINE_EXCEEDED", DeadlineExceeded, 504, true, Either,
        "deadline exceeded before the answer was ready", "Allow more time, or send smaller requests.";
    DeadlineUnreachable = "DEADLINE_UNREACHABLE", ResourceExhausted, 429, true, Item,
        "queue too long to meet the deadline", "Retry after the delay in RetryInfo, or allow more time.";
    ServerBusy = "SERVER_BUSY", ResourceExhausted, 429, true, Call,
        "server busy: {value} in memory, {limit} allowed", "Retry after the delay in RetryInfo.";
    QueueFull = "QUEUE_FULL", ResourceExhausted, 429, true, Item,
        "queue full: {cause}", "Retry after the delay in RetryInfo.";
    PreprocessingBusy = "PREPROCESSING_BUSY", ResourceExhausted, 429, true, Item,
        "too many images wait for preprocessing", "Retry after the delay in RetryInfo.";
    ModelLoading = "MODEL_LOADING", Unavailable, 503, true, Call,
        "the model is loading", "Wait until grpc.health.v1 reports SERVING.";
    ShuttingDown = "SHUTTING_DOWN", Unavailable, 503, true, Either,
        "the server is shutting down", "Retry on another server, or when this one is available again.";
    EngineBroken = "ENGINE_BROKEN", Unavailable, 503, true, Either,
        "the engine has stopped: {cause}", "Retry on another server. This one terminates.";
    ModelUnknown = "MODEL_UNKNOWN", NotFound, 404, false, Call,
        "unknown model {value} in {field}; available: {limit}", "Name a model that ListModels returns, or omit the name.";
    AdminOff = "ADMIN_OFF", Unimplemented, 501, false, Call,
        "administration of models is disabled", "Start the server with --admin.";
    AdminRequired = "ADMIN_REQUIRED", PermissionDenied, 403, false, Call,
        "administrator required",
        "Use an API key with admin set. If the server has no keys, call from its machine.";
    ModelNameInvalid = "MODEL_NAME_INVALID", InvalidArgument, 400, false, Call,
        "invalid model name in {field}: {value}, expected {limit}", "Choose another name.";
    ModelSourceRefused = "MODEL_SOURCE_REFUSED", PermissionDenied, 403, false, Call,
        "model source not allowed in {field}: {value}: {cause}", "Name a folder below --model-dir, or a model of the hub.";
    ModelOptionInvalid = "MODEL_OPTION_INVALID", InvalidArgument, 400, false, Call,
        "invalid model option {field}: {value}: {cause}", "Omit the option, or use a value that the message names.";
    ModelLoadFailed = "MODEL_LOAD_FAILED", FailedPrecondition, 424, false, Call,
        "cannot load the model: {cause}", "Fix the cause and retry. Loaded models are unchanged.";
    ModelLast = "MODEL_LAST", FailedPrecondition, 409, false, Call,
        "cannot unload {value}: it is the only model", "Load another model first.";
    TooManyModels = "TOO_MANY_MODELS", ResourceExhausted, 413, false, Call,
        "too many models: {value} loaded, {limit} allowed", "Unload a model first.";
    ModelsBusy = "MODELS_BUSY", ResourceExhausted, 429, true, Call,
        "too many changes of models: one is in progress, another one waits", "Retry after the delay in RetryInfo.";
    ImageMissing = "IMAGE_MISSING", InvalidArgument, 400, false, Item,
        "{field} has no source", "Set data or url.";
    ImageUrlUnsupported = "IMAGE_URL_UNSUPPORTED", Unimplemented, 501, false, Item,
        "cannot fetch {field}: image urls are disabled", "Send the bytes of the image in data, or a data: URL.";
    FetchingBusy = "FETCHING_BUSY", ResourceExhausted, 429, true, Item,
        "too many images wait to be fetched", "Retry after the delay in RetryInfo.";
    UrlInvalid = "URL_INVALID", InvalidArgument, 400, false, Item,
        "invalid {field}: {cause}", "Send an absolute http, https or data URL.";
    UrlSchemeRefused = "URL_SCHEME_REFUSED", InvalidArgument, 400, false, Item,
        "scheme of {field} not allowed: {value}", "Use https, http or data.";
    UrlCredentialsRefused = "URL_CREDENTIALS_REFUSED", InvalidArgument, 400, false, Item,
        "user name or password in {field} not allowed", "Use a URL that needs neither, such as a signed one.";
    UrlPortRefused = "URL_PORT_REFUSED", InvalidArgument, 403, false, Item,
        "port of {field} not allowed: {value}", "Use a port in fetch.allow_ports of the server's settings.";
    UrlHostRefused = "URL_HOST_REFUSED", InvalidArgument, 403, false, Item,
        "host of {field} not allowed: {value}", "Use a domain in fetch.allow_domains of the server's settings.";
    UrlAddressRefused = "URL_ADDRESS_REFUSED", InvalidArgument, 403, false, Item,
        "host of {field} has no public address: {value}",
        "Use a public host, or add its network to fetch.allow_networks in the server's settings.";
    UrlTooManyRedirects = "URL_TOO_MANY_REDIRECTS", FailedPrecondition, 424, false, Item,
        "too many redirects of {field}: {limit} allowed", "Use the URL to which the redirects lead.";
    UrlInvalidRedirect = "URL_INVALID_REDIRECT", FailedPrecondition, 424, false, Item,
        "{field} redirects to an invalid url", "Use the URL to which it should redirect.";
    UrlHostNotFound = "URL_HOST_NOT_FOUND", FailedPrecondition, 424, false, Item,
        "host of {field} not found: {value}", "Check the name of the host.";
    UrlConnectionFailed = "URL_CONNECTION_FAILED", Unavailable, 502, true, Item,
        "cannot fetch {field} from {value}: {cause}", "Retry, or send the bytes of the image in data.";
    UrlTimeout = "URL_TIMEOUT", Unavailable, 504, true, Item,
        "cannot fetch {field} in time: {limit} allowed for {cause}", "Retry, or send the bytes of the image in data.";
    UrlBadStatus = "URL_BAD_STATUS", FailedPrecondition, 424, false, Item,
        "cannot fetch {field}: HTTP status {value}", "Check that the URL returns the image to every client.";
    UrlEncoded = "URL_ENCODED", FailedPrecondition, 424, false, Item,
        "content-encoding of {field} not allowed: {value}", "Configure its server to send the file without content-encoding.";
    UrlTooManyBytes = "URL_TOO_MANY_BYTES", InvalidArgument, 413, false, Item,
        "file of {field} too large: {limit} allowed", "Compress the image, or scale it down.";
    ImageEmpty = "IMAGE_EMPTY", InvalidArgument, 400, false, Item,
        "{field} is empty", "Send the whole file.";
    ImageTooLarge = "IMAGE_TOO_LARGE", InvalidArgument, 413, false, Item,
        "{field} too large: {value}, {limit} allowed", "Compress the image, or scale it down.";
    ImageTooManyPixels = "IMAGE_TOO_MANY_PIXELS", InvalidArgument, 413, false, Item,
        "{field} too large to decode: {cause}", "Scale the image down.";
    ImageTooMuchCpu = "IMAGE_TOO_MUCH_CPU", InvalidArgument, 413, false, Item,
        "{field} takes too long to decode: {value} of CPU time, {limit} allowed",
        "Save the image again without progressive scans, or scale it down.";
    ImageTooMuchMemory = "IMAGE_TOO_MUCH_MEMORY", InvalidArgument, 413, false, Item,
        "{field} needs too much memory to decode: {limit} allowed",
        "Save the image again as baseline JPEG or PNG, or scale it down.";
    ImageFormatUnknown = "IMAGE_FORMAT_UNKNOWN", InvalidArgument, 415, false, Item,
        "cannot decode {field}: {cause}", "Send PNG, JPEG, WebP, GIF, BMP or TIFF.";
    ImageUnreadable = "IMAGE_UNREADABLE", InvalidArgument, 422, false, Item,
        "cannot decode {field}: {cause}", "Check that the file is complete.";
    QuestionEmpty = "QUESTION_EMPTY", InvalidArgument, 400, false, Item,
        "{field} has no text", "Send a question.";
    QuestionTooLong = "QUESTION_TOO_LONG", InvalidArgument, 413, false, Item,
        "{field} too long: {value}, {limit} allowed", "Send a shorter question.";
    QuestionUnreadable = "QUESTION_UNREADABLE", InvalidArgument, 422, false, Item,
        "cannot tokenize {field}: {cause}", "Rephrase the question.";
    CandidateEmpty = "CANDIDATE_EMPTY", InvalidArgument, 400, false, Item,
        "{field} has no text", "Omit the candidate.";
    CandidateTooLong = "CANDIDATE_TOO_LONG", InvalidArgument, 413, false, Item,
        "{field} too long: {value}, {limit} allowed", "Use shorter candidates.";
    CandidateUnreadable = "CANDIDATE_UNREADABLE", InvalidArgument, 422, false, Item,
        "cannot tokenize {field}: {cause}", "Rephrase the candidate.";
    TooManyCandidates = "TOO_MANY_CANDIDATES", InvalidArgument, 413, false, Item,
        "too many candidates in {field}: {value}, {limit} allowed", "Send fewer candidates, or use a candidate list of the server.";
    CandidatesTwice = "CANDIDATES_TWICE", InvalidArgument, 400, false, Item,
        "both {field} and candidates are set", "Set one of the two.";
    CandidateListUnknown = "CANDIDATE_LIST_UNKNOWN", InvalidArgument, 400, false, Item,
        "unknown candidate list {value} in {field}", "Name a list that GetModel returns.";
    EngineRefused = "ENGINE_REFUSED", Internal, 500, false, Item,
        "the model cannot process this item: {cause}", "Report the error with the image and the text.";
    EngineFailed = "ENGINE_FAILED", Internal, 500, true, Item,
        "the model failed: {cause}", "Retry.";
    EngineOutOfMemory = "ENGINE_OUT_OF_MEMORY", ResourceExhausted, 503, true, Item,
        "device out of memory: {cause}", "Retry after the delay in RetryInfo.";
    InternalError = "INTERNAL_ERROR", Internal, 500, true, Either,
        "internal error: {cause}", "Report the error.";
}

/// Returns the name of a code in the gRPC specification, such as `INVALID_ARGUMENT`.
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
    fn reasons_have_unique_names_of_at_most_63_letters() {
        let names: HashSet<_> = ErrorReason::ALL.iter().map(|reason| reason.spec().name).collect();
        assert_eq!(names.len(), ErrorReason::ALL.len());
        for name in names {
            assert!(name.len() <= 63 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'), "{name}");
        }
    }

    #[test]
    fn codes_match_http_status_and_retryability() {
        for reason in ErrorReason::ALL {
            let spec = reason.spec();
            let same_family = match spec.code {
                Code::InvalidArgument => (400..500).contains(&spec.http) && !spec.retryable,
                Code::ResourceExhausted => [413, 429, 503].contains(&spec.http),
                Code::Unavailable => (502..=504).contains(&spec.http) && spec.retryable,
                Code::FailedPrecondition => [409, 424].contains(&spec.http) && !spec.retryable,
                Code::DeadlineExceeded => [408, 504].contains(&spec.http) && spec.retryable,
                Code::Unauthenticated => spec.http == 401 && !spec.retryable,
                Code::PermissionDenied => spec.http == 403 && !spec.retryable,
                Code::NotFound => spec.http == 404 && !spec.retryable,
                Code::Unimplemented => [405, 501].contains(&spec.http) && !spec.retryable,
                Code::Internal => spec.http == 500,
                _ => false,
            };
            assert!(same_family, "{spec:?}");
            // Libraries send these. The server sends a specific code.
            assert!(![Code::Cancelled, Code::Unknown, Code::Ok].contains(&spec.code));
        }
    }

    #[test]
    fn messages_and_remedies_follow_the_style() {
        for reason in ErrorReason::ALL {
            let ErrorSpec { template, remedy, .. } = reason.spec();
            assert!(template.starts_with(|first: char| first.is_lowercase() || first == '{'), "{template}");
            assert!(!template.ends_with('.'), "{template}");
            assert!(remedy.starts_with(char::is_uppercase) && remedy.ends_with('.'), "{remedy}");
        }
    }
}
