//! Models that are loaded, replaced and unloaded.

use std::sync::{Arc, Mutex, mpsc};

use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::LoadModelRequest;
use scheduler::{EngineError, EngineErrorKind};
use tokio::sync::Semaphore;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{
    admin, call_error, load_request, loader, mark, marked_engine, marked_engine_with, names,
    numbering_loader, settings, start, status_error, unload_request,
};
use crate::support::{scripted_engine, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn replaced_model_answers_until_the_new_one_is_loaded() {
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
                Ok(marked_engine(mark))
            }
        })
    };
    let server = start(settings(&["a=demo"]), loader).await;
    begun_receiver.recv().unwrap();
    let mut calls = FuturesUnordered::new();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    for _ in 0..4 {
        let (mut client, stopped) = (server.client().await, stopped.clone());
        calls.push(tokio::spawn(async move {
            let mut marks = Vec::new();
            while !*stopped.borrow() {
                marks.push(mark(&mut client, "a").await);
            }
            marks
        }));
    }
    let mut client = server.client().await;
    let mut admin = admin(&server).await;
    let load = tokio::spawn(async move { admin.load_model(load_request("a")).await.map(|_| ()) });
    wait_for(begun_receiver).await;
    assert_eq!(mark(&mut client, "a").await, 1.0);
    loads.add_permits(1);
    load.await.unwrap().unwrap();
    assert_eq!(mark(&mut client, "a").await, 2.0);
    stop.send_replace(true);
    while let Some(marks) = calls.next().await {
        let marks = marks.unwrap();
        assert!(marks.is_sorted() && marks.iter().all(|mark| [1.0, 2.0].contains(mark)), "{marks:?}");
    }
    assert_eq!(names(&mut client).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unloaded_model_completes_its_calls_and_drops_its_engine() {
    let (running, running_receiver) = mpsc::channel();
    let (proceed, proceed_receiver) = mpsc::channel::<()>();
    let (alive, alive_receiver) = mpsc::channel::<()>();
    let paused = Mutex::new(Some(marked_engine_with(7.0, move || {
        // Dropped with the engine.
        let _alive = &alive;
        running.send(()).unwrap();
        proceed_receiver.recv().unwrap();
    })));
    let loader = loader(move |spec| {
        let engine = (&*spec.name == "paused").then(|| paused.lock().unwrap().take()).flatten();
        std::future::ready(Ok(engine.unwrap_or_else(|| marked_engine(1.0))))
    });
    let server = start(settings(&["paused=demo", "a=demo"]), loader).await;
    let mut client = server.client().await;
    let call = tokio::spawn(async move { mark(&mut client, "paused").await });
    wait_for(running_receiver).await;
    let mut admin = admin(&server).await;
    admin.unload_model(unload_request("paused")).await.unwrap();
    let mut client = server.client().await;
    assert_eq!(call_error(&mut client, "paused").await.1, "MODEL_UNKNOWN");
    assert_eq!(mark(&mut client, "").await, 1.0);
    let health = HealthCheckRequest { service: "blip.v1.BlipService/held".into() };
    let unknown = HealthClient::new(server.channel().await).check(health).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    proceed.send(()).unwrap();
    assert_eq!(call.await.unwrap(), 7.0);
    tokio::task::spawn_blocking(move || alive_receiver.recv().unwrap_err()).await.unwrap();
    let (code, reason, message) = status_error(&admin.unload_model(unload_request("a")).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "MODEL_LAST"));
    assert_eq!(message, "cannot unload a: it is the only model");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_load_changes_nothing() {
    let mut settings = settings(&["a=demo"]);
    settings.self_test.self_test_idle_s = 3600;
    let first = Mutex::new(true);
    let loader = loader(move |spec| {
        let is_first = std::mem::take(&mut *first.lock().unwrap());
        let failing = || scripted_engine(|_, _| Err(EngineError::new(EngineErrorKind::Batch, "no output")));
        std::future::ready(match &*spec.name {
            _ if is_first => Ok(marked_engine(1.0)),
            "a" => Ok(failing()),
            _ => Err(anyhow::anyhow!("no weights")),
        })
    });
    let server = start(settings, loader).await;
    let mut admin = admin(&server).await;
    for (name, cause) in [("a", "self-test failed: the model failed: no output"), ("b", "no weights")] {
        let (code, reason, message) = status_error(&admin.load_model(load_request(name)).await.unwrap_err());
        assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "MODEL_LOAD_FAILED"));
        assert_eq!(message, format!("cannot load the model: {cause}"));
    }
    let mut client = server.client().await;
    assert_eq!(names(&mut client).await, ["a"]);
    assert_eq!(mark(&mut client, "a").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_runs_one_waits_and_others_are_refused() {
    let loads = Arc::new(Semaphore::new(1));
    let loader = {
        let loads = Arc::clone(&loads);
        loader(move |_| {
            let loads = Arc::clone(&loads);
            async move {
                loads.acquire().await?.forget();
                Ok(marked_engine(1.0))
            }
        })
    };
    let server = start(settings(&["a=demo"]), loader).await;
    let mut changes = FuturesUnordered::new();
    for name in ["b", "c", "d"] {
        let mut admin = admin(&server).await;
        changes.push(async move { admin.load_model(load_request(name)).await.map(|_| ()) });
    }
    let (code, reason, _) = status_error(&changes.next().await.unwrap().unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "MODELS_BUSY"));
    loads.add_permits(2);
    while let Some(change) = changes.next().await {
        change.unwrap();
    }
    assert_eq!(names(&mut server.client().await).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_load_requests_are_refused_before_the_load() {
    let server = start(settings(&["a=demo"]), numbering_loader()).await;
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
        let (_, reason, message) = status_error(&admin.load_model(request.clone()).await.unwrap_err());
        assert_eq!(reason, expected, "{request:?}: {message}");
    }
}
