//! Sequences that the decoder extends side by side. A row that is searched has several, one for each of its beams, draws or
//! candidates, and they all read the row's one memory, of which nothing is repeated.

/// Hypotheses that are decoded together: more need more memory, `[hypotheses, vocabulary]` of f32 several times over.
pub(crate) const MAX_HYPOTHESES: usize = 512;

/// A run of memories that equally many hypotheses read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HypothesisGroup {
    pub(crate) first_memory: i64,
    pub(crate) memories: i64,
    pub(crate) first_hypothesis: i64,
    /// Hypotheses of each memory of the group.
    pub(crate) hypotheses: i64,
}

/// Which hypotheses read which memory: hypotheses are in the order of their memories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HypothesisLayout {
    groups: Vec<HypothesisGroup>,
}

impl HypothesisLayout {
    /// One hypothesis for each of so many memories.
    pub(crate) fn one_each(memories: i64) -> Self {
        Self {
            groups: vec![HypothesisGroup { first_memory: 0, memories, first_hypothesis: 0, hypotheses: 1 }],
        }
    }

    /// `hypotheses_of_memory[i]`, at least 1, hypotheses for memory `i`.
    pub(crate) fn new(hypotheses_of_memory: &[i64]) -> Self {
        let (mut first_memory, mut first_hypothesis) = (0, 0);
        let groups = hypotheses_of_memory.chunk_by(|left, right| left == right).map(|run| {
            let memories = run.len() as i64;
            let hypotheses = run.first().copied().unwrap_or(1);
            let group = HypothesisGroup { first_memory, memories, first_hypothesis, hypotheses };
            first_memory += memories;
            first_hypothesis += memories * hypotheses;
            group
        });
        Self { groups: groups.collect() }
    }

    /// Runs of memories with equally many hypotheses.
    pub(crate) fn groups(&self) -> &[HypothesisGroup] {
        &self.groups
    }
}

/// Cuts `rows` into runs of at most `limit` hypotheses; a row that has more by itself is alone.
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
    fn memories_with_equally_many_lanes_form_a_group() {
        let layout = HypothesisLayout::new(&[3, 3, 1, 2]);
        let group = |first_memory, memories, first_hypothesis, hypotheses| HypothesisGroup {
            first_memory,
            memories,
            first_hypothesis,
            hypotheses,
        };
        assert_eq!(layout.groups(), [group(0, 2, 0, 3), group(2, 1, 6, 1), group(3, 1, 7, 2)]);
        assert_eq!(HypothesisLayout::new(&[1, 1, 1]), HypothesisLayout::one_each(3));
    }

    #[test]
    fn a_pass_has_no_more_lanes_than_fit_unless_one_row_has() {
        let cut = |rows: &[usize]| passes(rows.to_vec(), 4, |&hypotheses| hypotheses);
        assert_eq!(cut(&[2, 2, 1, 9, 3, 1]), [vec![2, 2], vec![1], vec![9], vec![3, 1]]);
        assert!(cut(&[]).is_empty());
    }
}
