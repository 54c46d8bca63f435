//! A row that is searched: it has several hypotheses, or its logits are processed or sampled.

use crate::{
    batch::{
        rows::{RowError, RowSink},
        task::{Generation, Sampling, Sequence},
    },
    decoder::token_choice::TokenChoice,
    generation::{
        beam_search::{BeamSearch, Continuation},
        logits_processors::TokenHistory,
        sampling::uniform,
        stopping_criteria::StoppingCriteria,
    },
};

/// A row with its hypotheses and its strategy.
#[derive(Debug)]
pub(crate) struct SearchRow<'a> {
    /// The caller's index.
    pub(crate) row: usize,
    /// Position in computing order.
    pub(crate) position: i64,
    /// Ended or cancelled. Its hypotheses are computed until the row is removed.
    pub(crate) done: bool,
    options: &'a Generation,
    /// Prompt after the start token. The decoder reads one of its tokens in each step.
    prompt: &'a [i64],
    start_token: i64,
    strategy: Strategy,
}

/// The search strategy of a row.
#[derive(Debug)]
enum Strategy {
    Beams(BeamSearch),
    /// Separate hypotheses that take the most likely or a sampled token in each step.
    Independent {
        hypotheses: Vec<Hypothesis>,
        stop_token: i64,
        limit: i64,
    },
}

/// A hypothesis without beams.
#[derive(Debug, Clone)]
struct Hypothesis {
    sequence: Sequence,
    ended: bool,
}

/// One result of [`crate::generation::search_step`] on the host.
///
/// - For beam search: the sum, the index of the continued beam, the token.
/// - Otherwise: the token, its log-probability, its lead over the second best.
pub(crate) type SearchResult = [f32; 3];

/// How tokens are chosen. Rows are decoded in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Beams,
    Greedy,
    Sampled,
}

impl<'a> SearchRow<'a> {
    /// Creates the row `row` at `position`, which continues `prompt`.
    pub(crate) fn new(
        (row, position): (usize, i64),
        prompt: &'a [i64],
        options: &'a Generation,
        stopping: StoppingCriteria,
    ) -> Self {
        let (stop_token, limit) = (stopping.stop_token, stopping.limit(options.max_new_tokens, prompt.len()));
        let independent = |count| {
            let sequence = Sequence { margin: f32::INFINITY, ..Sequence::default() };
            Strategy::Independent {
                hypotheses: vec![Hypothesis { sequence, ended: false }; count],
                stop_token,
                limit,
            }
        };
        let strategy = match Method::of(options) {
            Method::Beams => Strategy::Beams(BeamSearch::new(options, limit, stop_token)),
            Method::Greedy => independent(1),
            Method::Sampled => independent(options.num_sequences.max(1) as usize),
        };
        let start_token = stopping.start_token;
        Self { row, position, done: false, options, prompt, start_token, strategy }
    }

    /// Returns the method of the row's options.
    pub(crate) fn method(&self) -> Method {
        Method::of(self.options)
    }

    /// Returns the number of hypotheses.
    pub(crate) fn hypotheses(&self) -> usize {
        match &self.strategy {
            Strategy::Beams(search) => search.beams().len(),
            Strategy::Independent { hypotheses, .. } => hypotheses.len(),
        }
    }

    /// Returns the tokens of each hypothesis at the step whose input is token number `step`.
    pub(crate) fn histories(&self, step: usize) -> impl Iterator<Item = TokenHistory<'a>> + '_ {
        let given = self.prompt.get(..step).unwrap_or(self.prompt);
        (0..self.hypotheses()).map(move |hypothesis| {
            let mut token_ids = [&[self.start_token], given, self.generated(hypothesis)].concat();
            // Ended hypotheses are still computed. Only the number of their tokens matters.
            token_ids.resize(step + 1, self.start_token);
            TokenHistory { options: self.options, token_ids }
        })
    }

    /// Returns the generated tokens of a hypothesis.
    fn generated(&self, hypothesis: usize) -> &[i64] {
        let generated = match &self.strategy {
            Strategy::Beams(search) => search.beams().get(hypothesis).map(|beam| &beam.token_ids),
            Strategy::Independent { hypotheses, .. } => {
                hypotheses.get(hypothesis).map(|hypothesis| &hypothesis.sequence.token_ids)
            }
        };
        generated.map_or(&[], |ids| &ids[..])
    }

    /// Returns the sum of each beam, or 0 for independent hypotheses.
    pub(crate) fn sums(&self) -> impl Iterator<Item = f32> + '_ {
        (0..self.hypotheses()).map(|hypothesis| match &self.strategy {
            Strategy::Beams(search) => search.beams().get(hypothesis).map_or(0.0, |beam| beam.sum),
            Strategy::Independent { .. } => 0.0,
        })
    }

    /// Returns the sampling options of each hypothesis with its uniform random number at `step`.
    ///
    /// The iterator is empty if the row does not sample.
    pub(crate) fn sampling_inputs(&self, step: usize) -> impl Iterator<Item = (Sampling, f64)> + '_ {
        let sampling = self.options.sampling.into_iter();
        sampling.flat_map(move |sampling| {
            (0..self.hypotheses() as u64)
                .map(move |hypothesis| (sampling, uniform(sampling.seed, hypothesis, step as u64)))
        })
    }

    /// Completes the step whose input was token number `step`. Returns the row's result after its
    /// last step.
    pub(crate) fn advance(
        &mut self,
        step: usize,
        found: &[SearchResult],
        rows: &mut dyn RowSink,
    ) -> Option<Result<Vec<Sequence>, RowError>> {
        if step < self.prompt.len() {
            return None;
        }
        match &mut self.strategy {
            Strategy::Beams(search) => {
                let continuation = |&[sum, beam, token]: &SearchResult| Continuation {
                    sum,
                    beam: beam as usize,
                    token: token as i64,
                };
                let best: Vec<Continuation> = found.iter().map(continuation).collect();
                if best.first().is_none_or(|best| !best.sum.is_finite()) {
                    return Some(Err(RowError::NotFinite));
                }
                let ended = search.advance(&best);
                ended.then(|| Ok(search.sequences(self.options.num_sequences as usize)))
            }
            Strategy::Independent { hypotheses, stop_token, limit } => {
                let reported = self.options.report_tokens && hypotheses.len() == 1;
                for (hypothesis, &[token, log_probability, margin]) in hypotheses.iter_mut().zip(found) {
                    if hypothesis.ended {
                        continue;
                    }
                    if !log_probability.is_finite() {
                        return Some(Err(RowError::NotFinite));
                    }
                    let choice = TokenChoice { token: token as i64, log_probability, margin };
                    if reported {
                        rows.token(self.row, hypothesis.sequence.token_ids.len(), choice.token);
                    }
                    hypothesis.push(&choice);
                    let generated = hypothesis.sequence.token_ids.len() as i64;
                    hypothesis.ended = choice.token == *stop_token || generated >= *limit;
                }
                hypotheses.iter().all(|hypothesis| hypothesis.ended).then(|| {
                    let mut sequences: Vec<Sequence> = hypotheses
                        .iter_mut()
                        .map(|hypothesis| std::mem::take(&mut hypothesis.sequence))
                        .collect();
                    sequences.sort_by(|one, other| other.score.total_cmp(&one.score));
                    Ok(sequences)
                })
            }
        }
    }

    /// Returns the parent hypothesis and the input token of each hypothesis of the next step.
    pub(crate) fn next(&self, step: usize) -> Vec<(usize, i64)> {
        let given = self.prompt.get(step);
        let hypothesis_input = |hypothesis: usize| {
            let parent = match &self.strategy {
                Strategy::Beams(search) if given.is_none() => {
                    search.beams().get(hypothesis).map(|beam| beam.parent)
                }
                _ => None,
            };
            let token = given.or_else(|| self.generated(hypothesis).last()).copied();
            (parent.unwrap_or(hypothesis), token.unwrap_or(self.start_token))
        };
        (0..self.hypotheses()).map(hypothesis_input).collect()
    }
}

impl Hypothesis {
    /// Adds a generated token.
    fn push(&mut self, choice: &TokenChoice) {
        self.sequence.token_ids.push(choice.token);
        self.sequence.score += choice.log_probability;
        self.sequence.margin = self.sequence.margin.min(choice.margin);
    }
}

impl Method {
    /// Sampling takes precedence over beams.
    fn of(options: &Generation) -> Self {
        match options.sampling {
            Some(_) => Self::Sampled,
            None if options.num_beams > 1 => Self::Beams,
            None => Self::Greedy,
        }
    }
}
