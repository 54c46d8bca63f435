//! A trie of candidates: each common prefix is one node, which the decoder computes once.

use std::collections::HashMap;

/// The last token of a prefix that candidates share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TrieNode {
    pub(crate) token: i64,
    /// Index of the preceding node in the level above. 0 in the first level.
    pub(crate) parent: usize,
    /// Candidates that end at this node.
    pub(crate) candidates: Vec<usize>,
}

/// Nodes by depth. Level 0 has the first tokens.
#[derive(Debug, Default)]
pub(crate) struct CandidateTrie {
    levels: Vec<Vec<TrieNode>>,
}

impl CandidateTrie {
    /// Builds the trie of candidates, given as index and token ids. No candidate is empty.
    pub(crate) fn new<'a>(candidates: impl IntoIterator<Item = (usize, &'a [i64])>) -> Self {
        let mut trie = Self::default();
        let mut index_of: HashMap<(usize, usize, i64), usize> = HashMap::new();
        for (candidate, token_ids) in candidates {
            let mut parent = 0;
            for (depth, &token) in token_ids.iter().enumerate() {
                if trie.levels.len() == depth {
                    trie.levels.push(Vec::new());
                }
                let Some(level) = trie.levels.get_mut(depth) else { continue };
                let index = *index_of.entry((depth, parent, token)).or_insert(level.len());
                if index == level.len() {
                    level.push(TrieNode { token, parent, candidates: Vec::new() });
                }
                if let Some(node) = level.get_mut(index).filter(|_| depth + 1 == token_ids.len()) {
                    node.candidates.push(candidate);
                }
                parent = index;
            }
        }
        trie
    }

    /// Returns the nodes at `depth`. The slice is empty below the longest candidate.
    pub(crate) fn level(&self, depth: usize) -> &[TrieNode] {
        self.levels.get(depth).map_or(&[], |level| level)
    }

    /// Returns the size of the largest level.
    pub(crate) fn width(&self) -> usize {
        self.levels.iter().map(Vec::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trie(candidates: &[Vec<i64>]) -> CandidateTrie {
        CandidateTrie::new(candidates.iter().map(|ids| &ids[..]).enumerate())
    }

    #[test]
    fn common_prefixes_are_one_node() {
        let trie = trie(&[vec![5, 6], vec![5], vec![5, 7], vec![8], vec![5, 6]]);
        let node =
            |token, parent, candidates: &[usize]| TrieNode { token, parent, candidates: candidates.to_vec() };
        assert_eq!(trie.level(0), [node(5, 0, &[1]), node(8, 0, &[3])]);
        assert_eq!(trie.level(1), [node(6, 0, &[0, 4]), node(7, 0, &[2])]);
        assert!(trie.level(2).is_empty());
        assert_eq!(trie.width(), 2);
    }

    proptest! {
        #[test]
        fn every_candidate_is_the_path_to_its_end_node(candidates in prop::collection::vec(prop::collection::vec(0i64..4, 1..5), 0..40)) {
            let trie = trie(&candidates);
            let mut visits = vec![0; candidates.len()];
            for depth in 0..5 {
                for node in trie.level(depth) {
                    let (mut path, mut above) = (vec![node.token], node.parent);
                    for depth in (0..depth).rev() {
                        let node = &trie.level(depth)[above];
                        path.insert(0, node.token);
                        above = node.parent;
                    }
                    for &candidate in &node.candidates {
                        prop_assert_eq!(&path, &candidates[candidate]);
                        visits[candidate] += 1;
                    }
                }
            }
            prop_assert!(visits.iter().all(|&count| count == 1));
        }
    }
}
