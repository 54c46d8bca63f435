//! The inputs of one call made ready: images that came with it are decoded while the others are still being fetched.

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use opentelemetry::{KeyValue, trace::SpanKind};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::{
    errors::{Reason, Refusal},
    fetching::{Fetched, Fetching},
    intake::{Cost, Intake, Ready},
    monitor::{Stage, Unfinished},
    place::Place,
    telemetry::trace::TraceScope,
    upload::Held,
    validate::{FileContent, ImageFile, ImageSource, Input, Link, Questions},
};

/// Makes `inputs` ready, in whatever order they are; their share of the request's room, `held`, is given back when the
/// last of their images has been decoded.
///
/// Fetches are tasks, which end when the stream is dropped: each takes a turn that other callers wait for, and must not
/// stand still with it while its own caller does not read.
pub fn prepare(
    intake: Intake,
    fetching: Fetching,
    inputs: Vec<Input>,
    held: Held,
    trace: TraceScope,
) -> impl Stream<Item = Ready> + Send + 'static {
    let (mut refused, mut here, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for Input { place, image, questions } in inputs {
        match image {
            Err(refusal) => refused.push(Ready::refused(place, &refusal, questions)),
            Ok(ImageSource::Here(file)) => here.push((place, Some(file), questions, held.clone())),
            Ok(ImageSource::None) => here.push((place, None, questions, held.clone())),
            Ok(ImageSource::Elsewhere(link)) => elsewhere.push((place, link, questions, held.clone())),
        }
    }
    let (images_at_a_time, fetches_at_a_time) = (intake.images_at_a_time(), fetching.images_at_a_time());
    let (decoding, decoding_trace) = (intake.clone(), trace.clone());
    let decode_one = move |(place, file, questions, held)| {
        let (intake, trace) = (decoding.clone(), decoding_trace.clone());
        async move {
            let ready = decode(&intake, &trace, place, file, questions).await;
            drop(held);
            ready
        }
    };
    // Most requests are a lone image that is here, and do without the machinery for many.
    if refused.is_empty()
        && elsewhere.is_empty()
        && here.len() == 1
        && let Some(lone) = here.pop()
    {
        return stream::once(decode_one(lone)).left_stream();
    }
    let here = stream::iter(here).map(decode_one);
    let elsewhere = stream::iter(elsewhere).map(move |(place, link, questions, held)| {
        let (intake, fetching, trace) = (intake.clone(), fetching.clone(), trace.clone());
        let count = questions.len();
        let work = async move {
            let ready = fetch_and_prepare(&intake, &fetching, &trace, place, link, questions).await;
            drop(held);
            ready
        };
        AbortOnDropHandle::new(tokio::spawn(work.in_current_span())).map(move |ready| {
            let lost = |error| Ready::failed(place, &Refusal::new(Reason::InternalError).cause(error), count);
            ready.unwrap_or_else(lost)
        })
    });
    let many = stream::iter(refused).chain(stream::select(
        here.buffer_unordered(images_at_a_time),
        elsewhere.buffer_unordered(fetches_at_a_time),
    ));
    many.right_stream()
}

/// Makes an image that is here, or texts alone, ready. Its span is that of the work itself, without the wait for a thread.
async fn decode(
    intake: &Intake,
    trace: &TraceScope,
    place: Place,
    file: Option<ImageFile>,
    questions: Questions,
) -> Ready {
    let ready = intake.prepare(place, file, questions).await;
    if let Some(end) = trace.is_on().then(Instant::now) {
        let Cost { preprocess, image_decode, image_scale, .. } = ready.cost;
        let start = end.checked_sub(preprocess).unwrap_or(end);
        let failed = ready.image.as_ref().and_then(|image| image.as_ref().err());
        let failed = failed.map(|refusal| KeyValue::new("error.type", refusal.reason().row().name));
        let span =
            trace.record("preprocess", [start, end], || [image_index(place)].into_iter().chain(failed));
        if !image_decode.is_zero() {
            // What comes after them, such as counting a question's tokens, is next to nothing.
            let decoded = end.checked_sub(image_scale).unwrap_or(end);
            let begun = decoded.checked_sub(image_decode).unwrap_or(decoded);
            let no_more: fn() -> [KeyValue; 0] = || [];
            span.record("image_decode", [begun, decoded], no_more);
            span.record("image_scale", [decoded, end], no_more);
        }
    }
    ready
}

fn image_index(place: Place) -> KeyValue {
    KeyValue::new("blip.image.index", i64::from(place.index))
}

/// Longest name that a host can have, in bytes.
const MAX_HOST_BYTES: usize = 253;

/// Whom an image is fetched from: all of its URL that is not for the caller's eyes only.
fn host(url: &str) -> Option<String> {
    let url = url.parse::<http::Uri>().ok()?;
    url.host().filter(|host| host.len() <= MAX_HOST_BYTES).map(str::to_owned)
}

async fn fetch_and_prepare(
    intake: &Intake,
    fetching: &Fetching,
    trace: &TraceScope,
    place: Place,
    link: Link,
    questions: Questions,
) -> Ready {
    let begin = Instant::now();
    let unfinished = Unfinished::new(Stage::Fetch);
    let span = trace.child("fetch", SpanKind::Client, || {
        let host = host(&link.url).map(|host| KeyValue::new("server.address", host));
        [image_index(place)].into_iter().chain(host)
    });
    let fetched = fetching.fetch(&link, span.headers()).await;
    unfinished.finish();
    if let Err(refusal) = &fetched {
        span.fail(refusal.reason().row().name);
    }
    drop(span);
    let Fetched { file, room } = match fetched {
        Ok(fetched) => fetched,
        Err(refusal) => return Ready::refused(place, &refusal, questions),
    };
    let fetch = begin.elapsed();
    let file = ImageFile { content: FileContent::Bytes(file), field: link.field };
    let mut ready = decode(intake, trace, place, Some(file), questions).await;
    drop(room);
    ready.cost.fetch = fetch;
    ready
}
