//! `grpc.reflection.v1` and `v1alpha`: the descriptors of the services.
//!
//! The messages of both versions have the same fields, so those of `v1` serve both. An unknown name
//! is an error message, after which the call goes on.

use anyhow::Context as _;
use futures::{StreamExt as _, stream::BoxStream};
use prost_reflect::{DescriptorPool, FileDescriptor};
use proto::DESCRIPTORS;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::grpc::generated::{reflection_v1, reflection_v1alpha};

type Responses = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

/// The reflection service.
#[derive(Clone, Debug)]
pub struct Reflection(DescriptorPool);

impl Reflection {
    /// Reads the descriptors of all services of the server.
    ///
    /// # Errors
    /// Descriptors that do not fit together.
    pub fn new() -> anyhow::Result<Self> {
        let mut pool = DescriptorPool::new();
        for descriptors in [
            DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            pool.decode_file_descriptor_set(descriptors).context("cannot read the descriptors")?;
        }
        Ok(Self(pool))
    }

    fn answer_all(&self, requests: Streaming<ServerReflectionRequest>) -> Response<Responses> {
        let service = self.clone();
        Response::new(requests.map(move |request| Ok(service.respond(request?))).boxed())
    }

    fn respond(&self, request: ServerReflectionRequest) -> ServerReflectionResponse {
        let answer = match &request.message_request {
            Some(message) => self.answer(message),
            None => Err(error(Code::InvalidArgument, "message_request is empty".to_owned())),
        };
        ServerReflectionResponse {
            valid_host: request.host.clone(),
            original_request: Some(request),
            message_response: Some(answer.unwrap_or_else(MessageResponse::ErrorResponse)),
        }
    }

    fn answer(&self, request: &MessageRequest) -> Result<MessageResponse, ErrorResponse> {
        let Self(pool) = self;
        let unknown = |what: &str, name: &str| error(Code::NotFound, format!("unknown {what}: {name}"));
        let message = |name: &str| pool.get_message_by_name(name).ok_or_else(|| unknown("message", name));
        let file = match request {
            MessageRequest::ListServices(_) => {
                let service = pool.services().map(|service| service.full_name().to_owned());
                let service = service.map(|name| ServiceResponse { name }).collect();
                return Ok(MessageResponse::ListServicesResponse(ListServiceResponse { service }));
            }
            MessageRequest::AllExtensionNumbersOfType(name) => {
                let message = message(name)?;
                let numbers = message.extensions().map(|extension| extension.number().cast_signed());
                return Ok(MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: numbers.collect(),
                }));
            }
            MessageRequest::FileByFilename(name) => {
                pool.get_file_by_name(name).ok_or_else(|| unknown("file", name))?
            }
            MessageRequest::FileContainingSymbol(name) => {
                self.file_of(name).ok_or_else(|| unknown("symbol", name))?
            }
            MessageRequest::FileContainingExtension(extension) => {
                let number = extension.extension_number;
                let found = message(&extension.containing_type)?.get_extension(number.cast_unsigned());
                found.ok_or_else(|| unknown("extension", &number.to_string()))?.parent_file()
            }
        };
        let file_descriptor_proto = vec![file.encode_to_vec()];
        Ok(MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto }))
    }

    /// Returns the file that defines a symbol, with its package: a service, message, enum or
    /// extension, or a member of one of them.
    fn file_of(&self, symbol: &str) -> Option<FileDescriptor> {
        let Self(pool) = self;
        let service = |name| pool.get_service_by_name(name);
        let message = |name| pool.get_message_by_name(name);
        let whole = service(symbol)
            .map(|service| service.parent_file())
            .or_else(|| message(symbol).map(|message| message.parent_file()))
            .or_else(|| pool.get_enum_by_name(symbol).map(|kind| kind.parent_file()))
            .or_else(|| pool.get_extension_by_name(symbol).map(|extension| extension.parent_file()));
        if whole.is_some() {
            return whole;
        }
        let (parent, member) = symbol.rsplit_once('.')?;
        if let Some(service) = service(parent) {
            return service.methods().any(|method| method.name() == member).then(|| service.parent_file());
        }
        if let Some(message) = message(parent) {
            let is_member = message.get_field_by_name(member).is_some()
                || message.oneofs().any(|oneof| oneof.name() == member);
            return is_member.then(|| message.parent_file());
        }
        let kind = pool.get_enum_by_name(parent)?;
        kind.get_value_by_name(member).map(|_| kind.parent_file())
    }
}

fn error(code: Code, error_message: String) -> ErrorResponse {
    ErrorResponse { error_code: code.into(), error_message }
}

#[tonic::async_trait]
impl reflection_v1::ServerReflection for Reflection {
    type ServerReflectionInfoStream = Responses;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Responses>, Status> {
        Ok(self.answer_all(request.into_inner()))
    }
}

#[tonic::async_trait]
impl reflection_v1alpha::ServerReflection for Reflection {
    type ServerReflectionInfoStream = Responses;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Responses>, Status> {
        Ok(self.answer_all(request.into_inner()))
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorProto;

    use std::collections::BTreeSet;

    use prost_reflect::MethodDescriptor;

    use super::*;
    use crate::grpc::framing::STREAMING_METHODS;

    fn answer(request: MessageRequest) -> MessageResponse {
        let request = ServerReflectionRequest { host: "h".to_owned(), message_request: Some(request) };
        let response = Reflection::new().unwrap().respond(request.clone());
        assert_eq!(response.original_request, Some(request));
        response.message_response.unwrap()
    }

    fn file_name(request: MessageRequest) -> String {
        let MessageResponse::FileDescriptorResponse(files) = answer(request) else { panic!() };
        FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).unwrap().name.unwrap()
    }

    #[test]
    fn every_kind_of_symbol_has_its_file() {
        for symbol in [
            "blip.v1.BlipService",
            "blip.v1.BlipService.Ask",
            "blip.v1.AskRequest",
            "blip.v1.AskRequest.inputs",
            "blip.v1.AskResponse.outcome",
            "blip.v1.Task",
        ] {
            let name = file_name(MessageRequest::FileContainingSymbol(symbol.to_owned()));
            assert!(name.starts_with("blip/v1/"), "{symbol}: {name}");
            assert_eq!(file_name(MessageRequest::FileByFilename(name.clone())), name);
        }
    }

    #[test]
    fn unknown_name_is_an_error_message() {
        for request in [
            MessageRequest::FileContainingSymbol("nope.X".to_owned()),
            MessageRequest::FileContainingSymbol("blip.v1.AskRequest.nope".to_owned()),
            MessageRequest::FileContainingSymbol(String::new()),
            MessageRequest::FileByFilename("nope.proto".to_owned()),
            MessageRequest::AllExtensionNumbersOfType("nope.X".to_owned()),
        ] {
            let MessageResponse::ErrorResponse(error) = answer(request.clone()) else {
                panic!("{request:?}")
            };
            assert_eq!(error.error_code, i32::from(Code::NotFound));
        }
    }

    #[test]
    fn all_services_are_listed() {
        let MessageResponse::ListServicesResponse(list) = answer(MessageRequest::ListServices(String::new()))
        else {
            panic!()
        };
        let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "blip.v1.AdminService",
                "blip.v1.BlipService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "inference.GRPCInferenceService",
            ]
        );
    }

    #[test]
    fn methods_that_take_a_stream_are_known_to_the_framing() {
        let Reflection(pool) = Reflection::new().unwrap();
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let streaming: BTreeSet<String> = methods
            .filter(MethodDescriptor::is_client_streaming)
            .map(|method| method.name().to_owned())
            .collect();
        assert_eq!(streaming, STREAMING_METHODS.map(str::to_owned).into());
    }
}
