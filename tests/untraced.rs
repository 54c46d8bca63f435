//! Requests without tracing allocate no memory for it.
//!
//! This file has one test, because the allocator counts for the whole process.

use std::{alloc::System, hint::black_box, time::Duration};

use blip::{RowAnswer, Sequence};
use blip_server::{engine::trace::BatchTrace, pipeline::trace::ItemTrace, telemetry::tracing::TraceScope};
use opentelemetry::{KeyValue, trace::SpanKind};
use scheduler::Completion;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn untraced_request_allocates_nothing() {
    let answer = RowAnswer {
        output: Sequence { token_ids: vec![7], score: -0.5, margin: 1.0 }.into(),
        vision: Duration::from_millis(3),
        text: Duration::from_millis(2),
        decode: Duration::from_millis(1),
        image_reused: false,
    };
    let completion = Completion {
        answer: answer.into(),
        queue: Duration::from_millis(4),
        engine: Duration::from_millis(6),
        batch_images: 1,
        batch_questions: 1,
        is_shared: false,
    };
    let attributes = || [KeyValue::new("blip.image.index", 0)];
    let allocations = Region::new(ALLOCATOR);
    for _ in 0..100 {
        let request = black_box(TraceScope::default());
        let fetch = request.child("fetch", SpanKind::Client, attributes);
        black_box(fetch.headers());
        request.record("preprocess", [Instant::now(); 2], attributes);
        let item = ItemTrace::begin(&request, 0, 0);
        let scopes = [item.scope(), item.scope()];
        let batch = BatchTrace::begin(scopes.iter(), 1, 2);
        batch.decode_steps(3);
        black_box(batch.context());
        item.computed(&completion);
    }
    assert_eq!(allocations.change().allocations, 0);
    // The counter works.
    drop(black_box(Box::new(0)));
    assert_eq!(allocations.change().allocations, 1);
}
