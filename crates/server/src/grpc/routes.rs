//! The services of the gRPC listener, and the layers before them.

use std::{convert::Infallible, sync::Arc};

use axum::middleware::from_fn_with_state;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tonic::service::Routes;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::{
    auth::{Authenticated, Authenticator},
    config::{Settings, sections::http::CorsOrigin},
    grpc::{
        admin::MAX_REQUEST_BYTES,
        call_checks::check_call,
        deadline_layer::DeadlineLayer,
        framing::FramedService,
        generated::{
            admin_service_server::AdminServiceServer,
            grpc_inference_service_server::GrpcInferenceServiceServer, health_server::HealthServer,
            reflection_v1, reflection_v1alpha,
        },
        guard, guarded,
        handler::RequestHandler,
        inflate::InflatedService,
        open_inference::{OpenInference, unread_response::UnreadResponseService},
        standard::reflection::Reflection,
    },
    lifecycle::{admin::Administration, health::Health},
    request::memory_budget::MemoryBudget,
    telemetry::{Protocol, TelemetryLayer, metrics::MetricsLayer, tracing::Tracing},
};

/// What the gRPC services need.
#[derive(Clone, Debug)]
pub struct GrpcServer {
    /// Handles inference requests.
    pub handler: RequestHandler,
    /// Authenticates clients.
    pub authenticator: Authenticator,
    /// Loads and unloads models for administrators.
    pub administration: Administration,
    /// The memory budget of request messages, shared with HTTP.
    pub budget: MemoryBudget,
    /// The export of traces.
    pub tracing: Tracing,
    /// The health of the server and its models.
    pub health: Health,
}

/// Returns all services. They expect a [`tonic::transport::server::TcpConnectInfo`] in the
/// extensions of a request.
///
/// # Errors
/// Descriptors that reflection cannot read.
pub fn routes<B>(
    server: GrpcServer,
    settings: &Settings,
) -> anyhow::Result<
    impl Service<
        Request<B>,
        Response = Response<impl Body<Data = Bytes, Error = tonic::Status> + Send + 'static>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static,
>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let GrpcServer { handler, authenticator, administration, budget, tracing, health } = server;
    let open_inference =
        OpenInference { handler: handler.clone(), health: health.clone(), budget: budget.clone() };
    let open_inference =
        GrpcInferenceServiceServer::new(open_inference).max_decoding_message_size(budget.max_message_bytes());
    let open_inference = UnreadResponseService(open_inference);
    let mut routes = Routes::new(framed(HealthServer::new(health), &budget))
        .add_service(guarded(handler, &authenticator, budget.clone()))
        .add_service(guard(open_inference, &authenticator, budget.clone()));
    if settings.grpc.reflection {
        let reflection = Reflection::new()?;
        let v1 = reflection_v1::ServerReflectionServer::new(reflection.clone());
        let v1alpha = reflection_v1alpha::ServerReflectionServer::new(reflection);
        routes = routes
            .add_service(Authenticated::new(framed(v1, &budget), authenticator.clone()))
            .add_service(Authenticated::new(framed(v1alpha, &budget), authenticator.clone()));
    }
    let admin = AdminServiceServer::new(administration);
    let routes = routes.add_service(Authenticated::new(framed(admin, &budget), authenticator));
    let origins: Arc<[CorsOrigin]> = settings.http.http_cors_origins.clone().into();
    let checked = routes.into_axum_router().layer(from_fn_with_state(origins, check_call));
    let routes = Routes::from(checked).prepare();
    let deadline = DeadlineLayer { default_deadline: settings.limits.default_deadline() };
    let telemetry = TelemetryLayer::new(Protocol::Grpc, tracing);
    Ok(telemetry.layer(MetricsLayer.layer(deadline.layer(routes))))
}

/// Wraps a service whose requests are small.
fn framed<S>(service: S, budget: &MemoryBudget) -> InflatedService<FramedService<S>> {
    let service = FramedService::new(service, MAX_REQUEST_BYTES);
    InflatedService::new(service, budget.clone(), MAX_REQUEST_BYTES)
}
