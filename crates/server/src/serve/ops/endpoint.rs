//! The operations listener: metrics, probes (`/livez`, `/readyz`, `/healthz`), and the log filter.

use std::{fmt, sync::Arc, time::Duration};

use axum::{Router, extract::State, middleware::from_fn_with_state, response::IntoResponse, routing::get};
use http::{StatusCode, header::CONTENT_TYPE};
use metrics_exporter_prometheus::PrometheusHandle;
use scheduler::Snapshot;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use crate::{
    config::{Settings, sections::http::CorsOrigin},
    http::{
        allowed_hosts::{HostPolicy, check_host},
        cors::check_origin,
    },
    lifecycle::health::Readiness,
    models::info::ModelInfo,
    serve::ops::{connections, device_memory, log_filter, model_gauges, process_memory::ProcessMemory},
    telemetry::{logging::filter::LogFilter, metrics::table},
};

/// The period in which the recorder compacts histograms, also without scrapes.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// Returns the loaded models with the snapshots of their schedulers.
pub type SnapshotFn = Arc<dyn Fn() -> Vec<(Arc<ModelInfo>, Snapshot)> + Send + Sync>;

/// The configuration of the operations listener.
#[derive(Clone)]
pub struct OpsConfig {
    /// The recorder of the metrics.
    pub recorder: PrometheusHandle,
    /// The log filter.
    pub log_filter: LogFilter,
    /// The commit of the program, for `blip_model_info`.
    pub commit: &'static str,
}

impl fmt::Debug for OpsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpsConfig")
            .field("log_filter", &self.log_filter)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct OpsState {
    readiness: watch::Receiver<Readiness>,
    snapshots: SnapshotFn,
    recorder: PrometheusHandle,
    commit: &'static str,
    process: Arc<metrics_process::Collector>,
}

/// Serves the endpoint on `listener` forever.
///
/// The server is not ready while the queues of all models in `snapshots` are full. While one of
/// them has capacity, requests for its model can succeed.
pub async fn serve(
    listener: TcpListener,
    config: OpsConfig,
    settings: Settings,
    readiness: watch::Receiver<Readiness>,
    snapshots: SnapshotFn,
) {
    let OpsConfig { recorder, log_filter, commit } = config;
    let process = Arc::new(metrics_process::Collector::default());
    let memory = device_memory::watch(readiness.clone());
    let state = OpsState { readiness, snapshots, recorder: recorder.clone(), commit, process };
    let hosts = HostPolicy::new(&settings.http.allowed_hosts, settings.metrics.metrics_listen);
    // No page of another origin may call this listener.
    let origins: Arc<[CorsOrigin]> = Arc::default();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { (StatusCode::OK, "alive\n") }))
        .route("/readyz", get(ready))
        .route("/healthz", get(started))
        .with_state(state)
        .merge(log_filter::routes(log_filter))
        .layer(from_fn_with_state(origins, check_origin))
        .layer(from_fn_with_state(hosts, check_host));
    let upkeep = async {
        let mut ticks = interval(UPKEEP_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            recorder.run_upkeep();
        }
    };
    let max_connections = settings.metrics.metrics_max_connections as usize;
    let connections = connections::serve(listener, router, max_connections);
    futures::future::join3(connections, upkeep, memory).await;
}

async fn metrics(State(state): State<OpsState>) -> impl IntoResponse {
    state.process.collect();
    table::set_ready(state.readiness.borrow().is_serving);
    ProcessMemory::read().record();
    let text = state.recorder.render() + &model_gauges::render(&(state.snapshots)(), state.commit);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn ready(State(state): State<OpsState>) -> impl IntoResponse {
    let is_serving = state.readiness.borrow().is_serving;
    if !is_serving {
        return probe_response(
            false,
            "",
            "not ready: models loading, server stopping, or engine unhealthy\n",
        );
    }
    let queues = (state.snapshots)();
    let is_full = !queues.is_empty() && queues.iter().all(|(_, queue)| queue.jobs >= queue.job_limit);
    probe_response(!is_full, "ready\n", "not ready: queue full\n")
}

async fn started(State(state): State<OpsState>) -> impl IntoResponse {
    probe_response(state.readiness.borrow().is_started, "started\n", "not started: models loading\n")
}

fn probe_response(is_ok: bool, success: &'static str, failure: &'static str) -> (StatusCode, &'static str) {
    if is_ok { (StatusCode::OK, success) } else { (StatusCode::SERVICE_UNAVAILABLE, failure) }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// Returns the response of `/readyz` for models with this many jobs each, of at most three.
    async fn readyz(is_serving: bool, jobs: &'static [usize]) -> (StatusCode, String) {
        let (_sender, readiness) = watch::channel(Readiness { is_started: true, is_serving });
        let state = OpsState {
            readiness,
            snapshots: Arc::new(move || {
                let queue = |jobs: &usize| Snapshot { jobs: *jobs, job_limit: 3, ..Snapshot::default() };
                jobs.iter()
                    .map(|jobs| (Arc::new(ModelInfo::for_test("model", "demo")), queue(jobs)))
                    .collect()
            }),
            recorder: PrometheusBuilder::new().build_recorder().handle(),
            commit: "unknown",
            process: Arc::default(),
        };
        let response = ready(State(state)).await.into_response();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn server_is_not_ready_while_all_queues_are_full() {
        assert_eq!(readyz(true, &[2]).await, (StatusCode::OK, "ready\n".to_owned()));
        assert_eq!(readyz(true, &[3, 2]).await, (StatusCode::OK, "ready\n".to_owned()));
        let (status, text) = readyz(true, &[3, 3]).await;
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "not ready: queue full\n"));
    }

    #[tokio::test]
    async fn loading_or_stopping_server_is_not_ready() {
        for jobs in [&[] as &[usize], &[0]] {
            let (status, text) = readyz(false, jobs).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(text.starts_with("not ready: models loading"), "{text}");
        }
    }
}
