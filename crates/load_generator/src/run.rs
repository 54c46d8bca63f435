//! Asking at a pace, and writing down what became of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{Reply, Target, workload::Traffic};

/// How long to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Asked at the beginning without being counted.
    pub warm_up: Duration,
    /// Counted after that, by the moments at which requests should have been sent.
    pub measured: Duration,
    /// Requests that may be under way at a time in an open loop; one more is not sent, and counts as an error.
    pub most_under_way: usize,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When it should have been sent, from the end of the warm-up.
    pub due: Duration,
    /// How much later it was sent.
    pub lag: Duration,
    /// From when it should have been sent until it was answered.
    pub latency: Duration,
    /// Questions answered.
    pub answered: u32,
    /// Questions not answered.
    pub failed: u32,
}

/// What became of all requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// Those that should have been sent in the time that counts, in the order in which they ended.
    pub samples: Vec<Sample>,
    /// Why questions were not answered, each with how many.
    pub errors: std::collections::BTreeMap<String, u64>,
}

/// The reason of a request that was not sent because too many were under way.
pub const NOT_SENT: &str = "NOT_SENT";

#[derive(Debug)]
struct Book {
    counts_from: Instant,
    counts_until: Instant,
    recording: Mutex<Recording>,
}

impl Book {
    fn new(plan: &Plan) -> Self {
        let counts_from = Instant::now() + plan.warm_up;
        Self { counts_from, counts_until: counts_from + plan.measured, recording: Mutex::default() }
    }

    fn write(&self, due: Instant, sent: Instant, questions: u32, reply: Reply) {
        if due < self.counts_from || due >= self.counts_until {
            return;
        }
        let sample = Sample {
            due: due - self.counts_from,
            lag: sent.saturating_duration_since(due),
            latency: due.elapsed(),
            answered: reply.answered,
            failed: questions.saturating_sub(reply.answered),
        };
        let mut recording = self.recording.lock().unwrap_or_else(PoisonError::into_inner);
        recording.samples.push(sample);
        for error in reply.errors {
            *recording.errors.entry(error).or_default() += 1;
        }
    }

    fn close(self: Arc<Self>) -> Recording {
        std::mem::take(&mut self.recording.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn ask_one<T: Target>(target: &T, traffic: &Mutex<Traffic>, due: Instant, book: &Book) {
    let ask = traffic.lock().unwrap_or_else(PoisonError::into_inner).draw();
    let questions = u32::try_from(ask.questions.len()).unwrap_or(u32::MAX);
    let sent = Instant::now();
    let reply = target.ask(ask).await;
    book.write(due, sent, questions, reply);
}

/// Asks from `clients` clients, each again when it has its answer. What is under way at the end is waited for.
pub async fn closed<T: Target>(target: Arc<T>, traffic: Traffic, clients: usize, plan: &Plan) -> Recording {
    let (book, traffic) = (Arc::new(Book::new(plan)), Arc::new(Mutex::new(traffic)));
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (target, traffic, book) = (Arc::clone(&target), Arc::clone(&traffic), Arc::clone(&book));
        running.spawn(async move {
            while Instant::now() < book.counts_until {
                ask_one(&*target, &traffic, Instant::now(), &book).await;
            }
        });
    }
    while running.join_next().await.is_some() {}
    book.close()
}

/// Asks at each of `arrivals`, whatever is under way. What is under way at the end is waited for.
pub async fn open<T: Target>(
    target: Arc<T>,
    traffic: Traffic,
    mut arrivals: impl Stream<Item = Instant> + Unpin,
    plan: &Plan,
) -> Recording {
    let (book, traffic) = (Arc::new(Book::new(plan)), Arc::new(Mutex::new(traffic)));
    let mut under_way = JoinSet::new();
    let over = sleep_until(book.counts_until);
    let mut over = std::pin::pin!(over);
    loop {
        let due = tokio::select! {
            biased;
            () = &mut over => break,
            due = arrivals.next() => due,
        };
        let Some(due) = due.filter(|due| *due < book.counts_until) else { break };
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= plan.most_under_way {
            let questions = traffic.lock().unwrap_or_else(PoisonError::into_inner).draw().questions.len();
            let reply = Reply { answered: 0, errors: vec![NOT_SENT.to_owned(); questions] };
            book.write(due, Instant::now(), u32::try_from(questions).unwrap_or(u32::MAX), reply);
            continue;
        }
        let (target, traffic, book) = (Arc::clone(&target), Arc::clone(&traffic), Arc::clone(&book));
        under_way.spawn(async move { ask_one(&*target, &traffic, due, &book).await });
    }
    while under_way.join_next().await.is_some() {}
    book.close()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures::stream;
    use tokio::time::sleep;

    use super::*;
    use crate::{Ask, workload::Mix};

    const PLAN: Plan =
        Plan { warm_up: Duration::from_secs(1), measured: Duration::from_secs(10), most_under_way: 1000 };

    fn traffic() -> Traffic {
        let mix = Mix { questions_per_picture: 2, reuse: 0.0, pool: 1, skew: 0.0, seed: 7 };
        Traffic::new(vec![Bytes::from_static(b"a")], vec!["a".to_owned()], mix).unwrap()
    }

    /// Takes so long over each request, and fails every second question of those it is told to.
    struct Slow {
        takes: Duration,
        fails: bool,
        at_once: AtomicUsize,
        most_at_once: AtomicUsize,
    }

    impl Slow {
        fn new(takes: Duration, fails: bool) -> Arc<Self> {
            Arc::new(Self { takes, fails, at_once: AtomicUsize::new(0), most_at_once: AtomicUsize::new(0) })
        }
    }

    impl Target for Slow {
        async fn ask(&self, ask: Ask) -> Reply {
            let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_at_once.fetch_max(now, Ordering::Relaxed);
            sleep(self.takes).await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            let failed = if self.fails { 1 } else { 0 };
            Reply {
                answered: u32::try_from(ask.questions.len()).unwrap() - failed,
                errors: vec!["BUSY".to_owned(); failed as usize],
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_a_closed_loop_ask_again_as_soon_as_they_are_answered() {
        let target = Slow::new(Duration::from_millis(100), false);
        let recording = closed(Arc::clone(&target), traffic(), 4, &PLAN).await;
        assert_eq!(recording.samples.len(), 4 * 100);
        assert!(recording.samples.iter().all(|sample| sample.latency == Duration::from_millis(100)));
        assert!(recording.samples.iter().all(|sample| (sample.answered, sample.failed) == (2, 0)));
        assert_eq!(target.most_at_once.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_loop_sends_on_time_whatever_the_server_does() {
        let target = Slow::new(Duration::from_secs(3), true);
        let begin = Instant::now();
        let arrivals = stream::iter(0_u32..).then(move |number| async move {
            let at = begin + number * Duration::from_millis(100);
            sleep_until(at).await;
            at
        });
        let recording = open(Arc::clone(&target), traffic(), Box::pin(arrivals), &PLAN).await;
        // Ten a second, of which those of the warm-up do not count.
        assert_eq!(recording.samples.len(), 100);
        assert_eq!(recording.samples[0].due, Duration::ZERO);
        assert!(recording.samples.iter().all(|sample| sample.latency == Duration::from_secs(3)));
        assert_eq!(recording.errors["BUSY"], 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_sent_late_has_waited_since_it_was_due() {
        let target = Slow::new(Duration::from_millis(10), false);
        let due = Instant::now() + PLAN.warm_up;
        // The client itself was busy for two seconds.
        let arrivals = stream::once(async move {
            sleep_until(due + Duration::from_secs(2)).await;
            due
        });
        let recording = open(target, traffic(), Box::pin(arrivals), &PLAN).await;
        let [sample] = recording.samples[..] else { panic!("{recording:?}") };
        assert_eq!(sample.lag, Duration::from_secs(2));
        assert_eq!(sample.latency, Duration::from_millis(2010));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_sent_for_want_of_room_is_told() {
        let target = Slow::new(Duration::from_secs(3600), false);
        let plan = Plan { most_under_way: 3, ..PLAN };
        let begin = Instant::now() + plan.warm_up;
        let arrivals = stream::iter(0_u32..5).then(move |number| async move {
            let at = begin + number * Duration::from_secs(1);
            sleep_until(at).await;
            at
        });
        let recording = open(target, traffic(), Box::pin(arrivals), &plan).await;
        assert_eq!(recording.errors[NOT_SENT], 4);
        assert_eq!(recording.samples.len(), 5);
    }
}
