//! Preprocessing of all inputs of a call: images in the request are decoded while others are still
//! being fetched.

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use images::fetch::FetchedImage;
use opentelemetry::{KeyValue, trace::SpanKind};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::{
    error::{ErrorReason, RequestError},
    preprocess::{
        fetch::CallFetcher,
        pool::Origin,
        prepared::{PreparedInput, PreprocessTiming},
        preparer::Preparer,
    },
    request::{
        field_path::FieldPath,
        item::{FileContent, ImageFile, ImageUrl, ValidatedImage, ValidatedInput, ValidatedItems},
        memory_budget::BudgetPermit,
    },
    telemetry::{
        metrics::{CancellationGuard, RequestStage},
        tracing::TraceScope,
    },
};

/// Prepares `inputs` and returns them in the order in which they become ready. The memory that the
/// request occupies, `budget`, is released when the last of its images is decoded.
///
/// Each fetch is a task that ends when the stream is dropped. A fetch holds a permit that other
/// calls wait for, so it must not stop while its own client does not read.
pub fn prepare_inputs(
    preparer: Preparer,
    fetcher: CallFetcher,
    inputs: Vec<ValidatedInput>,
    budget: BudgetPermit,
    origin: Origin,
    trace: TraceScope,
) -> impl Stream<Item = PreparedInput> + Send + 'static {
    let (mut failed, mut inline, mut remote) = (Vec::new(), Vec::new(), Vec::new());
    for ValidatedInput { path, image, items } in inputs {
        match image {
            Err(error) => failed.push(PreparedInput::with_error(path, &error, items)),
            Ok(ValidatedImage::File(file)) => inline.push((path, Some(file), items, budget.clone())),
            Ok(ValidatedImage::None) => inline.push((path, None, items, budget.clone())),
            Ok(ValidatedImage::Url(url)) => remote.push((path, url, items, budget.clone())),
        }
    }
    let (images_at_a_time, fetches_at_a_time) = (preparer.images_at_a_time(), fetcher.images_at_a_time());
    let (inline_preparer, inline_trace) = (preparer.clone(), trace.clone());
    let prepare_one = move |(path, file, items, budget)| {
        let (preparer, trace) = (inline_preparer.clone(), inline_trace.clone());
        async move {
            let input = prepare(&preparer, &trace, path, file, items, origin).await;
            drop(budget);
            input
        }
    };
    // Most requests hold a single inline image. They skip the streams for many images.
    if failed.is_empty()
        && remote.is_empty()
        && inline.len() == 1
        && let Some(single) = inline.pop()
    {
        return stream::once(prepare_one(single)).left_stream();
    }
    let inline = stream::iter(inline).map(prepare_one);
    let remote = stream::iter(remote).map(move |(path, url, items, budget)| {
        let (preparer, fetcher, trace) = (preparer.clone(), fetcher.clone(), trace.clone());
        let count = items.len();
        let work = async move {
            let input = fetch_and_prepare(&preparer, &fetcher, &trace, path, url, items, origin).await;
            drop(budget);
            input
        };
        AbortOnDropHandle::new(tokio::spawn(work.in_current_span())).map(move |input| {
            let internal = |error| RequestError::new(ErrorReason::InternalError).cause(error);
            input.unwrap_or_else(|error| PreparedInput::failed(path, &internal(error), count))
        })
    });
    let many = stream::iter(failed).chain(stream::select(
        inline.buffer_unordered(images_at_a_time),
        remote.buffer_unordered(fetches_at_a_time),
    ));
    many.right_stream()
}

/// Prepares an image file, or texts without an image. The span covers the work itself, without the
/// wait for a thread.
async fn prepare(
    preparer: &Preparer,
    trace: &TraceScope,
    path: FieldPath,
    file: Option<ImageFile>,
    items: ValidatedItems,
    origin: Origin,
) -> PreparedInput {
    let input = preparer.prepare(path, file, items, origin).await;
    if let Some(end) = trace.is_on().then(Instant::now) {
        let PreprocessTiming { preprocess, image_decode, image_scale, .. } = input.timing;
        let start = end.checked_sub(preprocess).unwrap_or(end);
        let error = input.image.as_ref().and_then(|image| image.as_ref().err());
        let error = error.map(|error| KeyValue::new("error.type", error.reason().spec().name));
        let span = trace.record("preprocess", [start, end], || [image_index(path)].into_iter().chain(error));
        if !image_decode.is_zero() {
            // The steps after them take next to no time.
            let decoded = end.checked_sub(image_scale).unwrap_or(end);
            let begin = decoded.checked_sub(image_decode).unwrap_or(decoded);
            let no_attributes: fn() -> [KeyValue; 0] = || [];
            span.record("image_decode", [begin, decoded], no_attributes);
            span.record("image_scale", [decoded, end], no_attributes);
        }
    }
    input
}

fn image_index(path: FieldPath) -> KeyValue {
    KeyValue::new("blip.image.index", i64::from(path.index))
}

/// The maximum length of a host name, in bytes.
const MAX_HOST_BYTES: usize = 253;

/// Returns the host of a URL. The rest of the URL can be secret and is not traced.
fn host(url: &str) -> Option<String> {
    let url = url.parse::<http::Uri>().ok()?;
    url.host().filter(|host| host.len() <= MAX_HOST_BYTES).map(str::to_owned)
}

async fn fetch_and_prepare(
    preparer: &Preparer,
    fetcher: &CallFetcher,
    trace: &TraceScope,
    path: FieldPath,
    url: ImageUrl,
    items: ValidatedItems,
    origin: Origin,
) -> PreparedInput {
    let start = Instant::now();
    let timer = CancellationGuard::new(RequestStage::Fetch);
    let span = trace.child("fetch", SpanKind::Client, || {
        let host = host(&url.url).map(|host| KeyValue::new("server.address", host));
        [image_index(path)].into_iter().chain(host)
    });
    let fetched = fetcher.fetch(&url, span.headers()).await;
    timer.finish();
    if let Err(error) = &fetched {
        span.fail(error.reason().spec().name);
    }
    drop(span);
    let FetchedImage { bytes, memory } = match fetched {
        Ok(fetched) => fetched,
        Err(error) => return PreparedInput::with_error(path, &error, items),
    };
    let fetch = start.elapsed();
    let file = ImageFile { content: FileContent::Bytes(bytes), field: url.field };
    let mut input = prepare(preparer, trace, path, Some(file), items, origin).await;
    drop(memory);
    input.timing.fetch = fetch;
    input
}
