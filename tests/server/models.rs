//! Several models in one server: each answers its own, and they come and go while calls are answered.

use std::sync::{Arc, Mutex, mpsc};

use blip::{Architecture, RowOutput};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use proto::{
    AskRequest, GetModelRequest, ListModelsRequest, LoadModelRequest, Model, Task, UnloadModelRequest,
    admin_service_client::AdminServiceClient, ask_response::Outcome, blip_service_client::BlipServiceClient,
};
use scheduler::{EngineError, EngineErrorKind, EngineFactory};
use serde_json::{Value, json};
use server::{
    config::Settings,
    lifecycle::manager::LoadModelFn,
    models::{info::ModelInfo, spec::ModelSpec},
};
use tokio::sync::{Semaphore, oneshot};
use tonic::{Code, Request, Status, metadata::MetadataValue, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::support::{
    ScriptedEngine, Server, ask, echo_answer, http_client, test_image, loaded_model_named, wait_for, ask_request, scripted_engine,
};

/// An engine whose answers bear `mark` as their score, each batch once `hold` says so.
fn marked_after(mark: f32, mut hold: impl FnMut() + Send + 'static) -> EngineFactory<ScriptedEngine> {
    scripted_engine(move |batch, rows| {
        hold();
        for row in 0..batch.questions.len() {
            let mut answer = echo_answer(batch, row);
            let RowOutput::Generated(sequences) = &mut answer.answer.output else { unreachable!() };
            sequences[0].score = mark;
            rows.finish(row, Ok(answer));
        }
        Ok(())
    })
}

fn marked(mark: f32) -> EngineFactory<ScriptedEngine> {
    marked_after(mark, || ())
}

/// A loader whose models have the engines that `engine` makes; those whose names begin with "caption" write captions.
fn loader<F, R>(engine: F) -> LoadModelFn<ScriptedEngine>
where
    F: Fn(ModelSpec) -> R + Send + Sync + 'static,
    R: Future<Output = anyhow::Result<EngineFactory<ScriptedEngine>>> + Send + 'static,
{
    Arc::new(move |wanted| {
        let (name, engine) = (Arc::clone(&wanted.name), engine(wanted));
        async move {
            let mut model = loaded_model_named(&name, Settings::default(), engine.await?).await?;
            if name.starts_with("caption") {
                let architecture = Architecture::Captioning;
                let info = ModelInfo { architecture, ..(*model.info).clone() };
                model.info = Arc::new(info);
            }
            Ok(model)
        }
        .boxed()
    })
}

/// A loader whose models are marked 1, 2, 3 in the order in which they are loaded.
fn numbered() -> LoadModelFn<ScriptedEngine> {
    let loaded = Mutex::new(0.0);
    loader(move |_| {
        let mut loaded = loaded.lock().unwrap();
        *loaded += 1.0;
        std::future::ready(Ok(marked(*loaded)))
    })
}

/// Settings of a server of these models that can be changed; it asks them nothing itself.
fn settings(models: &[&str]) -> Settings {
    let mut settings = Settings::default();
    settings.model.models = models.iter().map(|model| model.parse().unwrap()).collect();
    settings.admin.admin = true;
    settings.self_test.self_test_idle_s = 0;
    settings
}

async fn start(settings: Settings, loader: LoadModelFn<ScriptedEngine>) -> Server {
    let (ready, ready_receiver) = oneshot::channel();
    let server = Server::launch_with_loader(settings, loader, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    server
}

async fn admin(server: &Server) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.channel().await)
}

fn load_request(name: &str) -> LoadModelRequest {
    LoadModelRequest { name: name.into(), source: "demo".into(), ..LoadModelRequest::default() }
}

fn unload_request(name: &str) -> UnloadModelRequest {
    UnloadModelRequest { name: name.into() }
}

fn asked(model: &str) -> AskRequest {
    AskRequest { model: model.into(), ..request(&[(&test_image(), &["red"])]) }
}

/// The mark of the model that answers.
async fn mark(client: &mut BlipServiceClient<Channel>, model: &str) -> f32 {
    let responses = ask(client, asked(model)).await;
    match responses[0].outcome.as_ref().unwrap() {
        Outcome::Answer(answer) => answer.score,
        Outcome::Error(error) => panic!("{}", error.message),
    }
}

async fn refused(client: &mut BlipServiceClient<Channel>, model: &str) -> (Code, String, String) {
    item_error(&client.ask(asked(model)).await.unwrap_err())
}

fn item_error(status: &Status) -> (Code, String, String) {
    (status.code(), status.get_details_error_info().unwrap().reason, status.message().to_owned())
}

async fn names(client: &mut BlipServiceClient<Channel>) -> Vec<String> {
    let models = client.list_models(ListModelsRequest {}).await.unwrap().into_inner().models;
    models.into_iter().map(|model| model.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_by_the_model_that_it_names_or_by_the_first() {
    let server = start(settings(&["a=demo", "b=demo"]), numbered()).await;
    let mut client = server.client().await;
    assert_eq!(names(&mut client).await, ["a", "b"]);
    for (model, expected) in [("a", 1.0), ("b", 2.0), ("", 1.0)] {
        assert_eq!(mark(&mut client, model).await, expected, "{model}");
    }
    let (code, reason, message) = refused(&mut client, "c").await;
    assert_eq!((code, reason.as_str()), (Code::NotFound, "MODEL_UNKNOWN"));
    assert_eq!(message, "unknown model \"c\" in model; available: a, b");
    let get = |name: &str| GetModelRequest { name: name.into() };
    let Model { name, task, image_size, parameters, .. } =
        client.get_model(get("b")).await.unwrap().into_inner();
    assert_eq!((name.as_str(), task), ("b", i32::from(Task::QuestionAnswering)));
    assert!(image_size > 0 && parameters > 0);
    assert_eq!(client.get_model(get("")).await.unwrap().into_inner().name, "a");
    let (code, reason, message) = item_error(&client.get_model(get("c")).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::NotFound, "MODEL_UNKNOWN"));
    assert!(message.starts_with("name is \"c\""), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_not_asked_for_what_it_does_not_do() {
    let server = start(settings(&["captions=demo", "a=demo"]), numbered()).await;
    let mut client = server.client().await;
    assert_eq!(mark(&mut client, "").await, 2.0);
    let (code, reason, message) = refused(&mut client, "captions").await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "MODEL_TASK_MISMATCH"));
    assert_eq!(message, "model does not support the task: captions writes captions, a answers questions");

    let server = start(settings(&["captions=demo"]), numbered()).await;
    let (_, reason, message) = refused(&mut server.client().await, "").await;
    assert_eq!(reason, "MODEL_TASK_MISMATCH");
    assert_eq!(message, "model does not support the task: no model answers questions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_answers_until_the_one_that_replaces_it_is_loaded_and_nothing_is_lost() {
    let loads = Arc::new(Semaphore::new(1));
    let (begun, begun_receiver) = mpsc::channel();
    let number = Mutex::new(0.0);
    let loader = {
        let loads = Arc::clone(&loads);
        loader(move |_| {
            let mut number = number.lock().unwrap();
            *number += 1.0;
            let (mark, loads, begun) = (*number, Arc::clone(&loads), begun.clone());
            async move {
                begun.send(())?;
                loads.acquire().await?.forget();
                Ok(marked(mark))
            }
        })
    };
    let server = start(settings(&["a=demo"]), loader).await;
    begun_receiver.recv().unwrap();
    let mut callers = FuturesUnordered::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for _ in 0..4 {
        let (mut client, stopped) = (server.client().await, stopped.clone());
        callers.push(tokio::spawn(async move {
            let mut marks = Vec::new();
            while !*stopped.borrow() {
                marks.push(mark(&mut client, "a").await);
            }
            marks
        }));
    }
    let mut client = server.client().await;
    let mut changing = admin(&server).await;
    let load = tokio::spawn(async move { changing.load_model(load_request("a")).await.map(|_| ()) });
    wait_for(begun_receiver).await;
    assert_eq!(mark(&mut client, "a").await, 1.0);
    loads.add_permits(1);
    load.await.unwrap().unwrap();
    assert_eq!(mark(&mut client, "a").await, 2.0);
    stop.send_replace(true);
    while let Some(marks) = callers.next().await {
        let marks = marks.unwrap();
        assert!(marks.is_sorted() && marks.iter().all(|mark| [1.0, 2.0].contains(mark)), "{marks:?}");
    }
    assert_eq!(names(&mut client).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_taken_away_ends_what_it_has_begun_and_then_its_engine() {
    let (running, running_receiver) = mpsc::channel();
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let (alive, alive_receiver) = mpsc::channel::<()>();
    let held = Mutex::new(Some(marked_after(7.0, move || {
        // Goes when the engine does.
        let _alive = &alive;
        running.send(()).unwrap();
        proceed_receiver.recv().unwrap();
    })));
    let loader = loader(move |wanted| {
        let held = (&*wanted.name == "held").then(|| held.lock().unwrap().take()).flatten();
        std::future::ready(Ok(held.unwrap_or_else(|| marked(1.0))))
    });
    let server = start(settings(&["held=demo", "a=demo"]), loader).await;
    let mut caller = server.client().await;
    let call = tokio::spawn(async move { mark(&mut caller, "held").await });
    wait_for(running_receiver).await;
    let mut admin = admin(&server).await;
    admin.unload_model(unload_request("held")).await.unwrap();
    let mut client = server.client().await;
    assert_eq!(refused(&mut client, "held").await.1, "MODEL_UNKNOWN");
    assert_eq!(mark(&mut client, "").await, 1.0);
    let health = HealthCheckRequest { service: "blip.v1.BlipService/held".into() };
    let unknown = HealthClient::new(server.channel().await).check(health).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    proceed.send(()).unwrap();
    assert_eq!(call.await.unwrap(), 7.0);
    tokio::task::spawn_blocking(move || alive_receiver.recv().unwrap_err()).await.unwrap();
    let (code, reason, message) = item_error(&admin.unload_model(unload_request("a")).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "MODEL_LAST"));
    assert_eq!(message, "a is the last model, which stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_fails_changes_nothing() {
    let mut settings = settings(&["a=demo"]);
    settings.self_test.self_test_idle_s = 3600;
    let first = Mutex::new(true);
    let loader = loader(move |wanted| {
        let is_first = std::mem::take(&mut *first.lock().unwrap());
        let mute = || scripted_engine(|_, _| Err(EngineError::new(EngineErrorKind::Batch, "mute")));
        std::future::ready(match &*wanted.name {
            _ if is_first => Ok(marked(1.0)),
            "a" => Ok(mute()),
            _ => Err(anyhow::anyhow!("no weights")),
        })
    });
    let server = start(settings, loader).await;
    let mut admin = admin(&server).await;
    for (name, cause) in [("a", "the model answers no question: the model failed: mute"), ("b", "no weights")]
    {
        let (code, reason, message) = item_error(&admin.load_model(load_request(name)).await.unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "MODEL_LOAD_FAILED"));
        assert_eq!(message, format!("the model cannot be loaded: {cause}"));
    }
    let mut client = server.client().await;
    assert_eq!(names(&mut client).await, ["a"]);
    assert_eq!(mark(&mut client, "a").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_changes_at_a_time_one_is_made_and_one_waits() {
    let loads = Arc::new(Semaphore::new(1));
    let loader = {
        let loads = Arc::clone(&loads);
        loader(move |_| {
            let loads = Arc::clone(&loads);
            async move {
                loads.acquire().await?.forget();
                Ok(marked(1.0))
            }
        })
    };
    let server = start(settings(&["a=demo"]), loader).await;
    let mut changes = FuturesUnordered::new();
    for name in ["b", "c", "d"] {
        let mut admin = admin(&server).await;
        changes.push(async move { admin.load_model(load_request(name)).await.map(|_| ()) });
    }
    let (code, reason, _) = item_error(&changes.next().await.unwrap().unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "MODELS_BUSY"));
    loads.add_permits(2);
    while let Some(change) = changes.next().await {
        change.unwrap();
    }
    assert_eq!(names(&mut server.client().await).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_model_is_refused_before_it_is_loaded() {
    let server = start(settings(&["a=demo"]), numbered()).await;
    let mut admin = admin(&server).await;
    let valid = load_request("b");
    for (request, expected) in [
        (load_request("a/b"), "MODEL_NAME_INVALID"),
        (LoadModelRequest { source: "/etc".into(), ..valid.clone() }, "MODEL_SOURCE_REFUSED"),
        (LoadModelRequest { source: "models/demo/x".into(), ..valid.clone() }, "MODEL_SOURCE_REFUSED"),
        (LoadModelRequest { device: "tpu".into(), ..valid.clone() }, "MODEL_OPTION_INVALID"),
        (LoadModelRequest { dtype: "int3".into(), ..valid.clone() }, "MODEL_OPTION_INVALID"),
        (LoadModelRequest { flavour: "mint".into(), ..valid }, "MODEL_OPTION_INVALID"),
    ] {
        let (_, reason, message) = item_error(&admin.load_model(request.clone()).await.unwrap_err());
        assert_eq!(reason, expected, "{request:?}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_change_models_and_only_where_that_is_switched_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let keys = "[[keys]]\nname = 'app'\nkey = 'correct-horse'\n\
                [[keys]]\nname = 'root'\nkey = 'battery-staple'\nadmin = true\n";
    std::fs::write(&file, keys).unwrap();
    let load = async |settings: Settings, key: Option<&str>| {
        let server = start(settings, numbered()).await;
        let mut request = Request::new(load_request("b"));
        if let Some(key) = key {
            request.metadata_mut().insert("x-api-key", MetadataValue::try_from(key).unwrap());
        }
        admin(&server).await.load_model(request).await.map(|_| ()).map_err(|status| item_error(&status))
    };
    let guarded = |on: bool| {
        let mut settings = settings(&["a=demo"]);
        settings.admin.admin = on;
        settings.auth.auth_keys_file = Some(file.clone());
        settings
    };
    let told = |told: Result<(), (Code, String, String)>| told.map_err(|(code, reason, _)| (code, reason));
    let refused = |code, reason: &str| Err((code, reason.to_owned()));
    let required = refused(Code::PermissionDenied, "ADMIN_REQUIRED");
    assert_eq!(told(load(guarded(true), Some("correct-horse")).await), required);
    assert_eq!(told(load(guarded(true), Some("battery-staple")).await), Ok(()));
    let missing = refused(Code::Unauthenticated, "API_KEY_MISSING");
    assert_eq!(told(load(guarded(true), None).await), missing);
    let off = refused(Code::Unimplemented, "ADMIN_OFF");
    assert_eq!(told(load(guarded(false), Some("battery-staple")).await), off);
    assert_eq!(told(load(settings(&["a=demo"]), None).await), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_models_are_told_of_and_changed_as_well() {
    let server = start(settings(&["a=demo"]), numbered()).await;
    let (client, models) = (http_client(), format!("{}/v1/models", server.http_address));
    let json = async |request: reqwest::RequestBuilder| {
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, told) = json(client.get(&models)).await;
    assert_eq!((status, &told["models"][0]["name"]), (200, &json!("a")));
    assert_eq!(told["models"][0]["task"], "question_answering");
    let post = |body: Value| client.post(&models).json(&body);
    let (status, told) = json(post(json!({"name": "b", "source": "demo"}))).await;
    assert_eq!((status, &told["name"]), (200, &json!("b")));
    assert_eq!(mark(&mut server.client().await, "b").await, 2.0);
    let (status, told) = json(post(json!({"name": "b", "sauce": "demo"}))).await;
    assert_eq!((status, &told["reason"]), (400, &json!("PAYLOAD_INVALID")));
    // A page in a browser on this machine is no administrator.
    let from_page = post(json!({"name": "c", "source": "demo"})).header("origin", &server.http_address);
    let (status, told) = json(from_page).await;
    assert_eq!((status, &told["reason"]), (403, &json!("ADMIN_REQUIRED")));
    let gone = client.delete(format!("{models}/a")).send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 204);
    let (status, told) = json(client.get(format!("{models}/a"))).await;
    assert_eq!((status, &told["reason"]), (404, &json!("MODEL_UNKNOWN")));
    assert_eq!(json(client.delete(format!("{models}/b"))).await.0, 409);
}
