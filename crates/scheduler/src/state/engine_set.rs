//! A set of engines.

/// A set of engines by index, at most 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineSet(u64);

impl EngineSet {
    pub(crate) fn contains(self, engine: usize) -> bool {
        self.0 & (1 << engine) != 0
    }

    pub(crate) const fn only(engine: usize) -> Self {
        Self(1 << engine)
    }

    pub(crate) fn first(count: usize) -> Self {
        (0..count).fold(Self::default(), |all, engine| all.with(Self::only(engine)))
    }

    pub(crate) const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(self.0), |rest| Some(rest & rest.wrapping_sub(1)))
            .take_while(|rest| *rest != 0)
            .map(|rest| rest.trailing_zeros() as usize)
    }
}
