//! An example of each error for the OpenAPI document, with details as the server fills them in.

use std::time::Duration;

use crate::error::{ErrorReason, RequestError};

/// The delay in the examples of errors that name one.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The URL of an image, and a file in the request.
const URL: &str = "inputs.images[0].url";
const FILE: &str = "inputs.images[0].base64";
const TEXT: &str = "inputs.texts[0][1]";

/// Returns an example of an error of this reason.
pub(crate) fn error_example(reason: ErrorReason) -> RequestError {
    let Details { field, value, limit, cause } = details(reason);
    let mut error = RequestError::new(reason);
    if !field.is_empty() {
        error = error.field(field);
    }
    if !value.is_empty() {
        error = error.value(value);
    }
    if !limit.is_empty() {
        error = error.limit(limit);
    }
    if !cause.is_empty() {
        error = error.cause(cause);
    }
    if reason.spec().remedy.contains("RetryInfo") {
        error = error.retry_after(RETRY_AFTER);
    }
    error
}

/// The details of an error. An empty one is not set.
#[derive(Default)]
struct Details {
    field: &'static str,
    value: &'static str,
    limit: &'static str,
    cause: &'static str,
}

const fn blamed(field: &'static str) -> Details {
    Details { field, value: "", limit: "", cause: "" }
}

const fn limited(field: &'static str, value: &'static str, limit: &'static str) -> Details {
    Details { field, value, limit, cause: "" }
}

const fn caused(field: &'static str, cause: &'static str) -> Details {
    Details { field, value: "", limit: "", cause }
}

fn details(reason: ErrorReason) -> Details {
    use ErrorReason as R;
    match reason {
        R::EmptyRequest => blamed("inputs.images"),
        R::NoQuestions => blamed("inputs.texts[0]"),
        R::TooManyImages => limited("inputs.images", "65 images", "64 images"),
        R::TooManyQuestions => limited("inputs.texts", "1025 questions", "1024 questions"),
        R::ModelTaskMismatch => caused("model", "\"demo\" answers questions"),
        R::GenerationOutOfRange => limited("generation.num_beams", "0", "1 to 10"),
        R::GenerationConflict => caused("generation.num_answers", "it is 5, num_beams only 4"),
        R::TagTooLong => limited("id", "1025 bytes", "1024 bytes"),
        R::MessageTooLarge => limited("", "70000000 bytes", "67108864 bytes"),
        R::UploadStalled => limited("", "", "10 s"),
        R::UploadSlow => limited("", "", "60 s"),
        R::RateLimited => limited("", "40 questions", "20 questions per second"),
        R::BurstTooLarge => limited("", "400 questions", "100 questions at once"),
        R::RouteUnknown => limited("", "/v1/answer", ""),
        R::RouteUnsupported => {
            limited("", "/v1/completions", "/v1/chat/completions, /v1/embeddings, /v1/models")
        }
        R::MethodRefused => limited("", "PUT", ""),
        R::MethodUnknown => limited("", "/blip.v1.BlipService/Answer", ""),
        R::ServiceUnknown => limited("service", "\"blip.v2\"", "blip.v1.BlipService"),
        R::CompressionUnsupported => limited("grpc-encoding", "br", "gzip or identity"),
        R::OriginRefused => limited("", "https://example.com", ""),
        R::HostRefused => limited("", "example.com", ""),
        R::HostInvalid => caused("", "missing"),
        R::MediaTypeRefused => limited("content-type", "text/plain", "application/json"),
        R::BodyUnreadable => {
            caused("", "invalid json in the body: EOF while parsing a value at line 1 column 0")
        }
        R::PayloadInvalid => caused("inputs", "missing field `images`"),
        R::PayloadTooManyValues => limited("the body", "300000 values", "200000 values"),
        R::TextsMismatched => limited("inputs.texts", "1 list of questions", "2 images"),
        R::InvalidDeadline => limited("grpc-timeout", "1h", ""),
        R::ServerBusy => limited("", "8000000 bytes of the client's requests", "67108864 bytes"),
        R::QueueFull => caused("", "queue is full: 4096 jobs held, 4096 allowed"),
        R::EngineBroken | R::EngineFailed => caused("", "CUDA error: unspecified launch failure"),
        R::ModelUnknown => limited("model", "\"blip\"", "demo"),
        R::ModelNameInvalid => limited("name", "\"a/b\"", "1 to 64 letters, digits, '.', '_' or '-'"),
        R::ModelSourceRefused => Details {
            field: "source",
            value: "\"/etc\"",
            limit: "",
            cause: "expected a folder below the model folder, or a name of the form org/name",
        },
        R::ModelOptionInvalid => {
            Details { field: "dtype", value: "\"f8\"", limit: "", cause: "expected auto, f32, f16 or bf16" }
        }
        R::ModelLoadFailed => caused("", "models/blip has no config.json"),
        R::ModelLast => limited("", "demo", ""),
        R::TooManyModels => limited("", "8 models", "8 models"),
        R::ImageMissing => blamed("inputs.images[0]"),
        R::ImageUrlUnsupported | R::UrlCredentialsRefused | R::UrlInvalidRedirect => blamed(URL),
        R::UrlInvalid => caused(URL, "relative URL without a base"),
        R::UrlSchemeRefused => limited(URL, "ftp", ""),
        R::UrlPortRefused => limited(URL, "22", ""),
        R::UrlHostRefused | R::UrlHostNotFound => limited(URL, "images.example.com", ""),
        R::UrlAddressRefused => limited(URL, "localhost", ""),
        R::UrlTooManyRedirects => limited(URL, "", "5 redirects"),
        R::UrlConnectionFailed => {
            Details { field: URL, value: "images.example.com", limit: "", cause: "connection refused" }
        }
        R::UrlTimeout => Details { field: URL, value: "", limit: "5000 ms", cause: "the first byte" },
        R::UrlBadStatus => limited(URL, "404 Not Found", ""),
        R::UrlEncoded => limited(URL, "gzip", ""),
        R::UrlTooManyBytes => limited(URL, "", "20971520 bytes"),
        R::ImageEmpty => blamed(FILE),
        R::ImageTooLarge => limited(FILE, "30000000 bytes", "20971520 bytes"),
        R::ImageTooManyPixels => {
            caused(FILE, "image side is too long: 70000 x 10 pixels, at most 65535 a side allowed")
        }
        R::ImageTooMuchCpu => limited(FILE, "2000 ms", "2000 ms"),
        R::ImageTooMuchMemory => limited(FILE, "", "268435456 bytes"),
        R::ImageFormatUnknown => {
            caused(FILE, "unknown image format; supported: PNG, JPEG, WebP, GIF, BMP, TIFF")
        }
        R::ImageUnreadable => caused(FILE, "truncated PNG image"),
        R::QuestionEmpty => blamed(TEXT),
        R::QuestionTooLong => limited(TEXT, "600 tokens", "512 tokens"),
        R::QuestionUnreadable => caused(TEXT, "no known token"),
        R::CandidateEmpty => blamed("inputs.texts[0][1].candidates[0]"),
        R::CandidateTooLong => limited("inputs.texts[0][1].candidates[0]", "600 tokens", "512 tokens"),
        R::CandidateUnreadable => caused("inputs.texts[0][1].candidates[0]", "no known token"),
        R::TooManyCandidates => {
            limited("inputs.texts[0][1].candidates", "5000 candidates", "4096 candidates")
        }
        R::CandidatesTwice => blamed("inputs.texts[0][1].candidate_list"),
        R::CandidateListUnknown => limited("inputs.texts[0][1].candidate_list", "\"colours\"", ""),
        R::EngineRefused => caused("", "the text has no tokens"),
        R::EngineOutOfMemory => caused("", "CUDA out of memory"),
        R::InternalError => caused("", "unexpected reply of another task"),
        R::ApiKeyMissing
        | R::ApiKeyInvalid
        | R::DeadlineExceeded
        | R::DeadlineUnreachable
        | R::PreprocessingBusy
        | R::ModelLoading
        | R::ShuttingDown
        | R::AdminOff
        | R::AdminRequired
        | R::ModelsBusy
        | R::FetchingBusy => Details::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_has_every_detail_of_its_message() {
        for reason in ErrorReason::ALL {
            let error = error_example(*reason);
            for name in reason.spec().template.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                assert!(error.details().any(|(known, _)| known == name), "{reason:?}: {name}");
            }
        }
    }
}
