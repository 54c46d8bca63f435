//! A server in this process, on a real socket, in front of an engine that does what a test tells it to.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, mpsc as std_mpsc},
    time::Duration,
};

use blip::{Checkpoint, ModelFiles, Pixels, RowAnswer, Sequence};
use futures::{FutureExt as _, StreamExt as _, channel::mpsc};
use proto::{
    AskRequest, AskResponse, Image, ImageQuestions, Question, ask_response::Outcome,
    blip_service_client::BlipServiceClient, image::Source,
};
use scheduler::{Batch, Engine, EngineError, EngineFactory, RowSink, Scheduler};
use server::{
    cache::answers::AnswerCache,
    config::Settings,
    engine::payload::{EngineInput, EngineOutput},
    lifecycle::manager::LoadModelFn,
    models::{
        info::ModelInfo,
        loaded_model::{InferenceEngine, LoadedModel},
    },
    preprocess::{fetch::ImageFetcher, preparer::Preparer},
    serve::{self, Listeners, access::AccessPolicy, exit::Exit},
    telemetry::tracing::Tracing,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Code, transport::Channel};
use tonic_types::RpcStatusExt as _;

pub(crate) type TestBatch = Batch<Pixels, EngineInput>;
pub(crate) type TestRows<'a> = &'a mut dyn RowSink<EngineOutput>;
type Script = Box<dyn FnMut(&TestBatch, TestRows<'_>) -> Result<(), EngineError> + Send>;

/// An engine that runs each batch as its script says.
pub(crate) struct ScriptedEngine {
    script: Arc<Mutex<Script>>,
}

impl Engine for ScriptedEngine {
    type Image = Pixels;
    type Question = EngineInput;
    type Answer = EngineOutput;

    fn run(&mut self, batch: &TestBatch, rows: TestRows<'_>) -> Result<(), EngineError> {
        (self.script.lock().unwrap())(batch, rows)
    }
}

/// An engine that follows `script`.
pub(crate) fn scripted<F>(script: F) -> EngineFactory<ScriptedEngine>
where
    F: FnMut(&TestBatch, TestRows<'_>) -> Result<(), EngineError> + Send + 'static,
{
    let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
    Box::new(move || Ok(ScriptedEngine { script: Arc::clone(&script) }))
}

/// An engine that answers every row at once, each question with itself.
pub(crate) fn echo() -> EngineFactory<ScriptedEngine> {
    scripted(|batch, rows| {
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_of(batch, row)));
        }
        Ok(())
    })
}

/// An engine that waits until every row of a batch is cancelled, with the news of a batch that runs and of its end.
pub(crate) fn waiting() -> (EngineFactory<ScriptedEngine>, std_mpsc::Receiver<()>, std_mpsc::Receiver<()>) {
    let (running, is_running) = std_mpsc::channel();
    let (cancelled, was_cancelled) = std_mpsc::channel();
    let engine = scripted(move |batch, rows| {
        let _ = running.send(());
        while !(0..batch.questions.len()).all(|row| rows.is_cancelled(row)) {
            std::thread::yield_now();
        }
        let _ = cancelled.send(());
        Ok(())
    });
    (engine, is_running, was_cancelled)
}

/// Waits for news from an engine.
pub(crate) async fn received(told: std_mpsc::Receiver<()>) {
    tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
}

/// The answer that repeats the question.
pub(crate) fn echo_of(batch: &TestBatch, row: usize) -> EngineOutput {
    let token_ids = batch.questions[row].payload.ids.0.clone();
    let answer = RowAnswer {
        output: Sequence { token_ids, score: -0.5, margin: 1.0 }.into(),
        vision: Duration::from_millis(3),
        text: Duration::from_millis(2),
        decode: Duration::from_millis(1),
        image_reused: false,
    };
    answer.into()
}

/// A small checkpoint of the model crate's goldens, by name.
pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crates/blip/tests/goldens").join(name)
}

/// The checkpoint whose tokenizer and preprocessing scripted engines are given.
pub(crate) fn checkpoint() -> Checkpoint {
    Checkpoint::open(&ModelFiles::Folder(golden("thirty_by_six"))).unwrap()
}

/// A picture that every server of these tests can decode.
pub(crate) fn picture() -> Vec<u8> {
    std::fs::read(golden("thirty_by_six").join("image0.png")).unwrap()
}

/// A running server with its signals in the test's hand.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) http_address: String,
    signals: mpsc::UnboundedSender<i32>,
    ended: JoinHandle<anyhow::Result<Exit>>,
}

impl Server {
    /// Serves `engine` and waits until it is ready.
    pub(crate) async fn start<E: InferenceEngine>(settings: Settings, engine: EngineFactory<E>) -> Self {
        let (ready, is_ready) = oneshot::channel();
        let load = pipeline(settings.clone(), engine);
        let server = Self::launch(settings, load, move || ready.send(()).unwrap()).await;
        is_ready.await.unwrap();
        server
    }

    /// Serves what `load` comes to, and does not wait for it. The server asks its engine nothing of its own accord, as
    /// scripts count what they are asked.
    pub(crate) async fn launch<E: InferenceEngine>(
        mut settings: Settings,
        load: impl Future<Output = anyhow::Result<LoadedModel<E>>> + Send + 'static,
        announce: impl FnOnce() + Send + 'static,
    ) -> Self {
        settings.self_test.self_test_idle_s = 0;
        Self::launch_with_canary(settings, load, announce).await
    }

    /// As [`Server::launch`], with the canary as `settings` want it.
    pub(crate) async fn launch_with_canary<E: InferenceEngine>(
        settings: Settings,
        load: impl Future<Output = anyhow::Result<LoadedModel<E>>> + Send + 'static,
        announce: impl FnOnce() + Send + 'static,
    ) -> Self {
        let load = Mutex::new(Some(load.boxed()));
        let once = move |_| load.lock().unwrap().take().unwrap();
        Self::launch_with_loader(settings, Arc::new(once), announce).await
    }

    /// As [`Server::launch_with_canary`], with models by `loader`.
    pub(crate) async fn launch_with_loader<E: InferenceEngine>(
        settings: Settings,
        loader: LoadModelFn<E>,
        announce: impl FnOnce() + Send + 'static,
    ) -> Self {
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", grpc.local_addr().unwrap());
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_address = format!("http://{}", http.local_addr().unwrap());
        let listeners = Listeners { grpc, http: Some(http), metrics: None };
        let entry = AccessPolicy::new(&settings).unwrap();
        let (signals, received) = mpsc::unbounded();
        let ended = tokio::spawn(async move {
            let tracing = Tracing::default();
            serve::serve(&settings, listeners, entry, tracing, loader, received, |_| announce()).await
        });
        Self { address, http_address, signals, ended }
    }

    pub(crate) async fn client(&self) -> BlipServiceClient<Channel> {
        BlipServiceClient::connect(self.address.clone()).await.unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.address.clone()).unwrap().connect().await.unwrap()
    }

    /// Sends the server a signal of this number.
    pub(crate) fn signal(&self, number: i32) {
        self.signals.unbounded_send(number).unwrap();
    }

    /// How the server ended.
    pub(crate) async fn ended(self) -> anyhow::Result<Exit> {
        self.ended.await.unwrap()
    }
}

/// A pipeline in front of `engine`, with the tokenizer and preprocessing of [`checkpoint`].
pub(crate) async fn pipeline<E: InferenceEngine>(
    settings: Settings,
    engine: EngineFactory<E>,
) -> anyhow::Result<LoadedModel<E>> {
    pipeline_named("scripted", settings, engine).await
}

/// The same, with a name.
pub(crate) async fn pipeline_named<E: InferenceEngine>(
    name: &str,
    settings: Settings,
    engine: EngineFactory<E>,
) -> anyhow::Result<LoadedModel<E>> {
    let checkpoint = checkpoint();
    let (preprocessor, tokenizer) = (checkpoint.preprocessor().clone(), checkpoint.tokenizer().clone());
    let preparer = Preparer::new(images::Decoder::default(), preprocessor, tokenizer, &settings.preprocess)?;
    let preparer = preparer.with_answers(AnswerCache::new(settings.model.answer_cache_bytes, &name.into()));
    let fetcher = ImageFetcher::new(&settings.fetch, &settings.limits)?;
    let scheduler = Scheduler::start(settings.scheduler.config(), vec![engine]).await?;
    let info = ModelInfo::new(name.into(), "scripted", None, &checkpoint, "none", "none").into();
    Ok(LoadedModel { info, fetcher, preparer, scheduler, generation: blip::Generation::GREEDY })
}

/// A request: each image with its questions.
pub(crate) fn request(inputs: &[(&[u8], &[&str])]) -> AskRequest {
    let input = |(image, questions): &(&[u8], &[&str])| ImageQuestions {
        image: Some(Image { source: Some(Source::Data(image.to_vec().into())) }),
        questions: questions
            .iter()
            .map(|text| Question { text: (*text).to_owned(), ..Question::default() })
            .collect(),
    };
    AskRequest { inputs: inputs.iter().map(input).collect(), ..AskRequest::default() }
}

/// All responses to a request.
pub(crate) async fn ask(client: &mut BlipServiceClient<Channel>, request: AskRequest) -> Vec<AskResponse> {
    let responses = client.ask(request).await.unwrap().into_inner();
    responses.map(Result::unwrap).collect().await
}

/// The code and reason of a pair that was refused; `None` for an answer.
pub(crate) fn refusal(response: &AskResponse) -> Option<(Code, String)> {
    match response.outcome.as_ref().unwrap() {
        Outcome::Answer(_) => None,
        Outcome::Error(error) => {
            let reason = error.get_details_error_info().unwrap().reason;
            Some((Code::from_i32(error.code), reason))
        }
    }
}

/// A client of HTTP without TLS.
pub(crate) fn http_client() -> reqwest::Client {
    http_client_builder().build().unwrap()
}

pub(crate) fn http_client_builder() -> reqwest::ClientBuilder {
    // It wants to have one all the same; whichever test comes first sees to it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
