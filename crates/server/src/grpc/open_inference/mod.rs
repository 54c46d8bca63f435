//! `inference.GRPCInferenceService`: the Open Inference Protocol.

pub mod messages; // the messages of ModelInfer
pub mod unread_response; // the memory of a response until it is sent

use std::{collections::HashMap, sync::Arc};

use futures::TryStreamExt as _;
use prost::Message as _;
use proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, model_metadata_response::TensorMetadata,
};
use tonic::{Request, Response, Status};

use crate::{
    error::{ErrorReason, RequestError},
    grpc::{
        generated::grpc_inference_service_server::GrpcInferenceService,
        handler::{MAX_TAG_BYTES, RequestHandler, client_of, trace_of},
        open_inference::{
            messages::{decode, response},
            unread_response::UnreadResponse,
        },
    },
    lifecycle::health::Health,
    open_inference::{
        call::TensorCall,
        output::{check_outputs, output_tensors},
        signature::{self, EXTENSIONS, SERVER_NAME, TensorSignature, VERSION, check_version},
    },
    pipeline::{request::InferenceRequest, streams::write_timing::record_writes_at_end},
    priority::RequestPriority,
    request::{
        deadline::{Deadline, DefaultDeadline},
        generation::GenerationOptions,
        memory_budget::{BudgetPermit, MemoryBudget},
    },
};

/// The service of the Open Inference Protocol.
#[derive(Clone, Debug)]
pub struct OpenInference {
    /// Handles requests.
    pub handler: RequestHandler,
    /// The health of the server and its models.
    pub health: Health,
    /// The memory budget of responses.
    pub budget: MemoryBudget,
}

#[tonic::async_trait]
impl GrpcInferenceService for OpenInference {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.health.is_serving() }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        check_version(&version)?;
        let model = self.handler.models.get(&name).map_err(|error| error.field("name"))?;
        Ok(Response::new(ModelReadyResponse { ready: self.health.is_model_serving(&model.name) }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: SERVER_NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).into(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        check_version(&version)?;
        let model = self.handler.models.get(&name).map_err(|error| error.field("name"))?;
        let tensor = |TensorSignature { name, datatype, shape }| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape,
        };
        let outputs = signature::outputs(model.architecture, model.embedding_size);
        Ok(Response::new(ModelMetadataResponse {
            name: model.name.to_string(),
            versions: vec![VERSION.to_owned()],
            platform: SERVER_NAME.to_owned(),
            inputs: signature::inputs(model.architecture).into_iter().map(tensor).collect(),
            outputs: outputs.into_iter().map(tensor).collect(),
            properties: HashMap::new(),
        }))
    }

    async fn model_infer(
        &self,
        request: Request<ModelInferRequest>,
    ) -> Result<Response<ModelInferResponse>, Status> {
        let client = client_of(&request)?;
        let caller = client.caller();
        let budget =
            request.extensions().get::<BudgetPermit>().map(BudgetPermit::next_message).unwrap_or_default();
        let client_deadline = request.extensions().get::<Deadline>().copied();
        let default_deadline = request.extensions().get::<DefaultDeadline>().map(|default| default.0);
        let trace = trace_of(&request);
        let request = request.into_inner();
        check_version(&request.model_version)?;
        let id = request.id.clone();
        if id.len() > MAX_TAG_BYTES {
            return Err(RequestError::new(ErrorReason::TagTooLong)
                .field("id")
                .value(format!("{} bytes", id.len()))
                .limit(format!("{MAX_TAG_BYTES} bytes"))
                .into());
        }
        let model =
            self.handler.models.get(&request.model_name).map_err(|error| error.field("model_name"))?;
        let requested: Vec<String> = request.outputs.iter().map(|output| output.name.clone()).collect();
        let is_raw = !request.raw_input_contents.is_empty();
        let (tensors, parameters) = decode(request)?;
        let TensorCall { inputs, task, format } = TensorCall::new(model.architecture, tensors, parameters)?;
        check_outputs(&task, &requested)?;
        let results = self.handler.inference.infer(InferenceRequest {
            inputs,
            task,
            model: model.name.to_string(),
            format,
            client,
            priority: RequestPriority::default().into(),
            deadline: client_deadline.or(default_deadline),
            in_order: true,
            complete_on_error: client_deadline.is_none(),
            budget,
            trace: trace.clone(),
        });
        let results = results.map_err(GenerationOptions::in_parameters)?;
        let results = record_writes_at_end(results, trace).try_collect().await?;
        let outputs = output_tensors(results, &requested)?;
        let mut response = Response::new(response(model.name.to_string(), id, outputs, is_raw));
        let share = self.budget.reserve_response(caller, response.get_ref().encoded_len())?;
        response.extensions_mut().insert(UnreadResponse(Arc::new(share)));
        Ok(response)
    }
}
