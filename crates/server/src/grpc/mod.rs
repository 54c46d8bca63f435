//! The gRPC adapter: the services of the contract, and the layers before them.
//!
//! A call passes the [`deadline_layer`], the [`call_checks`] and authentication. Its messages pass
//! [`inflate`], the [`message_budget`], the [`framing`] and the [`codec`]. The [`handler`] turns it
//! into a request for the [`pipeline`](crate::pipeline), and the results into response messages.

pub mod routes; // all services and their layers
pub mod call_checks; // media type, origin, unknown methods
pub mod standard; // health and reflection
pub mod admin; // AdminService
pub mod codec; // bounded protobuf decoding
pub mod deadline_layer; // grpc-timeout
pub mod inflate; // compressed messages
pub mod framing; // prefixes and number of messages
pub mod message_budget; // memory for each message
pub mod frame_parser; // length prefixes of messages
pub mod service; // BlipService
pub mod open_inference; // the Open Inference Protocol
pub mod ask_stream; // streams of requests
pub mod handler; // one request message
pub mod requests; // request messages to requests
pub mod responses; // item results to response messages

/// Service traits, generated from the contract with [`codec::BoundedCodec`].
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod generated {
    tonic::include_proto!("blip.v1");
    tonic::include_proto!("inference");
    tonic::include_proto!("grpc.health.v1.Health");

    /// Reflection.
    pub mod reflection_v1 {
        tonic::include_proto!("grpc.reflection.v1.ServerReflection");
        pub use server_reflection_server::{ServerReflection, ServerReflectionServer};
    }

    /// Reflection under its earlier name.
    pub mod reflection_v1alpha {
        tonic::include_proto!("grpc.reflection.v1alpha.ServerReflection");
        pub use server_reflection_server::{ServerReflection, ServerReflectionServer};
    }
}

use crate::{
    auth::{Authenticated, Authenticator},
    grpc::{
        framing::FramedService, generated::blip_service_server::BlipServiceServer, handler::RequestHandler,
        inflate::InflatedService, message_budget::BudgetedService,
    },
    request::memory_budget::MemoryBudget,
};

/// A service behind authentication and the memory budget.
pub(crate) type Guarded<S> = Authenticated<InflatedService<BudgetedService<FramedService<S>>>>;

/// Returns `BlipService` behind authentication and the memory budget.
pub(crate) fn guarded(
    handler: RequestHandler,
    authenticator: &Authenticator,
    budget: MemoryBudget,
) -> Guarded<BlipServiceServer<RequestHandler>> {
    // The budget rejects longer messages first, with an error of the table.
    let service = BlipServiceServer::new(handler).max_decoding_message_size(budget.max_message_bytes());
    guard(service, authenticator, budget)
}

/// Puts a service behind authentication and the memory budget.
pub(crate) fn guard<S>(service: S, authenticator: &Authenticator, budget: MemoryBudget) -> Guarded<S> {
    let max_bytes = budget.max_message_bytes();
    let service = FramedService::new(service, max_bytes);
    let service = BudgetedService::new(service, budget.clone());
    Authenticated::new(InflatedService::new(service, budget, max_bytes), authenticator.clone())
}
