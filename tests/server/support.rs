//! A server in the test process, with real sockets and an engine whose behaviour a test defines.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, mpsc as std_mpsc},
    time::Duration,
};

use blip::{Checkpoint, ModelFiles, Pixels, RowAnswer, Sequence};
use blip_server::{
    cache::answers::AnswerCache,
    config::Settings,
    engine::payload::{EngineInput, EngineOutput},
    lifecycle::manager::LoadModelFn,
    listener::Listener,
    models::{
        info::ModelInfo,
        loaded_model::{InferenceEngine, LoadedModel},
    },
    preprocess::{fetch::ImageFetcher, preparer::Preparer},
    serve::{self, Listeners, access::AccessPolicy, exit::Exit},
    telemetry::tracing::Tracing,
};
use futures::{FutureExt as _, StreamExt as _, channel::mpsc};
use proto::{
    AskRequest, AskResponse, Image, ImageQuestions, Question, ask_response::Outcome,
    blip_service_client::BlipServiceClient, image::Source,
};
use scheduler::{Batch, Engine, EngineError, EngineFactory, RowSink, Scheduler};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Code, transport::Channel};
use tonic_types::RpcStatusExt as _;

pub(crate) type TestBatch = Batch<Pixels, EngineInput>;
pub(crate) type TestRows<'a> = &'a mut dyn RowSink<EngineOutput>;
type RunFn = Box<dyn FnMut(&TestBatch, TestRows<'_>) -> Result<(), EngineError> + Send>;

/// An engine that runs each batch by a function of the test.
pub(crate) struct ScriptedEngine {
    run: Arc<Mutex<RunFn>>,
}

impl Engine for ScriptedEngine {
    type Image = Pixels;
    type Question = EngineInput;
    type Answer = EngineOutput;

    fn run(&mut self, batch: &TestBatch, rows: TestRows<'_>) -> Result<(), EngineError> {
        (self.run.lock().unwrap())(batch, rows)
    }
}

/// Returns an engine that runs each batch by `run`.
pub(crate) fn scripted_engine<F>(run: F) -> EngineFactory<ScriptedEngine>
where
    F: FnMut(&TestBatch, TestRows<'_>) -> Result<(), EngineError> + Send + 'static,
{
    let run: Arc<Mutex<RunFn>> = Arc::new(Mutex::new(Box::new(run)));
    Box::new(move || Ok(ScriptedEngine { run: Arc::clone(&run) }))
}

/// Returns an engine that answers each question with its text.
pub(crate) fn echo_engine() -> EngineFactory<ScriptedEngine> {
    scripted_engine(|batch, rows| {
        for row in 0..batch.questions.len() {
            rows.finish(row, Ok(echo_answer(batch, row)));
        }
        Ok(())
    })
}

/// Returns an engine whose batches end when all their rows are cancelled.
///
/// The two receivers report the start and the end of each batch.
pub(crate) fn cancellable_engine()
-> (EngineFactory<ScriptedEngine>, std_mpsc::Receiver<()>, std_mpsc::Receiver<()>) {
    let (running, running_receiver) = std_mpsc::channel();
    let (cancelled, cancelled_receiver) = std_mpsc::channel();
    let engine = scripted_engine(move |batch, rows| {
        let _ = running.send(());
        while !(0..batch.questions.len()).all(|row| rows.is_cancelled(row)) {
            std::thread::yield_now();
        }
        let _ = cancelled.send(());
        Ok(())
    });
    (engine, running_receiver, cancelled_receiver)
}

/// Waits for a message of an engine.
pub(crate) async fn wait_for(receiver: std_mpsc::Receiver<()>) {
    tokio::task::spawn_blocking(move || receiver.recv().unwrap()).await.unwrap();
}

/// Returns an answer with the text of the question.
pub(crate) fn echo_answer(batch: &TestBatch, row: usize) -> EngineOutput {
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

/// Returns the folder of a small golden checkpoint of the `blip` crate.
pub(crate) fn golden_folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crates/blip/tests/goldens").join(name)
}

/// Opens the checkpoint whose tokenizer and preprocessor scripted engines use.
pub(crate) fn checkpoint() -> Checkpoint {
    Checkpoint::open(&ModelFiles::Folder(golden_folder("thirty_by_six"))).unwrap()
}

/// Returns the bytes of a valid PNG image.
pub(crate) fn test_image() -> Vec<u8> {
    std::fs::read(golden_folder("thirty_by_six").join("image0.png")).unwrap()
}

/// A running server. The test sends its signals.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) http_address: String,
    signals: mpsc::UnboundedSender<i32>,
    task: JoinHandle<anyhow::Result<Exit>>,
}

impl Server {
    /// Starts a server with `engine` and waits until it is ready.
    pub(crate) async fn start<E: InferenceEngine>(settings: Settings, engine: EngineFactory<E>) -> Self {
        let (ready, ready_receiver) = oneshot::channel();
        let load = loaded_model(settings.clone(), engine);
        let server = Self::launch(settings, load, move || ready.send(()).unwrap()).await;
        if ready_receiver.await.is_err() {
            panic!("the server ended: {:#}", server.exit().await.unwrap_err());
        }
        server
    }

    /// Starts a server with the model that `load` returns, without waiting for it.
    ///
    /// The self-test is disabled, because engines of tests count their questions.
    pub(crate) async fn launch<E: InferenceEngine>(
        mut settings: Settings,
        load: impl Future<Output = anyhow::Result<LoadedModel<E>>> + Send + 'static,
        announce: impl FnOnce() + Send + 'static,
    ) -> Self {
        settings.self_test.self_test_idle_s = 0;
        Self::launch_with_self_test(settings, load, announce).await
    }

    /// As [`Server::launch`], with the self-test that `settings` define.
    pub(crate) async fn launch_with_self_test<E: InferenceEngine>(
        settings: Settings,
        load: impl Future<Output = anyhow::Result<LoadedModel<E>>> + Send + 'static,
        announce: impl FnOnce() + Send + 'static,
    ) -> Self {
        let load = Mutex::new(Some(load.boxed()));
        let load_once = move |_| load.lock().unwrap().take().unwrap();
        Self::launch_with_loader(settings, Arc::new(load_once), announce).await
    }

    /// As [`Server::launch_with_self_test`], with the models that `loader` returns.
    pub(crate) async fn launch_with_loader<E: InferenceEngine>(
        mut settings: Settings,
        loader: LoadModelFn<E>,
        announce: impl FnOnce() + Send + 'static,
    ) -> Self {
        // The default settings name this model. Loaders of tests do not read its files.
        settings.model.embedded = &[("demo", &[])];
        let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", grpc.local_addr().unwrap());
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http_address = format!("http://{}", http.local_addr().unwrap());
        let listeners = Listeners { grpc: Listener::Tcp(grpc), http: Some(http), metrics: None };
        let access = AccessPolicy::new(&settings).unwrap();
        let (signals, signal_receiver) = mpsc::unbounded();
        let task = tokio::spawn(async move {
            let tracing = Tracing::default();
            serve::serve(&settings, listeners, access, tracing, loader, signal_receiver, |_| announce()).await
        });
        Self { address, http_address, signals, task }
    }

    pub(crate) async fn client(&self) -> BlipServiceClient<Channel> {
        BlipServiceClient::connect(self.address.clone()).await.unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(self.address.clone()).unwrap().connect().await.unwrap()
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, number: i32) {
        self.signals.unbounded_send(number).unwrap();
    }

    /// Waits until the server ends, and returns its exit.
    pub(crate) async fn exit(self) -> anyhow::Result<Exit> {
        self.task.await.unwrap()
    }
}

/// Loads `engine` as a model with the tokenizer and preprocessor of [`checkpoint`].
pub(crate) async fn loaded_model<E: InferenceEngine>(
    settings: Settings,
    engine: EngineFactory<E>,
) -> anyhow::Result<LoadedModel<E>> {
    loaded_model_named("scripted", settings, engine).await
}

/// As [`loaded_model`], with a name.
pub(crate) async fn loaded_model_named<E: InferenceEngine>(
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

/// Returns a request for each image with its questions.
pub(crate) fn ask_request(inputs: &[(&[u8], &[&str])]) -> AskRequest {
    let input = |(image, questions): &(&[u8], &[&str])| ImageQuestions {
        image: Some(Image { source: Some(Source::Data(image.to_vec().into())) }),
        questions: questions
            .iter()
            .map(|text| Question { text: (*text).to_owned(), ..Question::default() })
            .collect(),
    };
    AskRequest { inputs: inputs.iter().map(input).collect(), ..AskRequest::default() }
}

/// Sends a request and returns all its responses.
pub(crate) async fn ask(client: &mut BlipServiceClient<Channel>, request: AskRequest) -> Vec<AskResponse> {
    let responses = client.ask(request).await.unwrap().into_inner();
    responses.map(Result::unwrap).collect().await
}

/// Returns the code and the reason of a failed item, or `None` for an answer.
pub(crate) fn item_error(response: &AskResponse) -> Option<(Code, String)> {
    match response.outcome.as_ref().unwrap() {
        Outcome::Answer(_) => None,
        Outcome::Error(error) => {
            let reason = error.get_details_error_info().unwrap().reason;
            Some((Code::from_i32(error.code), reason))
        }
    }
}

/// Returns an HTTP client without TLS.
pub(crate) fn http_client() -> reqwest::Client {
    http_client_builder().build().unwrap()
}

pub(crate) fn http_client_builder() -> reqwest::ClientBuilder {
    // reqwest needs a TLS provider even without TLS. Only the first call installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
