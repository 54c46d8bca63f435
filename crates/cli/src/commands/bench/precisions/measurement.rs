//! The measurement of one number format.

use std::{num::NonZeroUsize, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use load_generator::{LoadRequest, Workload};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::{metadata::MetadataMap, transport::Channel};

use crate::{commands::bench::grpc::answers, connection::RpcClient};

/// Shortest time of each part of a measurement.
const PART: Duration = Duration::from_secs(1);

/// Smallest number of requests of each part that are measured one by one.
const MIN_ALONE: usize = 5;

/// Questions about an image after which a model has cached what it needs of it.
const USES_UNTIL_CACHED: usize = 8;

/// What was measured of a number format.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Measurement {
    /// Median time of a request with a new image and nothing else to do, in milliseconds.
    pub(super) new_image_ms: f64,
    /// The same with an image that the model has cached.
    pub(super) cached_image_ms: f64,
    /// Requests with new images per second, with as many in flight as the load test has clients.
    pub(super) requests_per_s: f64,
    /// Memory of the process after the load. `None` where the system does not show it.
    pub(super) resident_bytes: Option<u64>,
    /// The answers to the compared requests, in order.
    pub(super) answers: Vec<String>,
}

impl Measurement {
    /// Measures the engine behind `channel`. The answers of `compared` requests are returned.
    pub(super) async fn take(
        channel: Channel,
        mut workload: Workload,
        compared: NonZeroUsize,
        in_flight: usize,
    ) -> anyhow::Result<Self> {
        let client = &RpcClient::new(channel, MetadataMap::new());
        // Requests are the same for each format, so those to compare come first.
        let start = Instant::now();
        let requests = std::iter::repeat_with(|| workload.next_request())
            .enumerate()
            .take_while(|(index, _)| *index < compared.get() || start.elapsed() < PART);
        let results = stream::iter(requests).map(async |(index, request)| {
            let answers = answers(client, request).await?;
            anyhow::Ok((index < compared.get(), answers))
        });
        let results: Vec<_> = results.buffered(in_flight).try_collect().await?;
        let requests_per_s = results.len() as f64 / start.elapsed().as_secs_f64();
        let answers =
            results.into_iter().filter(|(is_compared, _)| *is_compared).flat_map(|(_, answers)| answers);
        let answers = answers.collect();
        let new_image_ms = median_ms(client, || workload.next_request()).await?;
        let LoadRequest { image, .. } = workload.next_request();
        let mut on_cached = || LoadRequest { image: image.clone(), ..workload.next_request() };
        for _ in 0..USES_UNTIL_CACHED {
            self::answers(client, on_cached()).await?;
        }
        let cached_image_ms = median_ms(client, on_cached).await?;
        Ok(Self { new_image_ms, cached_image_ms, requests_per_s, resident_bytes: resident_bytes(), answers })
    }
}

/// Returns the median time of requests, one after the other, in milliseconds.
async fn median_ms(client: &RpcClient, mut next: impl FnMut() -> LoadRequest) -> anyhow::Result<f64> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < MIN_ALONE || start.elapsed() < PART {
        let request = next();
        let begin = Instant::now();
        answers(client, request).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().context("no request")
}

/// Returns the memory of this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kilobytes.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
