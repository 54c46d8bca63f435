//! The overhead of a request: `Ask` through authentication, limits, preprocessing and scheduler to
//! a null engine, compared with a minimal tonic server that returns the same messages.
//!
//! `cargo bench --bench request_overhead`
//!
//! Servers and clients run in this process and take turns, so that other load on the machine
//! affects both alike. The images repeat, so that only the first request decodes them. The second
//! part measures each stage of a request that is decoded.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark panics on errors and prints its results"
)]

use std::{
    future,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use blip::{Checkpoint, ModelFiles, Pixels, RowAnswer, Sequence};
use blip_server::{
    config::{Settings, secret::Secret},
    engine::payload::{EngineInput, EngineOutput},
    grpc::generated::blip_service_server::{BlipService, BlipServiceServer},
    lifecycle::manager::LoadModelFn,
    listener::Listener,
    models::{info::ModelInfo, loaded_model::LoadedModel},
    preprocess::{fetch::ImageFetcher, preparer::Preparer},
    serve::{self, Listeners, access::AccessPolicy},
    telemetry::{metrics, tracing::Tracing},
};
use futures::{FutureExt as _, StreamExt as _, stream, stream::BoxStream};
use proto::{
    Answer, AskRequest, AskResponse, CaptionRequest, CaptionResponse, EmbedRequest, EmbedResponse,
    GetModelRequest, Image, ImageQuestions, ListModelsRequest, ListModelsResponse, MatchRequest,
    MatchResponse, Model, Question, Timing, ask_response, blip_service_client::BlipServiceClient,
    image::Source,
};
use scheduler::{Batch, Engine, EngineError, RowSink, Scheduler};
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::oneshot,
    time::{Instant, sleep},
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// The allocator of the program, for both servers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Concurrent calls, and their connections.
const CALLS: usize = 64;
const CONNECTIONS: usize = 8;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

const KEY: &str = "correct-horse-battery-staple";

/// An engine that answers every row without computation.
struct NullEngine;

impl Engine for NullEngine {
    type Image = Pixels;
    type Question = EngineInput;
    type Answer = EngineOutput;

    fn run(
        &mut self,
        batch: &Batch<Pixels, EngineInput>,
        rows: &mut dyn RowSink<EngineOutput>,
    ) -> Result<(), EngineError> {
        for row in 0..batch.questions.len() {
            let answer = RowAnswer {
                output: Sequence { token_ids: vec![3], score: -0.5, margin: 1.0 }.into(),
                vision: Duration::ZERO,
                text: Duration::ZERO,
                decode: Duration::ZERO,
                image_reused: true,
            };
            rows.finish(row, Ok(answer.into()));
        }
        Ok(())
    }
}

/// A minimal server that returns the same messages.
struct BareServer;

#[tonic::async_trait]
impl BlipService for BareServer {
    type AskStream = BoxStream<'static, Result<AskResponse, Status>>;
    type AskStreamStream = BoxStream<'static, Result<AskResponse, Status>>;
    type CaptionStream = BoxStream<'static, Result<CaptionResponse, Status>>;
    type MatchStream = BoxStream<'static, Result<MatchResponse, Status>>;
    type EmbedStream = BoxStream<'static, Result<EmbedResponse, Status>>;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        let questions = request.into_inner().inputs.iter().map(|input| input.questions.len()).sum();
        let responses = (0..questions).map(|_| {
            let timing = Timing { total_ms: 0.5, queue_ms: 0.25, preprocess_ms: 0.125, ..Timing::default() };
            let answer = Answer {
                text: "red".to_owned(),
                score: -0.5,
                margin: 1.0,
                token_ids: vec![3],
                timing: Some(timing),
                ..Answer::default()
            };
            let outcome = Some(ask_response::Outcome::Answer(answer));
            Ok(AskResponse { outcome, ..AskResponse::default() })
        });
        Ok(Response::new(stream::iter(responses.collect::<Vec<_>>()).boxed()))
    }

    async fn ask_stream(
        &self,
        _: Request<Streaming<AskRequest>>,
    ) -> Result<Response<Self::AskStreamStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn caption(&self, _: Request<CaptionRequest>) -> Result<Response<Self::CaptionStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn r#match(&self, _: Request<MatchRequest>) -> Result<Response<Self::MatchStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn embed(&self, _: Request<EmbedRequest>) -> Result<Response<Self::EmbedStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

fn checkpoint() -> Checkpoint {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crates/blip/tests/goldens/thirty_by_six");
    Checkpoint::open(&ModelFiles::Folder(folder)).unwrap()
}

/// Returns a PNG of about this many bytes, from incompressible noise.
fn image(bytes: usize) -> Vec<u8> {
    let side = ((bytes / 3) as f64).sqrt() as u32;
    let mut state = 0x9e37_79b9_u32;
    let noise: Vec<u8> = (0..side * side * 3)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&noise).unwrap();
    file
}

async fn start_blip_serve(settings: Settings) -> String {
    let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", grpc.local_addr().unwrap());
    let (ready, ready_receiver) = oneshot::channel();
    tokio::spawn(async move {
        let checkpoint = checkpoint();
        let (preprocessor, tokenizer) = (checkpoint.preprocessor().clone(), checkpoint.tokenizer().clone());
        let preparer =
            Preparer::new(images::Decoder::default(), preprocessor, tokenizer, &settings.preprocess).unwrap();
        let fetcher = ImageFetcher::new(&settings.fetch, &settings.limits).unwrap();
        let scheduler =
            Scheduler::start(settings.scheduler.config(), vec![Box::new(|| Ok(NullEngine))]).await.unwrap();
        let info = ModelInfo::new("null".into(), "null", None, &checkpoint, "none", "none").into();
        let generation = blip::Generation::GREEDY;
        let model = LoadedModel { info, fetcher, preparer, scheduler, generation };
        let model = Mutex::new(Some(model));
        let loader: LoadModelFn<NullEngine> =
            Arc::new(move |_| future::ready(Ok(model.lock().unwrap().take().unwrap())).boxed());
        let listeners = Listeners { grpc: Listener::Tcp(grpc), http: None, metrics: None };
        let access = AccessPolicy::new(&settings).unwrap();
        let announce = |_: &[_]| ready.send(()).unwrap();
        let tracing = Tracing::default();
        serve::serve(&settings, listeners, access, tracing, loader, stream::pending(), announce)
            .await
            .unwrap();
    });
    ready_receiver.await.unwrap();
    address
}

async fn start_bare() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .add_service(BlipServiceServer::new(BareServer).max_decoding_message_size(64 << 20))
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    address
}

async fn connect(address: &str) -> Vec<BlipServiceClient<Channel>> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(BlipServiceClient::connect(address.to_owned()).await.unwrap());
    }
    clients
}

fn request(image: &[u8], number: u64) -> Request<AskRequest> {
    let input = ImageQuestions {
        image: Some(Image { source: Some(Source::Data(image.to_vec().into())) }),
        // Each question differs, so that the scheduler merges none.
        questions: vec![Question { text: format!("red {number}"), ..Question::default() }],
    };
    let mut request = Request::new(AskRequest { inputs: vec![input], ..AskRequest::default() });
    request.metadata_mut().insert("x-api-key", KEY.parse().unwrap());
    request
}

/// Returns requests per second with [`CALLS`] concurrent calls.
async fn rate(clients: &[BlipServiceClient<Channel>], image: &Arc<Vec<u8>>) -> f64 {
    let begin = Instant::now();
    let calls = (0..CALLS).map(|call| {
        let (mut client, image) = (clients[call % clients.len()].clone(), Arc::clone(image));
        tokio::spawn(async move {
            let mut completed = 0_u64;
            while begin.elapsed() < ROUND {
                let number = call as u64 + completed * CALLS as u64;
                let mut responses = client.ask(request(&image, number)).await.unwrap().into_inner();
                let response = responses.message().await.unwrap().unwrap();
                assert!(matches!(response.outcome, Some(ask_response::Outcome::Answer(_))), "{response:?}");
                assert!(responses.message().await.unwrap().is_none());
                completed += 1;
            }
            completed
        })
    });
    let completed: u64 = futures::future::join_all(calls).await.into_iter().map(Result::unwrap).sum();
    completed as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the mean time of each stage over sequential requests, in microseconds.
async fn stages(client: &mut BlipServiceClient<Channel>, files: &[Vec<u8>]) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for (number, file) in files.iter().enumerate() {
        let begin = Instant::now();
        let mut responses = client.ask(request(file, number as u64)).await.unwrap().into_inner();
        let response = responses.message().await.unwrap().unwrap();
        let total = begin.elapsed().as_secs_f64() * 1e3;
        let Some(ask_response::Outcome::Answer(Answer { timing: Some(timing), .. })) = response.outcome
        else {
            continue;
        };
        for (sum, part) in sums.iter_mut().zip([timing.preprocess_ms, timing.queue_ms, total]) {
            *sum += part * 1e3 / files.len() as f64;
        }
    }
    sums
}

fn main() {
    // `cargo test --benches` runs this program, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut settings = Settings::default();
    settings.auth.auth_keys = vec![KEY.parse::<Secret>().unwrap()];
    // The default settings name this model. The loader does not read its files.
    settings.model.embedded = &[("demo", &[])];
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        // Metrics are recorded as in the program, with regular upkeep.
        let recorder = metrics::install().unwrap();
        tokio::spawn(async move {
            loop {
                sleep(UPKEEP_PERIOD).await;
                recorder.run_upkeep();
            }
        });
        let (blip_serve, bare) = (start_blip_serve(settings).await, start_bare().await);
        let (blip_serve, bare) = (connect(&blip_serve).await, connect(&bare).await);
        println!("requests/s, {CALLS} calls over {CONNECTIONS} connections; median (min..max) of {ROUNDS}");
        for kilobytes in [1, 100] {
            let image = Arc::new(image(kilobytes * 1000));
            let (mut rates, mut bare_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (rate, bare_rate) = (rate(&blip_serve, &image).await, rate(&bare, &image).await);
                rates.push(rate);
                bare_rates.push(bare_rate);
                ratios.push(rate / bare_rate);
            }
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            println!(
                "{kilobytes:>4} KB image ({} bytes): blip-serve {:.0}, bare {:.0}, ratio {:.2} ({least:.2}..{most:.2})",
                image.len(),
                median(rates),
                median(bare_rates),
                median(ratios),
            );
        }
        println!("mean time of each stage of a single request in microseconds");
        let mut client = blip_serve[0].clone();
        for kilobytes in [1, 100] {
            let files: Vec<_> = (0..50_u8)
                .map(|number| {
                    let mut file = image(kilobytes * 1000);
                    // A byte after the end of the PNG: another file with the same pixels.
                    file.push(number);
                    file
                })
                .collect();
            for name in ["first time", "again"] {
                let [preprocess, queue, total] = stages(&mut client, &files).await;
                println!(
                    "{kilobytes:>4} KB image, {name:<10}: decode and scale {preprocess:.0}, queue {queue:.0}, \
                     everything else {:.0}, total {total:.0}",
                    total - preprocess - queue
                );
            }
        }
    });
    runtime.shutdown_background();
}
