//! Documentation of the API: the OpenAPI document, Swagger UI at `/docs`, and the error page.
//!
//! All files are embedded. The pages load nothing from other servers.

pub mod openapi; // /openapi.json
pub mod problem_responses; // the error responses in the document
pub mod request_examples; // the examples of requests in the document
pub mod error_examples; // the examples of errors in the document
pub mod errors_page; // /docs/errors

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use axum::{extract::Path, response::Response};
use bytes::Bytes;
use http::HeaderValue;
use utoipa_swagger_ui::Config;

use crate::{
    error::{ErrorReason, RequestError},
    http::static_file::file_response,
};

/// The policy by which the browser loads nothing from other servers.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Returns the page of Swagger UI.
pub(crate) async fn index() -> Result<Response, RequestError> {
    serve("index.html")
}

/// Returns a file of the page.
pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, RequestError> {
    serve(&name)
}

/// Returns the file `name`. All responses share its bytes, so that clients that read nothing occupy
/// no memory.
fn serve(name: &str) -> Result<Response, RequestError> {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        let config = Config::new([openapi::PATH]);
        // By default, the page sends the document to a public validator.
        Arc::new(config.validator_url("none").try_it_out_enabled(true).default_models_expand_depth(0))
    });
    let file = utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG));
    let file = file.map_err(|error| RequestError::new(ErrorReason::InternalError).cause(error))?;
    let file =
        file.ok_or_else(|| RequestError::new(ErrorReason::RouteUnknown).value(format!("/docs/{name}")))?;
    let content_type = HeaderValue::from_str(&file.content_type)
        .map_err(|error| RequestError::new(ErrorReason::InternalError).cause(error))?;
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        // The few lines that configure the page.
        Cow::Owned(bytes) => bytes.into(),
    };
    Ok(file_response(content_type, POLICY, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(name: &str) -> String {
        let body = serve(name).unwrap().into_body();
        String::from_utf8(axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn page_refers_to_no_other_server() {
        let page = text("index.html").await;
        assert!(page.contains("swagger-ui-bundle.js"));
        assert!(!page.contains("//"), "{page}");
        let start = text("swagger-initializer.js").await;
        assert!(
            start.contains("\"url\": \"/openapi.json\"") && start.contains("\"validatorUrl\": \"none\""),
            "{start}"
        );
        assert!(!start.contains("://"), "{start}");
    }

    #[tokio::test]
    async fn responses_share_the_bytes_of_a_file() {
        let bundle = async || {
            let body = serve("swagger-ui-bundle.js").unwrap().into_body();
            axum::body::to_bytes(body, usize::MAX).await.unwrap()
        };
        let (first, second) = (bundle().await, bundle().await);
        assert!(first.len() > 1 << 20);
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn unknown_file_is_not_found() {
        assert_eq!(serve("../main.rs").unwrap_err().reason(), ErrorReason::RouteUnknown);
    }
}
