//! The page at `/`, on which people try the models in a browser.
//!
//! The page is a client of the native API. Its files are embedded, and the browser loads nothing
//! from other servers.

use axum::{extract::Path, response::Response};

use crate::{
    error::{ErrorReason, RequestError},
    http::static_file::StaticFile,
};

/// The policy by which the browser runs only the scripts of this page, sends requests only to this
/// server and submits no forms.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The files by the name in their path.
static FILES: &[(&str, StaticFile)] = &[
    ("page.css", file("text/css; charset=utf-8", include_bytes!("files/page.css"))),
    ("main.js", file(JAVASCRIPT, include_bytes!("files/main.js"))),
    ("task_form.js", file(JAVASCRIPT, include_bytes!("files/task_form.js"))),
    ("image_input.js", file(JAVASCRIPT, include_bytes!("files/image_input.js"))),
    ("results.js", file(JAVASCRIPT, include_bytes!("files/results.js"))),
    ("heat_map.js", file(JAVASCRIPT, include_bytes!("files/heat_map.js"))),
    ("api.js", file(JAVASCRIPT, include_bytes!("files/api.js"))),
    ("elements.js", file(JAVASCRIPT, include_bytes!("files/elements.js"))),
    (
        "example.png",
        file("image/png", include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/demo.png"))),
    ),
];

static INDEX: StaticFile = file("text/html; charset=utf-8", include_bytes!("files/index.html"));

const fn file(content_type: &'static str, bytes: &'static [u8]) -> StaticFile {
    StaticFile { content_type, policy: POLICY, bytes }
}

/// `GET /`.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "page",
    summary = "Open the page for browsers",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")),
    security(()),
)]
pub(crate) async fn index() -> Response {
    INDEX.response()
}

/// `GET /page/{file}`: a file of the page.
///
/// # Errors
/// A [`RequestError`] if the page has no such file.
pub(crate) async fn file_of_page(Path(name): Path<String>) -> Result<Response, RequestError> {
    let file = FILES.iter().find(|(known, _)| *known == name);
    let (_, file) =
        file.ok_or_else(|| RequestError::new(ErrorReason::RouteUnknown).value(format!("/page/{name}")))?;
    Ok(file.response())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::header::CONTENT_SECURITY_POLICY;

    use super::*;

    fn text(file: StaticFile) -> &'static str {
        str::from_utf8(file.bytes).unwrap()
    }

    #[test]
    fn page_refers_to_its_files_and_to_no_other_server() {
        let texts: Vec<_> = FILES.iter().filter(|(name, _)| *name != "example.png").collect();
        let sources: String = texts.iter().map(|(_, file)| text(*file)).collect();
        let all = text(INDEX).to_owned() + &sources;
        for (name, _) in FILES {
            assert!(all.contains(&format!("page/{name}")) || all.contains(&format!("./{name}")), "{name}");
        }
        // The only URL is the hint in the field for URLs.
        let urls: HashSet<_> = all.match_indices("://").map(|(at, _)| &all[at..at + 17]).collect();
        assert_eq!(urls, HashSet::from(["://example.com/ph"]));
    }

    #[test]
    fn page_has_no_inline_script_style_or_handler() {
        let html = text(INDEX);
        assert_eq!(html.matches("<script").count(), 1);
        assert!(html.contains(r#"<script type="module" src="page/main.js"></script>"#));
        for inline in ["<style", " style=", " onclick=", " onload=", " onerror=", "javascript:"] {
            assert!(!html.contains(inline), "{inline}");
        }
    }

    #[tokio::test]
    async fn responses_share_the_bytes_and_have_the_policy() {
        let response = file_of_page(Path("main.js".to_owned())).await.unwrap();
        assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY);
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body.as_ptr(), include_file("main.js").as_ptr());
    }

    fn include_file(name: &str) -> &'static [u8] {
        FILES.iter().find(|(known, _)| *known == name).unwrap().1.bytes
    }

    #[tokio::test]
    async fn unknown_file_is_not_found() {
        let error = file_of_page(Path("../mod.rs".to_owned())).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::RouteUnknown);
    }
}
