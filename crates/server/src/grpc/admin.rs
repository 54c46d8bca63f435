//! `AdminService`: loads and unloads models on request of an administrator.

use proto::{LoadModelRequest, Model, UnloadModelRequest, UnloadModelResponse};
use tonic::{Request, Response, Status, transport::server::TcpConnectInfo};

use crate::{
    auth::client::Client,
    error::{ErrorReason, RequestError},
    grpc::generated::admin_service_server::AdminService,
    lifecycle::admin::{Administration, LoadRequest, ModelAdmin},
};

/// The maximum length of an administrator's request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Returns the operations if the client of `request` is an administrator.
fn authorize<'a, T>(
    administration: &'a Administration,
    request: &Request<T>,
) -> Result<&'a dyn ModelAdmin, RequestError> {
    let client = request.extensions().get::<Client>();
    let client = client.ok_or_else(|| RequestError::new(ErrorReason::AdminRequired))?;
    let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    administration.authorize(client, peer)
}

#[tonic::async_trait]
impl AdminService for Administration {
    async fn load_model(&self, request: Request<LoadModelRequest>) -> Result<Response<Model>, Status> {
        let admin = authorize(self, &request)?;
        let LoadModelRequest { name, source, device, dtype, flavour: conventions } = request.into_inner();
        let request = LoadRequest { name, source, device, dtype, conventions };
        Ok(Response::new(Model::from(&*admin.load(&request).await?)))
    }

    async fn unload_model(
        &self,
        request: Request<UnloadModelRequest>,
    ) -> Result<Response<UnloadModelResponse>, Status> {
        let admin = authorize(self, &request)?;
        admin.unload(&request.get_ref().name).await?;
        Ok(Response::new(UnloadModelResponse {}))
    }
}
