//! The self-test of a running model.

use blip::RowOutput;
use blip_server::{config::Settings, serve::exit::Exit};
use proto::ask_response::Outcome;
use scheduler::{EngineError, EngineErrorKind, EngineFactory};
use tokio::sync::oneshot;

use crate::support::{
    ScriptedEngine, Server, ask, ask_request, checkpoint, echo_answer, item_error, loaded_model,
    scripted_engine, test_image,
};

/// Returns an engine that fails at `word`, and reverses its answers afterwards.
fn engine_faulty_after(word: &str) -> EngineFactory<ScriptedEngine> {
    let trigger = checkpoint().tokenizer().encode(word).unwrap();
    let mut faulty = false;
    scripted_engine(move |batch, rows| {
        if batch.questions.iter().any(|question| question.payload.ids.0 == trigger) {
            faulty = true;
            return Err(EngineError::new(EngineErrorKind::Batch, "a bit has flipped"));
        }
        for row in 0..batch.questions.len() {
            let mut answer = echo_answer(batch, row);
            if faulty {
                let RowOutput::Generated(sequences) = &mut answer.answer.output else { unreachable!() };
                sequences[0].token_ids.reverse();
            }
            rows.finish(row, Ok(answer));
        }
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_after_engine_failure_end_the_server() {
    let (ready, ready_receiver) = oneshot::channel();
    let settings = Settings::default();
    let load = loaded_model(settings.clone(), engine_faulty_after("red"));
    let server = Server::launch_with_self_test(settings, load, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    let request = ask_request(&[(&test_image(), &["red"])]);
    let answers = ask(&mut server.client().await, request).await;
    assert!(item_error(&answers[0]).is_some());
    assert_eq!(server.exit().await.unwrap(), Exit::EngineBroken);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_a_client_cached_do_not_hide_a_fault() {
    // The image, questions and file suffixes of the self-test.
    const IMAGE: &[u8] = include_bytes!("../../crates/server/src/lifecycle/self_test/image.png");
    const QUESTIONS: [&str; 4] =
        ["what is in the picture?", "what color is it?", "is there a circle?", "how many are there?"];
    let (ready, ready_receiver) = oneshot::channel();
    let settings = Settings::default();
    let load = loaded_model(settings.clone(), engine_faulty_after("red"));
    let server = Server::launch_with_self_test(settings, load, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    let mut client = server.client().await;
    for number in 0..20_u64 {
        let file = [IMAGE, b"self-test", &number.to_le_bytes()].concat();
        let request = ask_request(&[(&file, &QUESTIONS)]);
        ask(&mut client, request.clone()).await;
        for response in ask(&mut client, request).await {
            let Some(Outcome::Answer(answer)) = response.outcome else { panic!("{response:?}") };
            assert!(answer.timing.unwrap().answer_reused, "not cached");
        }
    }
    assert!(item_error(&ask(&mut client, ask_request(&[(&test_image(), &["red"])])).await[0]).is_some());
    assert_eq!(server.exit().await.unwrap(), Exit::EngineBroken);
}

#[tokio::test(flavor = "multi_thread")]
async fn model_that_fails_its_self_test_is_not_served() {
    let failing = scripted_engine(|_, _| Err(EngineError::new(EngineErrorKind::Batch, "no output")));
    let settings = Settings::default();
    let load = loaded_model(settings.clone(), failing);
    let server = Server::launch_with_self_test(settings, load, || panic!("the server is ready")).await;
    let error = server.exit().await.unwrap_err().to_string();
    assert_eq!(error, "self-test failed: the model failed: no output");
}
