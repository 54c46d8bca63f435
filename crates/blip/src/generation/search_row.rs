//! A row that is searched: several hypotheses at a time, or logits that are changed or drawn from.

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

/// A row that the decoder follows in several hypotheses.
#[derive(Debug)]
pub(crate) struct SearchRow<'a> {
    /// The caller's index.
    pub(crate) row: usize,
    /// Its position in the batch's computing order.
    pub(crate) position: i64,
    /// Ended or cancelled: its hypotheses run along until they are taken out.
    pub(crate) done: bool,
    options: &'a Generation,
    /// What it has to begin with, behind the start token; fed one token a step.
    prompt: &'a [i64],
    start_token: i64,
    strategy: Strategy,
}

/// How a row's hypotheses are followed.
#[derive(Debug)]
enum Strategy {
    Beams(BeamSearch),
    /// Each by itself: the likeliest token of each step, or a drawn one.
    Independent {
        hypotheses: Vec<Hypothesis>,
        stop_token: i64,
        limit: i64,
    },
}

#[derive(Debug, Clone)]
struct Hypothesis {
    sequence: Sequence,
    ended: bool,
}

/// What a step found, as [`crate::generation::search_step`] brings it to the host. For beams, a continuation: its sum, the beam that it
/// continues, its token. For a draw: its token, that token's log-probability, its lead over the next best.
pub(crate) type SearchResult = [f32; 3];

/// How tokens are chosen; rows are decoded in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Beams,
    Greedy,
    Sampled,
}

impl<'a> SearchRow<'a> {
    /// Row `row` at `position`, which goes on from `prompt`.
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

    pub(crate) fn method(&self) -> Method {
        Method::of(self.options)
    }

    pub(crate) fn hypotheses(&self) -> usize {
        match &self.strategy {
            Strategy::Beams(search) => search.beams().len(),
            Strategy::Independent { hypotheses, .. } => hypotheses.len(),
        }
    }

    /// What each hypothesis has so far, at a step whose input is token number `step`.
    pub(crate) fn histories(&self, step: usize) -> impl Iterator<Item = TokenHistory<'a>> + '_ {
        let given = self.prompt.get(..step).unwrap_or(self.prompt);
        (0..self.hypotheses()).map(move |hypothesis| {
            let mut token_ids = [&[self.start_token], given, self.written(hypothesis)].concat();
            // Hypotheses that ended run along; only the number of their tokens matters.
            token_ids.resize(step + 1, self.start_token);
            TokenHistory { options: self.options, token_ids }
        })
    }

    fn written(&self, hypothesis: usize) -> &[i64] {
        let written = match &self.strategy {
            Strategy::Beams(search) => search.beams().get(hypothesis).map(|beam| &beam.token_ids),
            Strategy::Independent { hypotheses, .. } => {
                hypotheses.get(hypothesis).map(|hypothesis| &hypothesis.sequence.token_ids)
            }
        };
        written.map_or(&[], |ids| &ids[..])
    }

    /// What each beam has gathered so far; 0 for independent hypotheses.
    pub(crate) fn sums(&self) -> impl Iterator<Item = f32> + '_ {
        (0..self.hypotheses()).map(|hypothesis| match &self.strategy {
            Strategy::Beams(search) => search.beams().get(hypothesis).map_or(0.0, |beam| beam.sum),
            Strategy::Independent { .. } => 0.0,
        })
    }

    /// The sampling options of each hypothesis, with its uniform random number at `step`. Empty if the row does
    /// not sample.
    pub(crate) fn draws(&self, step: usize) -> impl Iterator<Item = (Sampling, f64)> + '_ {
        let sampling = self.options.sampling.into_iter();
        sampling.flat_map(move |sampling| {
            (0..self.hypotheses() as u64)
                .map(move |hypothesis| (sampling, uniform(sampling.seed, hypothesis, step as u64)))
        })
    }

    /// Goes on after a step whose input was token number `step`; returns what came of the row if that was its last.
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
                    let written = hypothesis.sequence.token_ids.len() as i64;
                    hypothesis.ended = choice.token == *stop_token || written >= *limit;
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

    /// For each hypothesis of the next step: the row's hypothesis that it goes on from, and its input.
    pub(crate) fn next(&self, step: usize) -> Vec<(usize, i64)> {
        let given = self.prompt.get(step);
        let hypothesis_input = |hypothesis: usize| {
            let parent = match &self.strategy {
                Strategy::Beams(search) if given.is_none() => {
                    search.beams().get(hypothesis).map(|beam| beam.parent)
                }
                _ => None,
            };
            let token = given.or_else(|| self.written(hypothesis).last()).copied();
            (parent.unwrap_or(hypothesis), token.unwrap_or(self.start_token))
        };
        (0..self.hypotheses()).map(hypothesis_input).collect()
    }
}

impl Hypothesis {
    fn push(&mut self, choice: &TokenChoice) {
        self.sequence.token_ids.push(choice.token);
        self.sequence.score += choice.log_probability;
        self.sequence.margin = self.sequence.margin.min(choice.margin);
    }
}

impl Method {
    /// Drawn tokens follow no beams.
    fn of(options: &Generation) -> Self {
        match options.sampling {
            Some(_) => Self::Sampled,
            None if options.num_beams > 1 => Self::Beams,
            None => Self::Greedy,
        }
    }
}
