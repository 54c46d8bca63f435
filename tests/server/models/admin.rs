//! Administrators, and changes of models over HTTP.

use blip_server::config::Settings;
use serde_json::{Value, json};
use tonic::{Code, Request, metadata::MetadataValue};

use super::{admin, load_request, mark, numbering_loader, settings, start, status_error};
use crate::support::http_client;

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_change_models_if_it_is_enabled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.toml");
    let keys = "[[keys]]\nname = 'app'\nkey = 'correct-horse'\n\
                [[keys]]\nname = 'root'\nkey = 'battery-staple'\nadmin = true\n";
    std::fs::write(&file, keys).unwrap();
    let load = async |settings: Settings, key: Option<&str>| {
        let server = start(settings, numbering_loader()).await;
        let mut request = Request::new(load_request("b"));
        if let Some(key) = key {
            request.metadata_mut().insert("x-api-key", MetadataValue::try_from(key).unwrap());
        }
        admin(&server).await.load_model(request).await.map(|_| ()).map_err(|status| status_error(&status))
    };
    let with_keys = |on: bool| {
        let mut settings = settings(&["a=demo"]);
        settings.admin.admin = on;
        settings.auth.auth_keys_file = Some(file.clone());
        settings
    };
    let without_message =
        |result: Result<(), (Code, String, String)>| result.map_err(|(code, reason, _)| (code, reason));
    let error = |code, reason: &str| Err((code, reason.to_owned()));
    let required = error(Code::PermissionDenied, "ADMIN_REQUIRED");
    assert_eq!(without_message(load(with_keys(true), Some("correct-horse")).await), required);
    assert_eq!(without_message(load(with_keys(true), Some("battery-staple")).await), Ok(()));
    let missing = error(Code::Unauthenticated, "API_KEY_MISSING");
    assert_eq!(without_message(load(with_keys(true), None).await), missing);
    let off = error(Code::Unimplemented, "ADMIN_OFF");
    assert_eq!(without_message(load(with_keys(false), Some("battery-staple")).await), off);
    assert_eq!(without_message(load(settings(&["a=demo"]), None).await), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_changed_over_http() {
    let server = start(settings(&["a=demo"]), numbering_loader()).await;
    let (client, models) = (http_client(), format!("{}/v1/models", server.http_address));
    let json = async |request: reqwest::RequestBuilder| {
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, body) = json(client.get(&models)).await;
    assert_eq!((status, &body["models"][0]["name"]), (200, &json!("a")));
    assert_eq!(body["models"][0]["task"], "question_answering");
    let post = |body: Value| client.post(&models).json(&body);
    let (status, body) = json(post(json!({"name": "b", "source": "demo"}))).await;
    assert_eq!((status, &body["name"]), (200, &json!("b")));
    assert_eq!(mark(&mut server.client().await, "b").await, 2.0);
    let (status, body) = json(post(json!({"name": "b", "sauce": "demo"}))).await;
    assert_eq!((status, &body["reason"]), (400, &json!("PAYLOAD_INVALID")));
    // A web page in a browser on the machine of the server is no administrator.
    let from_page = post(json!({"name": "c", "source": "demo"})).header("origin", &server.http_address);
    let (status, body) = json(from_page).await;
    assert_eq!((status, &body["reason"]), (403, &json!("ADMIN_REQUIRED")));
    let gone = client.delete(format!("{models}/a")).send().await.unwrap();
    assert_eq!(gone.status().as_u16(), 204);
    let (status, body) = json(client.get(format!("{models}/a"))).await;
    assert_eq!((status, &body["reason"]), (404, &json!("MODEL_UNKNOWN")));
    assert_eq!(json(client.delete(format!("{models}/b"))).await.0, 409);
}
