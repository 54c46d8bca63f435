//! The gRPC adapter: the services of the contract, and the layers before them.
//!
//! A message passes the [`deadline_layer`], authentication, the [`message_budget`] and the
//! [`codec`]. The [`handler`] turns it into a request for the [`pipeline`](crate::pipeline), and
//! the results into response messages.

pub mod admin; // AdminService
pub mod codec; // bounded protobuf decoding
pub mod deadline_layer; // grpc-timeout
pub mod message_budget; // memory for each message
pub mod frame_parser; // length prefixes of messages
pub mod service; // BlipService
pub mod ask_stream; // streams of requests
pub mod handler; // one request message
pub mod requests; // request messages to requests
pub mod responses; // item results to response messages

/// Service traits, generated from the contract with [`codec::BoundedCodec`].
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod generated {
    tonic::include_proto!("blip.v1");
}

use crate::{
    auth::{Authenticated, Authenticator},
    grpc::{
        generated::blip_service_server::BlipServiceServer, handler::RequestHandler,
        message_budget::BudgetedService,
    },
    request::memory_budget::MemoryBudget,
};

/// Returns `BlipService` behind authentication and the memory budget.
pub(crate) fn guarded(
    handler: RequestHandler,
    authenticator: &Authenticator,
    budget: MemoryBudget,
) -> Authenticated<BudgetedService<BlipServiceServer<RequestHandler>>> {
    // The budget rejects longer messages first, with an error of the table.
    let service = BlipServiceServer::new(handler).max_decoding_message_size(budget.max_message_bytes());
    Authenticated::new(BudgetedService::new(service, budget), authenticator.clone())
}
