//! Walks through the results in an output shard.

use std::{io, ops::ControlFlow};

use crate::{
    record_reader::MAX_RECORD_BYTES,
    shards::tar_shard::walk::{Member, MemberName, Visitor, broken, read_member, walk},
    storage::Location,
};

/// Calls `read` for each sample of a shard with its key and the content of its result, or the
/// reason why it has none that can be read. `Break` ends the walk.
///
/// # Errors
/// The file cannot be read, or is no tar file from some place on.
pub(in crate::shards) fn walk_results(
    shard: &Location,
    result_name: &str,
    read: impl FnMut(&str, Result<Vec<u8>, String>) -> ControlFlow<()>,
) -> io::Result<()> {
    walk(shard, &mut ResultVisitor { extension: format!("{result_name}.json"), read, result: None })
}

struct ResultVisitor<F> {
    /// The extension of the members with results.
    extension: String,
    read: F,
    /// The result of the current sample, once its member was read.
    result: Option<Result<Vec<u8>, String>>,
}

impl<F: FnMut(&str, Result<Vec<u8>, String>) -> ControlFlow<()>> Visitor for ResultVisitor<F> {
    fn member(&mut self, name: Option<&MemberName>, member: &mut Member<'_>) -> io::Result<()> {
        let Some(name) = name.filter(|name| name.extension == self.extension) else { return Ok(()) };
        let bytes = member.size();
        let content = read_member(member, MAX_RECORD_BYTES as u64)
            .map_err(|error| broken(&format!("in sample {}", name.key), &error))?;
        self.result = Some(
            content.ok_or_else(|| format!("result has {bytes} bytes: at most {MAX_RECORD_BYTES} allowed")),
        );
        Ok(())
    }

    fn end_of_sample(&mut self, key: &str) -> io::Result<ControlFlow<()>> {
        let missing = || Err(format!("member .{} is missing", self.extension));
        let result = self.result.take().unwrap_or_else(missing);
        Ok((self.read)(key, result))
    }
}
