//! gRPC: the services of the contract, and what stands ahead of them.

/// Service traits, generated from the contract with this crate's codec.
#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    missing_docs,
    reason = "generated"
)]
pub mod generated {
    tonic::include_proto!("blip.v1");
}

pub mod admin;
pub mod ask_stream;
pub mod codec;
pub mod deadline_layer;
pub mod frame_parser;
pub mod handler;
pub mod message_budget;
pub mod requests;
pub mod responses;
pub mod service;

use std::{future::Future, net::SocketAddr, num::NonZeroU64, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _};
use proto::DESCRIPTORS;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::{
    auth::{Authenticated, Authenticator},
    config::Settings,
    grpc::{
        admin::MAX_REQUEST_BYTES,
        deadline_layer::DeadlineLayer,
        generated::{admin_service_server::AdminServiceServer, blip_service_server::BlipServiceServer},
        handler::RequestHandler,
        message_budget::BudgetedService,
    },
    http::{self, HttpServer},
    lifecycle::{
        admin::{Administration, ModelAdmin},
        health::{Health, Readiness},
        manager::{Loader, ModelManager},
    },
    listener::{Acceptor, Connections, Protocols, Tls},
    models::{info::ModelInfo, loaded_model::InferenceEngine, registry::ModelRegistry},
    pipeline::dispatcher::{InferenceService, Dispatcher},
    request::memory_budget::MemoryBudget,
    serve::{
        exit::Exit,
        ops::endpoint::{OpsConfig, SnapshotFn},
        shutdown::RunningServer,
    },
    telemetry::{
        Protocol, TelemetryLayer,
        metrics::{self, MetricsLayer},
        tracing::Tracing,
    },
};

/// `BlipService` for those whom `authenticator` knows, with their messages in `room`.
pub(crate) fn guarded(
    service: RequestHandler,
    authenticator: &Authenticator,
    room: MemoryBudget,
) -> Authenticated<BudgetedService<BlipServiceServer<RequestHandler>>> {
    // The room refuses longer messages first, in our own words.
    let ask = BlipServiceServer::new(service).max_decoding_message_size(room.max_message_bytes());
    Authenticated::new(BudgetedService::new(ask, room), authenticator.clone())
}
