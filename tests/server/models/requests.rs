//! The model that answers a request.

use proto::{GetModelRequest, Model, Task};
use tonic::Code;

use super::{call_error, mark, names, numbering_loader, settings, start, status_error};

#[tokio::test(flavor = "multi_thread")]
async fn request_is_answered_by_named_model_or_the_first() {
    let server = start(settings(&["a=demo", "b=demo"]), numbering_loader()).await;
    let mut client = server.client().await;
    assert_eq!(names(&mut client).await, ["a", "b"]);
    for (model, expected) in [("a", 1.0), ("b", 2.0), ("", 1.0)] {
        assert_eq!(mark(&mut client, model).await, expected, "{model}");
    }
    let (code, reason, message) = call_error(&mut client, "c").await;
    assert_eq!((code, reason.as_str()), (Code::NotFound, "MODEL_UNKNOWN"));
    assert_eq!(message, "unknown model \"c\" in model; available: a, b");
    let get = |name: &str| GetModelRequest { name: name.into() };
    let Model { name, task, image_size, parameters, .. } =
        client.get_model(get("b")).await.unwrap().into_inner();
    assert_eq!((name.as_str(), task), ("b", i32::from(Task::QuestionAnswering)));
    assert!(image_size > 0 && parameters > 0);
    assert_eq!(client.get_model(get("")).await.unwrap().into_inner().name, "a");
    let (code, reason, message) = status_error(&client.get_model(get("c")).await.unwrap_err());
    assert_eq!((code, reason.as_str()), (Code::NotFound, "MODEL_UNKNOWN"));
    assert!(message.starts_with("unknown model \"c\" in name"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_to_model_of_other_task_is_refused() {
    let server = start(settings(&["captions=demo", "a=demo"]), numbering_loader()).await;
    let mut client = server.client().await;
    assert_eq!(mark(&mut client, "").await, 2.0);
    let (code, reason, message) = call_error(&mut client, "captions").await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "MODEL_TASK_MISMATCH"));
    assert_eq!(message, "model does not support the task: captions writes captions, a answers questions");

    let server = start(settings(&["captions=demo"]), numbering_loader()).await;
    let (_, reason, message) = call_error(&mut server.client().await, "").await;
    assert_eq!(reason, "MODEL_TASK_MISMATCH");
    assert_eq!(message, "model does not support the task: no model answers questions");
}
