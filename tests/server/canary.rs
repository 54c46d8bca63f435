//! The question that the server asks itself.

use crate::support::{Server, ask, checkpoint, echo_of, picture, pipeline, refusal, request, scripted};
use blip::RowOutput;
use blip_serve::{exit::Exit, settings::Settings};
use scheduler::{EngineError, EngineErrorKind};
use tokio::sync::oneshot;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_answers_otherwise_after_a_failure_ends_the_server() {
    let fatal = checkpoint().tokenizer().encode("red").unwrap();
    let mut flipped = false;
    let engine = scripted(move |batch, rows| {
        if batch.questions.iter().any(|question| question.payload.ids.0 == fatal) {
            flipped = true;
            return Err(EngineError::new(EngineErrorKind::Batch, "a bit has flipped"));
        }
        for row in 0..batch.questions.len() {
            let mut answer = echo_of(batch, row);
            if flipped {
                let RowOutput::Generated(sequences) = &mut answer.answer.output else { unreachable!() };
                sequences[0].token_ids.reverse();
            }
            rows.finish(row, Ok(answer));
        }
        Ok(())
    });
    let (ready, is_ready) = oneshot::channel();
    let settings = Settings::default();
    let load = pipeline(settings.clone(), engine);
    let server = Server::launch_with_canary(settings, load, move || ready.send(()).unwrap()).await;
    is_ready.await.unwrap();
    let asked = request(&[(&picture(), &["red"])]);
    let answers = ask(&mut server.client().await, asked).await;
    assert!(refusal(&answers[0]).is_some());
    assert_eq!(server.ended().await.unwrap(), Exit::EngineBroken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_answers_nothing_does_not_get_as_far_as_serving() {
    let mute = scripted(|_, _| Err(EngineError::new(EngineErrorKind::Batch, "mute")));
    let settings = Settings::default();
    let load = pipeline(settings.clone(), mute);
    let server = Server::launch_with_canary(settings, load, || panic!("it said that it serves")).await;
    let error = server.ended().await.unwrap_err().to_string();
    assert_eq!(error, "the model answers no question: the model failed: mute");
}
