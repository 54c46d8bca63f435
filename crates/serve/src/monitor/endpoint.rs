//! `/metrics`, the three questions that a supervisor asks, and the log filter, on a listener of their own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use allocator_memory::AllocatorMemory;
use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::{StatusCode, header::CONTENT_TYPE};
use metrics_exporter_prometheus::PrometheusHandle;
use scheduler::Snapshot;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{device_memory, log_filter, models, process_memory, table};
use crate::{description::Description, telemetry::LogFilter};

/// How often histograms are put in order when nobody asks for them.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// How a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vitals {
    /// The model has been loaded.
    pub started: bool,
    /// Requests are answered.
    pub serving: bool,
}

/// A look at what waits and runs for each model, once there are any.
pub type Look = Arc<dyn Fn() -> Vec<(Arc<Description>, Snapshot)> + Send + Sync>;

/// What those who watch may see.
#[derive(Clone)]
pub struct Watchers {
    /// What records the metrics.
    pub recorder: PrometheusHandle,
    /// What is logged.
    pub log_filter: LogFilter,
}

impl std::fmt::Debug for Watchers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watchers").field("log_filter", &self.log_filter).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Watched {
    vitals: watch::Receiver<Vitals>,
    look: Look,
    recorder: PrometheusHandle,
    process: Arc<metrics_process::Collector>,
}

/// Answers on `listener` for ever. The server is not ready while all queues that `look` shows are full: as long as one is not,
/// it is of use to someone.
pub async fn serve(listener: TcpListener, watchers: Watchers, vitals: watch::Receiver<Vitals>, look: Look) {
    let Watchers { recorder, log_filter } = watchers;
    let process = Arc::new(metrics_process::Collector::default());
    let memory = device_memory::watch(vitals.clone());
    let watched = Watched { vitals, look, recorder: recorder.clone(), process };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { (StatusCode::OK, "alive\n") }))
        .route("/readyz", get(ready))
        .route("/healthz", get(started))
        .with_state(watched)
        .merge(log_filter::routes(log_filter))
        .into_make_service_with_connect_info::<SocketAddr>();
    let upkeep = async {
        let mut ticks = interval(UPKEEP_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            recorder.run_upkeep();
        }
    };
    tokio::select! {
        ended = axum::serve(listener, router).into_future() => {
            if let Err(error) = ended {
                tracing::error!(%error, "the metrics listener has ended");
            }
        }
        _ = futures::future::join(upkeep, memory) => {}
    }
}

async fn metrics(State(watched): State<Watched>) -> impl IntoResponse {
    watched.process.collect();
    table::ready(watched.vitals.borrow().serving);
    process_memory::record(&AllocatorMemory::read());
    let text = watched.recorder.render() + &models::render(&(watched.look)());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn ready(State(watched): State<Watched>) -> impl IntoResponse {
    let serving = watched.vitals.borrow().serving;
    if !serving {
        return yes_or_no(false, "", "not ready: loading, stopping, or the engine is not well\n");
    }
    let queues = (watched.look)();
    let is_full = !queues.is_empty() && queues.iter().all(|(_, queue)| queue.jobs >= queue.job_limit);
    yes_or_no(!is_full, "ready\n", "not ready: the queue is full\n")
}

async fn started(State(watched): State<Watched>) -> impl IntoResponse {
    yes_or_no(watched.vitals.borrow().started, "started\n", "the model is still loading\n")
}

fn yes_or_no(yes: bool, positive: &'static str, negative: &'static str) -> (StatusCode, &'static str) {
    if yes { (StatusCode::OK, positive) } else { (StatusCode::SERVICE_UNAVAILABLE, negative) }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// What `/readyz` says of a server that serves, or not, with so many jobs for each model and room for three.
    async fn told(serving: bool, jobs: &'static [usize]) -> (StatusCode, String) {
        let (_vitals, vitals) = watch::channel(Vitals { started: true, serving });
        let watched = Watched {
            vitals,
            look: Arc::new(move || {
                let queue = |jobs: &usize| Snapshot { jobs: *jobs, job_limit: 3, ..Snapshot::default() };
                jobs.iter()
                    .map(|jobs| (Arc::new(Description::of_test("model", "demo")), queue(jobs)))
                    .collect()
            }),
            recorder: PrometheusBuilder::new().build_recorder().handle(),
            process: Arc::default(),
        };
        let response = ready(State(watched)).await.into_response();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_full_queue_is_not_ready_and_says_so() {
        assert_eq!(told(true, &[2]).await, (StatusCode::OK, "ready\n".to_owned()));
        assert_eq!(told(true, &[3, 2]).await, (StatusCode::OK, "ready\n".to_owned()));
        let (status, text) = told(true, &[3, 3]).await;
        assert_eq!(
            (status, text.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "not ready: the queue is full\n")
        );
    }

    #[tokio::test]
    async fn a_server_that_loads_or_stops_is_not_ready_whatever_waits() {
        for jobs in [&[] as &[usize], &[0]] {
            let (status, text) = told(false, jobs).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(text.starts_with("not ready: loading"), "{text}");
        }
    }
}
