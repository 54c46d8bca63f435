//! The Accept header: whether a client prefers server-sent events to JSON.

use http::{HeaderMap, header::ACCEPT};

use crate::http::inference::response::sse::EVENT_STREAM;

/// Returns whether the `Accept` header of a request names server-sent events, and gives JSON no
/// higher quality (RFC 9110, section 12.5.1).
pub(crate) fn accepts_events(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<_> = values.flat_map(|value| value.split(',')).map(media_range).collect();
    let quality_of = |name: &str| {
        let named = ranges.iter().filter(|(range, _)| range.eq_ignore_ascii_case(name));
        named.map(|(_, quality)| *quality).reduce(f32::max)
    };
    let Some(events) = quality_of(EVENT_STREAM) else { return false };
    let json = ["application/json", "application/*", "*/*"].into_iter().find_map(quality_of);
    events > 0.0 && events >= json.unwrap_or(0.0)
}

/// Returns a media range and its quality, which is 1 if it has none.
fn media_range(text: &str) -> (&str, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let quality = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().ok())?
    });
    (range, quality.unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepts(accept: &[&'static str]) -> bool {
        let values = accept.iter().map(|value| (ACCEPT, HeaderValue::from_static(value)));
        accepts_events(&values.collect())
    }

    #[test]
    fn only_the_media_type_itself_requests_events() {
        assert!(accepts(&["text/event-stream"]) && accepts(&["Text/Event-Stream; charset=utf-8"]));
        assert!(!accepts(&[]) && !accepts(&["*/*"]) && !accepts(&["text/*"]) && !accepts(&[""]));
    }

    #[test]
    fn quality_0_refuses_events() {
        assert!(!accepts(&["application/json, text/event-stream;q=0"]));
        assert!(!accepts(&["text/event-stream; Q=0.000"]) && accepts(&["text/event-stream;q=0.001"]));
    }

    #[test]
    fn higher_quality_decides_and_events_win_a_tie() {
        assert!(accepts(&["application/json, text/event-stream"]));
        assert!(accepts(&["application/json;q=0.5", "text/event-stream;q=0.5"]));
        assert!(accepts(&["application/json;q=0.1, text/event-stream;q=0.2, */*;q=0.9"]));
        assert!(!accepts(&["application/json, text/event-stream;q=0.5"]));
        assert!(!accepts(&["text/event-stream;q=0.5, */*"]));
    }
}
