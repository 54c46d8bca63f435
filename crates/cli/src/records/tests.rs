//! A server that answers by script, and what the tasks make of it.

use std::sync::Mutex;

use bulk::{Fields, RecordResult, Task};
use futures::{StreamExt as _, stream, stream::BoxStream};
use proto::{
    Answer, AskRequest, AskResponse, Caption, CaptionPiece, CaptionRequest, CaptionResponse, EmbedRequest,
    EmbedResponse, GetModelRequest, ListModelsRequest, ListModelsResponse, MatchRequest, MatchResponse,
    MatchScores, Model, ask_response,
    caption_response, embed_response, match_response,
};
use serde_json::{Value, json};
use server::{
    error::{ErrorReason, RequestError},
    grpc::generated::blip_service_server::{BlipService, BlipServiceServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::records::{Asking, Captioning, Embedding, Matching, Pictures};

type Stream<T> = BoxStream<'static, Result<T, Status>>;

/// Answers each question with its text. A request of several is refused as a whole, and one for "end" ends the call.
#[derive(Default)]
struct Scripted {
    sizes: std::sync::Arc<Mutex<Vec<usize>>>,
}

fn answer(request: &AskRequest) -> Vec<Result<AskResponse, Status>> {
    let questions = request.inputs.first().map(|input| input.questions.as_slice()).unwrap_or_default();
    let respond =
        |outcome| AskResponse { outcome: Some(outcome), tag: request.tag.clone(), ..AskResponse::default() };
    match questions {
        [one] if one.text == "end" => vec![Err(Status::unavailable("going"))],
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
        let sizes = std::sync::Arc::clone(&self.sizes);
        let responses = request.into_inner().flat_map(move |request| {
            let request = request.unwrap();
            sizes.lock().unwrap().push(request.inputs[0].questions.len());
            stream::iter(answer(&request))
        });
        Ok(Response::new(responses.boxed()))
    }

    /// The pieces of the first prompt, the last prompt's caption, the first one's; an error for the one between.
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

    /// The last text's scores; then the server goes.
    async fn r#match(&self, request: Request<MatchRequest>) -> Result<Response<Self::MatchStream>, Status> {
        let last = u32::try_from(request.into_inner().inputs[0].texts.len() - 1).unwrap();
        let scores = MatchScores { probability: 0.75, cosine: 0.5, ..MatchScores::default() };
        let response = MatchResponse {
            text_index: last,
            outcome: Some(match_response::Outcome::Match(scores)),
            ..MatchResponse::default()
        };
        Ok(Response::new(stream::iter([Ok(response), Err(Status::unavailable("going"))]).boxed()))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<Self::EmbedStream>, Status> {
        let request = request.into_inner();
        let values = if request.images.is_empty() { vec![1.0, 0.0] } else { vec![0.0, 1.0] };
        let vector = proto::Embedding { values, timing: None };
        let response = EmbedResponse {
            outcome: Some(embed_response::Outcome::Embedding(vector)),
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

async fn serve() -> (Channel, std::sync::Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let scripted = Scripted::default();
    let sizes = std::sync::Arc::clone(&scripted.sizes);
    let service = BlipServiceServer::new(scripted);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    (Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap(), sizes)
}

fn records(field: &str, values: &[Value]) -> Vec<Fields> {
    let record = |value: &Value| json!({"image": "data:,", field: value}).as_object().unwrap().clone();
    values.iter().map(record).collect()
}

fn asking(channel: Channel) -> Asking {
    Asking::new(channel, Request::new(()), Pictures::default(), AskRequest::default())
}

#[tokio::test]
async fn questions_that_were_refused_together_are_asked_one_by_one() {
    let (channel, sizes) = serve().await;
    let outcomes = asking(channel)
        .answer(records("question", &[json!("a"), json!(3), json!("b"), json!("c")]))
        .await
        .unwrap();
    let [first, wrong, second, third] = &outcomes[..] else { panic!("{outcomes:?}") };
    // The error may have been the first one's own.
    assert!(matches!(first, RecordResult::Failed(fields) if fields["error"]["reason"] == "QUESTION_EMPTY"));
    assert!(matches!(wrong, RecordResult::Failed(fields) if fields["error"]["reason"] == "LINE_INVALID"));
    for (outcome, text) in [(second, "b"), (third, "c")] {
        assert!(matches!(outcome, RecordResult::Answered(fields) if fields["answer"] == text), "{outcome:?}");
    }
    assert_eq!(*sizes.lock().unwrap(), [3, 1, 1]);
}

#[tokio::test]
async fn a_call_that_ends_loses_what_is_open_and_the_next_question_opens_another() {
    let (channel, _) = serve().await;
    let asking = asking(channel);
    for (text, lost) in [("a", false), ("end", true), ("b", false)] {
        let outcomes = asking.answer(records("question", &[json!(text)])).await.unwrap();
        assert_eq!(matches!(outcomes[0], RecordResult::ConnectionLost(_)), lost, "{outcomes:?}");
    }
}

#[tokio::test]
async fn captions_find_their_prompts_and_pieces_are_told_as_they_come() {
    let (channel, _) = serve().await;
    let pieces = std::sync::Arc::new(Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&pieces);
    let task = Captioning {
        channel,
        template: Request::new(()),
        pictures: Pictures::default(),
        request: CaptionRequest::default(),
        piece: Some(Box::new(move |record: &Fields, piece: &str| {
            told.lock().unwrap().push((record["prompt"].clone(), piece.to_owned()));
        })),
    };
    let outcomes = task.process(records("prompt", &[json!("a"), json!("no"), json!("the")])).await.unwrap();
    let captions: Vec<Option<&Value>> = outcomes
        .iter()
        .map(|outcome| match outcome {
            RecordResult::Answered(fields) => fields.get("caption"),
            _ => None,
        })
        .collect();
    assert_eq!(captions, [Some(&json!("a cat")), None, Some(&json!("the cat"))]);
    assert!(matches!(&outcomes[1], RecordResult::Failed(fields) if fields["error"]["reason"] == "QUESTION_EMPTY"));
    let pieces = pieces.lock().unwrap();
    assert_eq!(*pieces, [(json!("a"), " c".to_owned()), (json!("a"), "at".to_owned())]);
}

#[tokio::test]
async fn what_a_server_scored_before_it_went_is_kept_and_the_rest_is_lost() {
    let (channel, _) = serve().await;
    let task = Matching {
        channel,
        template: Request::new(()),
        pictures: Pictures::default(),
        request: MatchRequest::default(),
    };
    let outcomes = task.process(records("text", &[json!("a dog"), json!("a cat")])).await.unwrap();
    assert_eq!(outcomes[0], RecordResult::ConnectionLost("the server answered UNAVAILABLE: going".into()));
    let RecordResult::Answered(scores) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!((&scores["probability"], &scores["cosine"]), (&json!(0.75), &json!(0.5)));
}

#[tokio::test]
async fn a_record_with_a_text_is_the_texts_vector_and_one_without_is_the_images() {
    let (channel, _) = serve().await;
    let task = Embedding {
        channel,
        template: Request::new(()),
        pictures: Pictures::default(),
        request: EmbedRequest::default(),
    };
    let outcomes = task.process(records("text", &[json!("a cat"), Value::Null])).await.unwrap();
    let vectors: Vec<&Value> = outcomes
        .iter()
        .map(|outcome| match outcome {
            RecordResult::Answered(fields) => &fields["embedding"],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(vectors, [&json!([1.0, 0.0]), &json!([0.0, 1.0])]);
}
