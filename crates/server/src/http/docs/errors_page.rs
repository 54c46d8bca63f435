//! `/docs/errors`: the page of all error reasons, to which the `type` of a problem refers.

use std::{fmt::Write as _, sync::LazyLock};

use axum::response::Html;

use crate::{
    error::{ErrorReason, code_name},
    http::problem::title,
};

/// Returns the page.
pub(crate) async fn page() -> Html<&'static str> {
    static PAGE: LazyLock<String> = LazyLock::new(render);
    Html(PAGE.as_str())
}

fn render() -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Errors of blip-serve</title>\n\
         <style>body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em}dt{margin-top:1.5em}\
         :target{background:#fe9}</style>\n<h1>Errors</h1>\n<dl>\n",
    );
    for reason in ErrorReason::ALL {
        let spec = reason.spec();
        let retry =
            if spec.retryable { "a retry can succeed" } else { "a retry of the same request fails again" };
        let _ = writeln!(
            page,
            "<dt id=\"{name}\"><code>{name}</code>: {title}</dt>\n\
             <dd>HTTP {http}, gRPC {code}, {retry}.<br>Message: {template}.<br>{remedy}</dd>",
            name = spec.name,
            title = title(*reason),
            http = spec.http,
            code = code_name(spec.code),
            template = spec.template,
            remedy = spec.remedy,
        );
    }
    page.push_str("</dl>\n</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_anchor_and_needs_no_escaping() {
        let page = render();
        for reason in ErrorReason::ALL {
            let spec = reason.spec();
            assert!(page.contains(&format!("id=\"{}\"", spec.name)));
            assert!(![spec.template, spec.remedy].concat().contains(['<', '&']), "{spec:?}");
        }
    }
}
