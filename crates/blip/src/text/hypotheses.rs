//! Lanes: what the decoder carries on side by side. A row that is searched has several, one for each of its beams, draws or
//! candidates, and they all read the row's one memory, of which nothing is repeated.

/// Lanes that are decoded together: more need more memory, `[lanes, vocabulary]` of f32 several times over.
pub(crate) const MAX_LANES: usize = 512;

/// A run of memories that equally many lanes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneGroup {
    pub(crate) first_memory: i64,
    pub(crate) memories: i64,
    pub(crate) first_lane: i64,
    /// Lanes of each memory of the group.
    pub(crate) lanes: i64,
}

/// Which lanes read which memory: lanes are in the order of their memories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneLayout {
    groups: Vec<LaneGroup>,
}

impl LaneLayout {
    /// One lane for each of so many memories.
    pub(crate) fn one_each(memories: i64) -> Self {
        Self { groups: vec![LaneGroup { first_memory: 0, memories, first_lane: 0, lanes: 1 }] }
    }

    /// `lanes_of_memory[i]`, at least 1, lanes for memory `i`.
    pub(crate) fn new(lanes_of_memory: &[i64]) -> Self {
        let (mut first_memory, mut first_lane) = (0, 0);
        let groups = lanes_of_memory.chunk_by(|left, right| left == right).map(|run| {
            let memories = run.len() as i64;
            let lanes = run.first().copied().unwrap_or(1);
            let group = LaneGroup { first_memory, memories, first_lane, lanes };
            first_memory += memories;
            first_lane += memories * lanes;
            group
        });
        Self { groups: groups.collect() }
    }

    /// Runs of memories with equally many lanes.
    pub(crate) fn groups(&self) -> &[LaneGroup] {
        &self.groups
    }
}

/// Cuts `rows` into runs of at most `limit` lanes; a row that has more by itself is alone.
pub(crate) fn passes<T>(rows: Vec<T>, limit: usize, lanes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut passes: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for row in rows {
        let needed = lanes(&row);
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
        let layout = LaneLayout::new(&[3, 3, 1, 2]);
        let group = |first_memory, memories, first_lane, lanes| LaneGroup {
            first_memory,
            memories,
            first_lane,
            lanes,
        };
        assert_eq!(layout.groups(), [group(0, 2, 0, 3), group(2, 1, 6, 1), group(3, 1, 7, 2)]);
        assert_eq!(LaneLayout::new(&[1, 1, 1]), LaneLayout::one_each(3));
    }

    #[test]
    fn a_pass_has_no_more_lanes_than_fit_unless_one_row_has() {
        let cut = |rows: &[usize]| passes(rows.to_vec(), 4, |&lanes| lanes);
        assert_eq!(cut(&[2, 2, 1, 9, 3, 1]), [vec![2, 2], vec![1], vec![9], vec![3, 1]]);
        assert!(cut(&[]).is_empty());
    }
}
