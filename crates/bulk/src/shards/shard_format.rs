//! The formats of shards.

use crate::storage::Location;

/// The format of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShardFormat {
    /// A tar file, as WebDataset reads and writes it.
    Tar,
    /// A Parquet file, as `datasets` reads and writes it.
    #[cfg(feature = "parquet")]
    Parquet,
}

const TAR_EXTENSION: &str = "tar";
const PARQUET_EXTENSION: &str = "parquet";

/// What a shard must be.
pub(super) const EXPECTED: &str = "*.tar or *.parquet";

impl ShardFormat {
    /// Returns the format that the extension of a shard stands for.
    ///
    /// # Errors
    /// A file that is no shard, or whose format this build does not have.
    pub(super) fn of(file: &Location) -> Result<Self, String> {
        if file.has_extension(TAR_EXTENSION) {
            return Ok(Self::Tar);
        }
        #[cfg(feature = "parquet")]
        if file.has_extension(PARQUET_EXTENSION) {
            return Ok(Self::Parquet);
        }
        Err(match file.has_extension(PARQUET_EXTENSION) {
            true => format!(
                "cannot read {file}: this build has no Parquet support, which is the cargo feature parquet"
            ),
            false => format!("{file} is no shard: expected {EXPECTED}"),
        })
    }
}

/// Returns whether a file is named as a shard.
pub(super) fn has_shard_extension(file: &Location) -> bool {
    file.has_extension(TAR_EXTENSION) || file.has_extension(PARQUET_EXTENSION)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn location(text: &str) -> Location {
        Location::from(Path::new(text))
    }

    #[test]
    fn extension_selects_the_format() {
        assert_eq!(ShardFormat::of(&location("a/b.TAR")), Ok(ShardFormat::Tar));
        #[cfg(feature = "parquet")]
        assert_eq!(ShardFormat::of(&location("b.parquet")), Ok(ShardFormat::Parquet));
        #[cfg(not(feature = "parquet"))]
        assert!(ShardFormat::of(&location("b.parquet")).unwrap_err().contains("no Parquet support"));
        assert!(has_shard_extension(&location("b.Parquet")) && !has_shard_extension(&location("b.txt")));
        let error = ShardFormat::of(&location("b.txt")).unwrap_err();
        assert_eq!(error, "b.txt is no shard: expected *.tar or *.parquet");
    }
}
