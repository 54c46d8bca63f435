//! A row that is searched: several hypotheses at a time, or logits that are changed or drawn from.

use crate::{
    batch::{
        rows::{RowError, RowSink},
        task::{Generation, Sampling, Sequence},
    },
    decoder::token_choice::Choice,
    generation::{
        beam_search::{BeamSearch, Continuation},
        logits_processors::LaneHistory,
        sampling::uniform,
        stopping_criteria::Stop,
    },
};

/// A row with a lane of the decoder for each of its hypotheses.
#[derive(Debug)]
pub(crate) struct SearchRow<'a> {
    /// The caller's index.
    pub(crate) row: usize,
    /// Its place in the batch's computing order.
    pub(crate) place: i64,
    /// Ended or cancelled: its lanes run along until they are taken out.
    pub(crate) done: bool,
    options: &'a Generation,
    /// What it has to begin with, behind the start token; fed one token a step.
    prompt: &'a [i64],
    start_token: i64,
    course: Course,
}

/// How a row's hypotheses are followed.
#[derive(Debug)]
enum Course {
    Beams(BeamSearch),
    /// Each by itself: the likeliest token of each step, or a drawn one.
    Draws {
        draws: Vec<Draw>,
        stop_token: i64,
        limit: i64,
    },
}

#[derive(Debug, Clone)]
struct Draw {
    sequence: Sequence,
    ended: bool,
}

/// What a step found, as [`crate::generation::search_step`] brings it to the host. For beams, a continuation: its sum, the beam that it
/// continues, its token. For a draw: its token, that token's log-probability, its lead over the next best.
pub(crate) type Found = [f32; 3];

/// How tokens are chosen; rows are decoded in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Beams,
    Likeliest,
    Drawn,
}

impl<'a> SearchRow<'a> {
    /// Row `row` at `place`, which goes on from `prompt`.
    pub(crate) fn new(
        (row, place): (usize, i64),
        prompt: &'a [i64],
        options: &'a Generation,
        stop: Stop,
    ) -> Self {
        let (stop_token, limit) = (stop.stop_token, stop.limit(options.max_new_tokens, prompt.len()));
        let draws = |count| {
            let sequence = Sequence { margin: f32::INFINITY, ..Sequence::default() };
            Course::Draws { draws: vec![Draw { sequence, ended: false }; count], stop_token, limit }
        };
        let course = match Method::of(options) {
            Method::Beams => Course::Beams(BeamSearch::new(options, limit, stop_token)),
            Method::Likeliest => draws(1),
            Method::Drawn => draws(options.num_sequences.max(1) as usize),
        };
        let start_token = stop.start_token;
        Self { row, place, done: false, options, prompt, start_token, course }
    }

    pub(crate) fn method(&self) -> Method {
        Method::of(self.options)
    }

    pub(crate) fn lanes(&self) -> usize {
        match &self.course {
            Course::Beams(search) => search.beams().len(),
            Course::Draws { draws, .. } => draws.len(),
        }
    }

    /// What each lane has so far, at a step whose input is token number `step`.
    pub(crate) fn histories(&self, step: usize) -> impl Iterator<Item = LaneHistory<'a>> + '_ {
        let given = self.prompt.get(..step).unwrap_or(self.prompt);
        (0..self.lanes()).map(move |lane| {
            let mut token_ids = [&[self.start_token], given, self.written(lane)].concat();
            // Lanes that ended run along; what they have is no matter, but how much.
            token_ids.resize(step + 1, self.start_token);
            LaneHistory { options: self.options, token_ids }
        })
    }

    fn written(&self, lane: usize) -> &[i64] {
        let written = match &self.course {
            Course::Beams(search) => search.beams().get(lane).map(|beam| &beam.token_ids),
            Course::Draws { draws, .. } => draws.get(lane).map(|draw| &draw.sequence.token_ids),
        };
        written.map_or(&[], |ids| &ids[..])
    }

    /// What each beam has gathered so far; 0 for draws.
    pub(crate) fn sums(&self) -> impl Iterator<Item = f32> + '_ {
        (0..self.lanes()).map(|lane| match &self.course {
            Course::Beams(search) => search.beams().get(lane).map_or(0.0, |beam| beam.sum),
            Course::Draws { .. } => 0.0,
        })
    }

    /// How each lane draws, and the number that it draws by at `step`; none if the row does not.
    pub(crate) fn draws(&self, step: usize) -> impl Iterator<Item = (Sampling, f64)> + '_ {
        let sampling = self.options.sampling.into_iter();
        sampling.flat_map(move |sampling| {
            (0..self.lanes() as u64).map(move |lane| (sampling, uniform(sampling.seed, lane, step as u64)))
        })
    }

    /// Goes on after a step whose input was token number `step`; returns what came of the row if that was its last.
    pub(crate) fn advance(
        &mut self,
        step: usize,
        found: &[Found],
        rows: &mut dyn RowSink,
    ) -> Option<Result<Vec<Sequence>, RowError>> {
        if step < self.prompt.len() {
            return None;
        }
        match &mut self.course {
            Course::Beams(search) => {
                let continuation = |&[sum, beam, token]: &Found| Continuation {
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
            Course::Draws { draws, stop_token, limit } => {
                let reported = self.options.report_tokens && draws.len() == 1;
                for (draw, &[token, log_probability, margin]) in draws.iter_mut().zip(found) {
                    if draw.ended {
                        continue;
                    }
                    if !log_probability.is_finite() {
                        return Some(Err(RowError::NotFinite));
                    }
                    let choice = Choice { token: token as i64, log_probability, margin };
                    if reported {
                        rows.token(self.row, draw.sequence.token_ids.len(), choice.token);
                    }
                    draw.push(&choice);
                    let written = draw.sequence.token_ids.len() as i64;
                    draw.ended = choice.token == *stop_token || written >= *limit;
                }
                draws.iter().all(|draw| draw.ended).then(|| {
                    let mut sequences: Vec<Sequence> =
                        draws.iter_mut().map(|draw| std::mem::take(&mut draw.sequence)).collect();
                    sequences.sort_by(|one, other| other.score.total_cmp(&one.score));
                    Ok(sequences)
                })
            }
        }
    }

    /// For each lane of the next step: the row's lane that it goes on from, and its input.
    pub(crate) fn next(&self, step: usize) -> Vec<(usize, i64)> {
        let given = self.prompt.get(step);
        let lane_input = |lane: usize| {
            let parent = match &self.course {
                Course::Beams(search) if given.is_none() => search.beams().get(lane).map(|beam| beam.parent),
                _ => None,
            };
            let token = given.or_else(|| self.written(lane).last()).copied();
            (parent.unwrap_or(lane), token.unwrap_or(self.start_token))
        };
        (0..self.lanes()).map(lane_input).collect()
    }
}

impl Draw {
    fn push(&mut self, choice: &Choice) {
        self.sequence.token_ids.push(choice.token);
        self.sequence.score += choice.log_probability;
        self.sequence.margin = self.sequence.margin.min(choice.margin);
    }
}

impl Method {
    /// Drawn tokens follow no beams.
    fn of(options: &Generation) -> Self {
        match options.sampling {
            Some(_) => Self::Drawn,
            None if options.num_beams > 1 => Self::Beams,
            None => Self::Likeliest,
        }
    }
}
