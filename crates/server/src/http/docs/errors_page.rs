//! `/docs/errors`: every reason, where the `type` of a problem points to.

use std::{fmt::Write as _, sync::LazyLock};

use axum::response::Html;

use crate::{
    error::{ErrorReason, code_name},
    http::problem::title,
};

/// The page.
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
        let row = reason.spec();
        let again =
            if row.retryable { "the same request can succeed later" } else { "trying again does not help" };
        let _ = writeln!(
            page,
            "<dt id=\"{name}\"><code>{name}</code>: {title}</dt>\n\
             <dd>HTTP {http}, gRPC {code}, {again}.<br>Message: {template}.<br>{remedy}</dd>",
            name = row.name,
            title = title(*reason),
            http = row.http,
            code = code_name(row.code),
            template = row.template,
            remedy = row.remedy,
        );
    }
    page.push_str("</dl>\n</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_anchor_and_nothing_has_to_be_escaped() {
        let page = render();
        for reason in ErrorReason::ALL {
            let row = reason.spec();
            assert!(page.contains(&format!("id=\"{}\"", row.name)));
            assert!(![row.template, row.remedy].concat().contains(['<', '&']), "{row:?}");
        }
    }
}
