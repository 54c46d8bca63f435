//! `grpc.health.v1`: the health of the server and its models.

use futures::{StreamExt as _, stream::BoxStream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};

use crate::{
    error::{ErrorReason, RequestError},
    grpc::generated::health_server,
    lifecycle::health::Health,
};

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

fn serving(is_serving: bool) -> ServingStatus {
    if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let HealthCheckRequest { service } = request.into_inner();
        let is_serving = self.status(&service).ok_or_else(|| {
            RequestError::new(ErrorReason::ServiceUnknown)
                .field("service")
                .value(format!("{service:?}"))
                .limit(self.services().join(", "))
        })?;
        Ok(Response::new(response(serving(is_serving))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let statuses = Health::watch(self, request.into_inner().service);
        let status = |is_serving: Option<bool>| is_serving.map_or(ServingStatus::ServiceUnknown, serving);
        Ok(Response::new(statuses.map(move |is_serving| Ok(response(status(is_serving)))).boxed()))
    }
}
