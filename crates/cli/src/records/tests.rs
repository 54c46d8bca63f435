//! Results of the tasks against a scripted server.

use std::sync::{Arc, Mutex};

use blip_server::{
    error::{ErrorReason, RequestError},
    grpc::generated::blip_service_server::{BlipService, BlipServiceServer},
};
use bulk::{Fields, RecordResult, Task};
use futures::{StreamExt as _, stream, stream::BoxStream};
use proto::{
    Answer, AskRequest, AskResponse, Caption, CaptionPiece, CaptionRequest, CaptionResponse, EmbedRequest,
    EmbedResponse, GetModelRequest, ListModelsRequest, ListModelsResponse, MatchRequest, MatchResponse,
    MatchScores, Model, ask_response, caption_response, embed_response, match_response,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use crate::{
    connection::RpcClient,
    records::{AskTask, CaptionTask, EmbedTask, ImageLoader, MatchTask},
};

type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// Answers a question with its text. Rejects a request of several questions as a whole.
///
/// The question "end" ends the call.
#[derive(Default)]
struct Scripted {
    sizes: Arc<Mutex<Vec<usize>>>,
}

fn answer(request: &AskRequest) -> Vec<Result<AskResponse, Status>> {
    let questions = request.inputs.first().map(|input| input.questions.as_slice()).unwrap_or_default();
    let respond =
        |outcome| AskResponse { outcome: Some(outcome), tag: request.tag.clone(), ..AskResponse::default() };
    match questions {
        [one] if one.text == "end" => vec![Err(Status::unavailable("stopping"))],
        [one] => {
            let answer = Answer { text: one.text.clone(), ..Answer::default() };
            vec![Ok(respond(ask_response::Outcome::Answer(answer)))]
        }
        _ => {
            let refusal = RequestError::new(ErrorReason::QuestionEmpty).field("inputs[0]").to_rpc_status();
            vec![Ok(respond(ask_response::Outcome::Error(refusal)))]
        }
    }
}

#[tonic::async_trait]
impl BlipService for Scripted {
    type AskStream = Stream<AskResponse>;
    type AskStreamStream = Stream<AskResponse>;
    type CaptionStream = Stream<CaptionResponse>;
    type MatchStream = Stream<MatchResponse>;
    type EmbedStream = Stream<EmbedResponse>;

    async fn ask(&self, _: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn ask_stream(
        &self,
        request: Request<Streaming<AskRequest>>,
    ) -> Result<Response<Self::AskStreamStream>, Status> {
        let sizes = Arc::clone(&self.sizes);
        let responses = request.into_inner().flat_map(move |request| {
            let request = request.unwrap();
            sizes.lock().unwrap().push(request.inputs[0].questions.len());
            stream::iter(answer(&request))
        });
        Ok(Response::new(responses.boxed()))
    }

    /// Sends pieces and a caption for the first prompt, an error for the second, and a caption for
    /// the third.
    async fn caption(
        &self,
        request: Request<CaptionRequest>,
    ) -> Result<Response<Self::CaptionStream>, Status> {
        let prompts = request.into_inner().inputs.remove(0).prompts;
        let respond = |prompt_index, outcome| {
            Ok(CaptionResponse { prompt_index, outcome: Some(outcome), ..CaptionResponse::default() })
        };
        let piece =
            |text: &str| caption_response::Outcome::Piece(CaptionPiece { text: text.into(), token_id: 0 });
        let caption = |prompt: &str| {
            let caption = Caption { text: format!("{prompt} cat"), ..Caption::default() };
            caption_response::Outcome::Caption(caption)
        };
        let refusal = RequestError::new(ErrorReason::QuestionEmpty).field("prompts[1]").to_rpc_status();
        Ok(Response::new(
            stream::iter([
                respond(0, piece(" c")),
                respond(2, caption(&prompts[2])),
                respond(0, piece("at")),
                respond(0, caption(&prompts[0])),
                respond(1, caption_response::Outcome::Error(refusal)),
            ])
            .boxed(),
        ))
    }

    /// Sends the scores of the last text, and ends the call.
    async fn r#match(&self, request: Request<MatchRequest>) -> Result<Response<Self::MatchStream>, Status> {
        let last = u32::try_from(request.into_inner().inputs[0].texts.len() - 1).unwrap();
        let scores = MatchScores { probability: 0.75, cosine: 0.5, ..MatchScores::default() };
        let response = MatchResponse {
            text_index: last,
            outcome: Some(match_response::Outcome::Match(scores)),
            ..MatchResponse::default()
        };
        Ok(Response::new(stream::iter([Ok(response), Err(Status::unavailable("stopping"))]).boxed()))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<Self::EmbedStream>, Status> {
        let request = request.into_inner();
        let values = if request.images.is_empty() { vec![1.0, 0.0] } else { vec![0.0, 1.0] };
        let embedding = proto::Embedding { values, timing: None };
        let response = EmbedResponse {
            outcome: Some(embed_response::Outcome::Embedding(embedding)),
            ..EmbedResponse::default()
        };
        Ok(Response::new(stream::iter([Ok(response)]).boxed()))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

/// Starts the server. Returns a client, and the number of questions in each request.
async fn serve() -> (RpcClient, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let scripted = Scripted::default();
    let sizes = Arc::clone(&scripted.sizes);
    let service = BlipServiceServer::new(scripted);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (RpcClient::new(channel, MetadataMap::new()), sizes)
}

fn records(field: &str, values: &[Value]) -> Vec<Fields> {
    let record = |value: &Value| json!({"image": "data:,", field: value}).as_object().unwrap().clone();
    values.iter().map(record).collect()
}

fn ask_task(client: RpcClient) -> AskTask {
    AskTask::new(client, ImageLoader::default(), AskRequest::default())
}

#[tokio::test]
async fn questions_rejected_together_are_sent_one_by_one() {
    let (client, sizes) = serve().await;
    let results = ask_task(client)
        .process(records("question", &[json!("a"), json!(3), json!("b"), json!("c")]))
        .await
        .unwrap();
    let [first, invalid, second, third] = &results[..] else { panic!("{results:?}") };
    // The error can be that of the first question alone, so it is not sent again.
    assert!(matches!(first, RecordResult::Failed(fields) if fields["error"]["reason"] == "QUESTION_EMPTY"));
    assert!(matches!(invalid, RecordResult::Failed(fields) if fields["error"]["reason"] == "LINE_INVALID"));
    for (result, text) in [(second, "b"), (third, "c")] {
        assert!(matches!(result, RecordResult::Answered(fields) if fields["answer"] == text), "{result:?}");
    }
    assert_eq!(*sizes.lock().unwrap(), [3, 1, 1]);
}

#[tokio::test]
async fn ended_call_loses_open_items_and_next_question_opens_another() {
    let (client, _) = serve().await;
    let task = ask_task(client);
    for (text, lost) in [("a", false), ("end", true), ("b", false)] {
        let results = task.process(records("question", &[json!(text)])).await.unwrap();
        assert_eq!(matches!(results[0], RecordResult::Unavailable(_)), lost, "{results:?}");
    }
}

#[tokio::test]
async fn captions_match_prompts_and_pieces_arrive_in_order() {
    let (client, _) = serve().await;
    let pieces = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&pieces);
    let task = CaptionTask {
        client,
        images: ImageLoader::default(),
        request: CaptionRequest::default(),
        pieces: Some(Box::new(move |record: &Fields, piece: &str| {
            received.lock().unwrap().push((record["prompt"].clone(), piece.to_owned()));
        })),
    };
    let results = task.process(records("prompt", &[json!("a"), json!("no"), json!("the")])).await.unwrap();
    let captions: Vec<Option<&Value>> = results
        .iter()
        .map(|result| match result {
            RecordResult::Answered(fields) => fields.get("caption"),
            _ => None,
        })
        .collect();
    assert_eq!(captions, [Some(&json!("a cat")), None, Some(&json!("the cat"))]);
    assert!(
        matches!(&results[1], RecordResult::Failed(fields) if fields["error"]["reason"] == "QUESTION_EMPTY")
    );
    let pieces = pieces.lock().unwrap();
    assert_eq!(*pieces, [(json!("a"), " c".to_owned()), (json!("a"), "at".to_owned())]);
}

#[tokio::test]
async fn scores_before_the_end_of_a_call_are_returned() {
    let (client, _) = serve().await;
    let task = MatchTask { client, images: ImageLoader::default(), request: MatchRequest::default() };
    let results = task.process(records("text", &[json!("a dog"), json!("a cat")])).await.unwrap();
    assert_eq!(results[0], RecordResult::Unavailable("the server answered UNAVAILABLE: stopping".into()));
    let RecordResult::Answered(scores) = &results[1] else { panic!("{results:?}") };
    assert_eq!((&scores["probability"], &scores["cosine"]), (&json!(0.75), &json!(0.5)));
}

#[tokio::test]
async fn record_with_text_embeds_the_text_and_others_the_image() {
    let (client, _) = serve().await;
    let images = ImageLoader::default();
    let task = EmbedTask { client, images, request: EmbedRequest::default(), prefers_images: false };
    let results = task.process(records("text", &[json!("a cat"), Value::Null])).await.unwrap();
    let embeddings: Vec<&Value> = results
        .iter()
        .map(|result| match result {
            RecordResult::Answered(fields) => &fields["embedding"],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(embeddings, [&json!([1.0, 0.0]), &json!([0.0, 1.0])]);
}
