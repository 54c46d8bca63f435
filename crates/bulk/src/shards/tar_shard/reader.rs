//! Reads the samples of a tar file into records.

use std::{io, ops::ControlFlow};

use crate::{
    shards::{
        exchange::ShardRecords,
        tar_shard::{
            sample::{Role, SampleFields},
            walk::{Member, MemberName, Visitor, broken, read_member, walk},
        },
    },
    storage::Location,
};

/// Sends the record of each sample, until the run ends.
///
/// # Errors
/// The file cannot be read, or is no tar file from some place on.
pub(in crate::shards) fn read_samples(
    file: &Location,
    result_fields: &'static [&'static str],
    records: &mut ShardRecords<'_>,
) -> io::Result<()> {
    walk(file, &mut SampleReader { sample: SampleFields::default(), result_fields, records, bytes: 0 })
}

struct SampleReader<'a, 'b> {
    sample: SampleFields,
    result_fields: &'static [&'static str],
    records: &'a mut ShardRecords<'b>,
    /// The bytes of the shard up to the current member.
    bytes: u64,
}

impl Visitor for SampleReader<'_, '_> {
    fn member(&mut self, name: Option<&MemberName>, member: &mut Member<'_>) -> io::Result<()> {
        self.bytes = member.raw_file_position();
        let Some(name) = name.filter(|name| self.records.has(&name.key)) else { return Ok(()) };
        let role = Role::of(&name.extension);
        let Some(max_bytes) = role.max_bytes().filter(|_| !self.sample.has(role)) else { return Ok(()) };
        let bytes = member.size();
        let content = read_member(member, max_bytes)
            .map_err(|error| broken(&format!("in sample {}", name.key), &error))?;
        match content {
            Some(content) => self.sample.add(role, &name.extension, content),
            None => self.sample.add_too_large(&name.extension, bytes, max_bytes),
        }
        Ok(())
    }

    fn end_of_sample(&mut self, key: &str) -> io::Result<ControlFlow<()>> {
        let fields = std::mem::take(&mut self.sample).into_record(key, self.result_fields);
        Ok(self.records.send(key.to_owned(), fields, self.bytes))
    }
}
