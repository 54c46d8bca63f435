//! Sequences that the decoder extends side by side.
//!
//! A searched row has a hypothesis for each beam, sample or candidate. All of them read the row's
//! encoder states, which are not repeated.

/// Largest number of hypotheses that are decoded together.
///
/// It bounds memory: each step needs `[hypotheses, vocabulary]` of f32 several times.
pub(crate) const MAX_HYPOTHESES: usize = 512;

/// Consecutive rows of encoder states with the same number of hypotheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HypothesisGroup {
    pub(crate) first_encoder_row: i64,
    pub(crate) encoder_rows: i64,
    pub(crate) first_hypothesis: i64,
    /// Hypotheses of each row of encoder states.
    pub(crate) hypotheses: i64,
}

/// Which hypotheses read which row of encoder states. Hypotheses are in the order of these rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HypothesisLayout {
    groups: Vec<HypothesisGroup>,
}

impl HypothesisLayout {
    /// Creates a layout with one hypothesis for each of `encoder_rows` rows.
    pub(crate) fn one_each(encoder_rows: i64) -> Self {
        Self {
            groups: vec![HypothesisGroup {
                first_encoder_row: 0,
                encoder_rows,
                first_hypothesis: 0,
                hypotheses: 1,
            }],
        }
    }

    /// Creates a layout with `hypothesis_counts[i]` hypotheses, at least 1, for row `i` of the
    /// encoder states.
    pub(crate) fn new(hypothesis_counts: &[i64]) -> Self {
        let (mut first_encoder_row, mut first_hypothesis) = (0, 0);
        let groups = hypothesis_counts.chunk_by(|left, right| left == right).map(|run| {
            let encoder_rows = run.len() as i64;
            let hypotheses = run.first().copied().unwrap_or(1);
            let group = HypothesisGroup { first_encoder_row, encoder_rows, first_hypothesis, hypotheses };
            first_encoder_row += encoder_rows;
            first_hypothesis += encoder_rows * hypotheses;
            group
        });
        Self { groups: groups.collect() }
    }

    /// Returns the groups of rows with the same number of hypotheses.
    pub(crate) fn groups(&self) -> &[HypothesisGroup] {
        &self.groups
    }
}

/// Cuts `rows` into passes of at most `limit` hypotheses. A row with more hypotheses is a separate
/// pass.
pub(crate) fn passes<T>(rows: Vec<T>, limit: usize, hypotheses: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut passes: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for row in rows {
        let needed = hypotheses(&row);
        match passes.last_mut().filter(|_| needed <= room) {
            Some(pass) => {
                room -= needed;
                pass.push(row);
            }
            None => {
                room = limit.saturating_sub(needed);
                passes.push(vec![row]);
            }
        }
    }
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_equal_hypothesis_counts_form_a_group() {
        let layout = HypothesisLayout::new(&[3, 3, 1, 2]);
        let group = |first_encoder_row, encoder_rows, first_hypothesis, hypotheses| HypothesisGroup {
            first_encoder_row,
            encoder_rows,
            first_hypothesis,
            hypotheses,
        };
        assert_eq!(layout.groups(), [group(0, 2, 0, 3), group(2, 1, 6, 1), group(3, 1, 7, 2)]);
        assert_eq!(HypothesisLayout::new(&[1, 1, 1]), HypothesisLayout::one_each(3));
    }

    #[test]
    fn passes_of_several_rows_have_at_most_the_limit() {
        let cut = |rows: &[usize]| passes(rows.to_vec(), 4, |&hypotheses| hypotheses);
        assert_eq!(cut(&[2, 2, 1, 9, 3, 1]), [vec![2, 2], vec![1], vec![9], vec![3, 1]]);
        assert!(cut(&[]).is_empty());
    }
}
