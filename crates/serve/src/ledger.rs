//! What an answer cost, as messages have it.

use std::time::Duration;

use scheduler::Done;
use tokio::time::Instant;

use crate::{intake::Cost, proto::Timing, row::AnswerRow};

/// Of an answer that was computed for a request that came at `arrived`.
#[must_use]
pub fn computed(done: &Done<AnswerRow>, cost: Cost, arrived: Instant) -> Timing {
    let row = &done.answer.answer;
    Timing {
        queue_ms: milliseconds(done.queue),
        vision_ms: milliseconds(row.vision),
        text_ms: milliseconds(row.text),
        decode_ms: milliseconds(row.decode),
        batch_images: done.batch_images,
        batch_questions: done.batch_questions,
        image_reused: row.image_reused,
        answer_shared: done.shared,
        ..way_in(cost, arrived)
    }
}

/// Of an answer that was kept from an earlier request.
#[must_use]
pub fn reused(cost: Cost, arrived: Instant) -> Timing {
    Timing { answer_reused: true, ..way_in(cost, arrived) }
}

/// What any answer takes.
fn way_in(cost: Cost, arrived: Instant) -> Timing {
    Timing {
        fetch_ms: milliseconds(cost.fetch),
        preprocess_ms: milliseconds(cost.preprocess),
        total_ms: milliseconds(arrived.elapsed()),
        ..Timing::default()
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_kept_cost_nothing_but_its_image() {
        let arrived = Instant::now();
        let cost =
            Cost { fetch: Duration::from_millis(4), preprocess: Duration::from_millis(2), ..Cost::default() };
        tokio::time::advance(Duration::from_millis(7)).await;
        let expected = Timing {
            fetch_ms: 4.0,
            preprocess_ms: 2.0,
            total_ms: 7.0,
            answer_reused: true,
            ..Timing::default()
        };
        assert_eq!(reused(cost, arrived), expected);
    }
}
