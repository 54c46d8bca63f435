//! The question that the server asks itself.

use blip::RowOutput;
use proto::ask_response::Outcome;
use scheduler::{EngineError, EngineErrorKind, EngineFactory};
use server::{config::Settings, serve::exit::Exit};
use tokio::sync::oneshot;

use crate::support::{
    ScriptedEngine, Server, ask, checkpoint, echo_answer, test_image, loaded_model, item_error, ask_request, scripted_engine,
};

/// An engine that fails at `word`, and from then on answers otherwise than before.
fn flipping_at(word: &str) -> EngineFactory<ScriptedEngine> {
    let fatal = checkpoint().tokenizer().encode(word).unwrap();
    let mut flipped = false;
    scripted_engine(move |batch, rows| {
        if batch.questions.iter().any(|question| question.payload.ids.0 == fatal) {
            flipped = true;
            return Err(EngineError::new(EngineErrorKind::Batch, "a bit has flipped"));
        }
        for row in 0..batch.questions.len() {
            let mut answer = echo_answer(batch, row);
            if flipped {
                let RowOutput::Generated(sequences) = &mut answer.answer.output else { unreachable!() };
                sequences[0].token_ids.reverse();
            }
            rows.finish(row, Ok(answer));
        }
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_answers_otherwise_after_a_failure_ends_the_server() {
    let (ready, ready_receiver) = oneshot::channel();
    let settings = Settings::default();
    let load = loaded_model(settings.clone(), flipping_at("red"));
    let server = Server::launch_with_self_test(settings, load, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    let request = ask_request(&[(&test_image(), &["red"])]);
    let answers = ask(&mut server.client().await, request).await;
    assert!(item_error(&answers[0]).is_some());
    assert_eq!(server.ended().await.unwrap(), Exit::EngineBroken);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_a_caller_has_had_kept_for_the_canary_do_not_hide_an_engine_that_answers_otherwise() {
    const PICTURE: &[u8] = include_bytes!("../../crates/server/src/lifecycle/self_test/image.png");
    const QUESTIONS: [&str; 4] =
        ["what is in the picture?", "what color is it?", "is there a circle?", "how many are there?"];
    let (ready, ready_receiver) = oneshot::channel();
    let settings = Settings::default();
    let load = loaded_model(settings.clone(), flipping_at("red"));
    let server = Server::launch_with_self_test(settings, load, move || ready.send(()).unwrap()).await;
    ready_receiver.await.unwrap();
    let mut client = server.client().await;
    for number in 0..20_u64 {
        let file = [PICTURE, b"canary", &number.to_le_bytes()].concat();
        let request = ask_request(&[(&file, &QUESTIONS)]);
        ask(&mut client, request.clone()).await;
        for response in ask(&mut client, request).await {
            let Some(Outcome::Answer(answer)) = response.outcome else { panic!("{response:?}") };
            assert!(answer.timing.unwrap().answer_reused, "another question than the canary's");
        }
    }
    assert!(item_error(&ask(&mut client, ask_request(&[(&test_image(), &["red"])])).await[0]).is_some());
    assert_eq!(server.ended().await.unwrap(), Exit::EngineBroken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_answers_nothing_does_not_get_as_far_as_serving() {
    let mute = scripted_engine(|_, _| Err(EngineError::new(EngineErrorKind::Batch, "mute")));
    let settings = Settings::default();
    let load = loaded_model(settings.clone(), mute);
    let server = Server::launch_with_self_test(settings, load, || panic!("it said that it serves")).await;
    let error = server.ended().await.unwrap_err().to_string();
    assert_eq!(error, "the model answers no question: the model failed: mute");
}
