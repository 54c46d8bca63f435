use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use futures::{StreamExt as _, stream};
use scheduler::Snapshot;
use tokio::{sync::watch, time::Instant};

use super::{
    watch::{MAX_CONSECUTIVE_FAILURES, PERIOD},
    *,
};
use crate::pipeline::{
    item_result::{ItemResult, ItemResults},
    reply::{Answer, Reply},
    request::InferenceRequest,
};

type Script = Box<dyn FnMut(&str) -> Result<Answer, RequestError> + Send>;

/// A service that answers each question by a script.
struct ScriptedService(Mutex<Script>);

impl InferenceService for ScriptedService {
    fn infer(&self, request: InferenceRequest) -> Result<ItemResults, RequestError> {
        let mut script = self.0.lock().unwrap();
        let [input] = &request.inputs[..] else { panic!("expected one image") };
        let results: Vec<_> = (0..)
            .zip(&input.texts)
            .map(|(text_index, text)| {
                let reply = script(&text.text).map(Reply::Answer);
                Ok(ItemResult { image_index: 0, text_index, ready: None, reply })
            })
            .collect();
        Ok(stream::iter(results).boxed())
    }
}

fn scripted(
    script: impl FnMut(&str) -> Result<Answer, RequestError> + Send + 'static,
) -> Arc<dyn InferenceService> {
    Arc::new(ScriptedService(Mutex::new(Box::new(script))))
}

fn answer(id: u32, margin: f32) -> Answer {
    Answer { token_ids: vec![id], text: id.to_string(), margin, ..Answer::default() }
}

fn error(reason: ErrorReason) -> RequestError {
    RequestError::new(reason).cause("scripted")
}

async fn self_test(service: Arc<dyn InferenceService>) -> Result<SelfTest, RequestError> {
    SelfTest::new(service, &"model".into(), Architecture::QuestionAnswering).await
}

fn idle_scheduler() -> Snapshot {
    Snapshot::default()
}

#[tokio::test]
async fn self_test_uses_the_question_with_the_largest_margin() {
    let margins = |text: &str| answer(7, if text == "is there a circle?" { 9.0 } else { 1.0 });
    let self_test = self_test(scripted(move |text| Ok(margins(text)))).await.unwrap();
    assert_eq!(self_test.question, "is there a circle?");
    assert_eq!(self_test.run().await, Verdict::Passed);
}

#[tokio::test]
async fn self_test_uses_the_task_of_the_architecture() {
    struct Recorder(Mutex<Vec<(Task, usize)>>);
    impl InferenceService for Recorder {
        fn infer(&self, request: InferenceRequest) -> Result<ItemResults, RequestError> {
            let texts = request.inputs[0].texts.len();
            self.0.lock().unwrap().push((request.task, texts));
            Err(error(ErrorReason::EngineFailed))
        }
    }
    for (architecture, expected) in
        [(Architecture::Captioning, PROMPTS.len()), (Architecture::Retrieval, TEXTS.len())]
    {
        let recorder = Arc::new(Recorder(Mutex::new(Vec::new())));
        let service = Arc::clone(&recorder) as Arc<dyn InferenceService>;
        SelfTest::new(service, &"model".into(), architecture).await.unwrap_err();
        let [(task, texts)] = &recorder.0.lock().unwrap()[..] else { panic!("expected one request") };
        assert_eq!(task.architecture(), architecture);
        assert_eq!(*texts, expected);
    }
}

#[tokio::test]
async fn model_without_any_answer_is_rejected() {
    let failing = scripted(|_| Err(error(ErrorReason::EngineFailed)));
    assert_eq!(self_test(failing).await.unwrap_err().reason(), ErrorReason::EngineFailed);
}

#[tokio::test(start_paused = true)]
async fn idle_engine_fails_after_three_wrong_answers() {
    let mut count = 0;
    let drifting = scripted(move |_| {
        count += 1;
        Ok(answer(if count <= QUESTIONS.len() { 7 } else { 8 }, 1.0))
    });
    let self_test = self_test(drifting).await.unwrap();
    let healthy = watch::Sender::new(true);
    let begin = Instant::now();
    let idle = Duration::from_secs(60);
    let failure = self_test.watch(idle_scheduler, idle, &healthy).await;
    let SelfTestFailure::Wrong { known, got, .. } = failure else { panic!("{failure}") };
    assert_eq!((known.as_str(), got.as_str()), ("7", "8"));
    // The first test runs after the idle time, the others in the next periods.
    assert_eq!(begin.elapsed(), idle + (MAX_CONSECUTIVE_FAILURES - 1) * PERIOD);
    assert!(!*healthy.borrow());
}

#[tokio::test(start_paused = true)]
async fn failed_batch_triggers_a_test_and_a_pass_restores_health() {
    let mut count = 0;
    let failing_once = scripted(move |_| {
        count += 1;
        let fails = count == QUESTIONS.len() + 1;
        if fails { Err(error(ErrorReason::EngineFailed)) } else { Ok(answer(7, 1.0)) }
    });
    let self_test = self_test(failing_once).await.unwrap();
    let healthy = watch::Sender::new(true);
    let mut results = healthy.subscribe();
    let snapshots = AtomicU64::new(0);
    let failed_batch =
        || Snapshot { failed_batches: snapshots.fetch_add(1, Ordering::Relaxed).min(1), ..idle_scheduler() };
    let events = async {
        results.changed().await.unwrap();
        assert!(!*results.borrow_and_update());
        results.changed().await.unwrap();
        assert!(*results.borrow_and_update());
    };
    tokio::select! {
        failure = self_test.watch(failed_batch, Duration::from_secs(3600), &healthy) => panic!("{failure}"),
        () = events => {}
    }
}

#[tokio::test(start_paused = true)]
async fn busy_server_stays_healthy() {
    let mut count = 0;
    let busy = scripted(move |_| {
        count += 1;
        let is_full = count > QUESTIONS.len();
        if is_full { Err(error(ErrorReason::QueueFull)) } else { Ok(answer(7, 1.0)) }
    });
    let self_test = self_test(busy).await.unwrap();
    let healthy = watch::Sender::new(true);
    let watching = self_test.watch(idle_scheduler, Duration::from_secs(2), &healthy);
    assert!(tokio::time::timeout(Duration::from_secs(600), watching).await.is_err());
    assert!(*healthy.borrow());
}
