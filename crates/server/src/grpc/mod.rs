//! gRPC: the services of the contract, and what stands ahead of them.

pub mod admin;
pub mod codec;
pub mod deadline_layer;
pub mod message_budget;
pub mod frame_parser;
pub mod service;
pub mod ask_stream;
pub mod handler;
pub mod requests;
pub mod responses;

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
