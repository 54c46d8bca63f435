//! The inputs of one call made ready: images that came with it are decoded while the others are still being fetched.

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    errors::{Reason, Refusal},
    fetching::{Fetched, Fetching},
    intake::{Intake, Ready},
    monitor::{Stage, Unfinished},
    place::Place,
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
) -> impl Stream<Item = Ready> + Send + 'static {
    let (mut refused, mut here, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for Input { place, image, questions } in inputs {
        match image {
            Err(refusal) => refused.push(Ready::refused(place, &refusal, questions)),
            Ok(ImageSource::Here(file)) => here.push((place, file, questions, held.clone())),
            Ok(ImageSource::Elsewhere(link)) => elsewhere.push((place, link, questions, held.clone())),
        }
    }
    let (images_at_a_time, fetches_at_a_time) = (intake.images_at_a_time(), fetching.images_at_a_time());
    let decoding = intake.clone();
    let here = stream::iter(here).map(move |(place, file, questions, held)| {
        let intake = decoding.clone();
        async move {
            let ready = intake.prepare(place, file, questions).await;
            drop(held);
            ready
        }
    });
    let elsewhere = stream::iter(elsewhere).map(move |(place, link, questions, held)| {
        let (intake, fetching, count) = (intake.clone(), fetching.clone(), questions.len());
        let work = async move {
            let ready = fetch_and_prepare(&intake, &fetching, place, link, questions).await;
            drop(held);
            ready
        };
        AbortOnDropHandle::new(tokio::spawn(work)).map(move |ready| {
            let lost = |error| Ready::failed(place, &Refusal::new(Reason::InternalError).cause(error), count);
            ready.unwrap_or_else(lost)
        })
    });
    stream::iter(refused).chain(stream::select(
        here.buffer_unordered(images_at_a_time),
        elsewhere.buffer_unordered(fetches_at_a_time),
    ))
}

async fn fetch_and_prepare(
    intake: &Intake,
    fetching: &Fetching,
    place: Place,
    link: Link,
    questions: Questions,
) -> Ready {
    let begin = Instant::now();
    let unfinished = Unfinished::new(Stage::Fetch);
    let fetched = fetching.fetch(&link).await;
    unfinished.finish();
    let Fetched { file, room } = match fetched {
        Ok(fetched) => fetched,
        Err(refusal) => return Ready::refused(place, &refusal, questions),
    };
    let fetch = begin.elapsed();
    let file = ImageFile { content: FileContent::Bytes(file), field: link.field };
    let mut ready = intake.prepare(place, file, questions).await;
    drop(room);
    ready.cost.fetch = fetch;
    ready
}
