//! The formats of shards.

use std::path::Path;

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
    pub(super) fn of(path: &Path) -> Result<Self, String> {
        if has_extension(path, TAR_EXTENSION) {
            return Ok(Self::Tar);
        }
        #[cfg(feature = "parquet")]
        if has_extension(path, PARQUET_EXTENSION) {
            return Ok(Self::Parquet);
        }
        let path_text = path.display();
        Err(match has_extension(path, PARQUET_EXTENSION) {
            true => format!(
                "cannot read {path_text}: this build has no Parquet support, which is the cargo feature parquet"
            ),
            false => format!("{path_text} is no shard: expected {EXPECTED}"),
        })
    }
}

/// Returns whether a file is named as a shard.
pub(super) fn has_shard_extension(path: &Path) -> bool {
    has_extension(path, TAR_EXTENSION) || has_extension(path, PARQUET_EXTENSION)
}

fn has_extension(path: &Path, expected: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_selects_the_format() {
        assert_eq!(ShardFormat::of(Path::new("a/b.TAR")), Ok(ShardFormat::Tar));
        #[cfg(feature = "parquet")]
        assert_eq!(ShardFormat::of(Path::new("b.parquet")), Ok(ShardFormat::Parquet));
        #[cfg(not(feature = "parquet"))]
        assert!(ShardFormat::of(Path::new("b.parquet")).unwrap_err().contains("no Parquet support"));
        assert!(has_shard_extension(Path::new("b.Parquet")) && !has_shard_extension(Path::new("b.txt")));
        let error = ShardFormat::of(Path::new("b.txt")).unwrap_err();
        assert_eq!(error, "b.txt is no shard: expected *.tar or *.parquet");
    }
}
