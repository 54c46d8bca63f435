//! The results of an earlier run that stay when its failed samples are retried.

use std::{io, sync::Arc};

use crate::{
    record::Fields,
    shards::{
        exchange::Results,
        job::{FailedKeys, Job},
    },
    storage::Location,
};

/// The results in an output shard in the order of its samples, each with the key of its sample.
pub(super) type StoredResults<T> = Box<dyn Iterator<Item = io::Result<(String, T)>>>;

/// The results of the samples of one shard, in their order.
pub(super) struct ShardResults<'a, T> {
    shard: usize,
    earlier: Option<EarlierResults<T>>,
    results: &'a mut Results,
}

/// The result of a sample.
#[derive(Debug, PartialEq)]
pub(super) enum SampleOutcome<T> {
    /// Of an earlier run, as the output shard has it.
    Earlier(T),
    /// Of this run.
    New(Fields),
}

impl<'a, T> ShardResults<'a, T> {
    /// Returns the results of a shard. With `failed` samples, `read` opens its output for those of
    /// the others.
    ///
    /// # Errors
    /// The output cannot be read.
    pub(super) fn new(
        shard: usize,
        job: &Job,
        failed: Option<Arc<FailedKeys>>,
        results: &'a mut Results,
        read: impl FnOnce(&Location) -> io::Result<StoredResults<T>>,
    ) -> io::Result<Self> {
        let open = |failed| {
            let output = job.output.clone();
            let stored = read(&output).map_err(|error| named(&output, &error))?;
            Ok::<_, io::Error>(EarlierResults { stored, failed, output })
        };
        Ok(Self { shard, earlier: failed.map(open).transpose()?, results })
    }

    /// Returns the result of the next sample, or `None` if the run was stopped.
    ///
    /// # Errors
    /// The reader has failed, or the output shard has another sample at this place.
    pub(super) fn next(&mut self, key: &str) -> io::Result<Option<SampleOutcome<T>>> {
        if let Some(earlier) = &mut self.earlier
            && let Some(result) = earlier.next(key)?
        {
            return Ok(Some(SampleOutcome::Earlier(result)));
        }
        Ok(self.results.take(self.shard, key)?.map(SampleOutcome::New))
    }

    /// Checks that no result is left.
    ///
    /// # Errors
    /// The output shard has further samples.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.earlier.as_mut().map_or(Ok(()), EarlierResults::end)
    }
}

/// The results in an output shard.
struct EarlierResults<T> {
    stored: StoredResults<T>,
    failed: Arc<FailedKeys>,
    output: Location,
}

impl<T> EarlierResults<T> {
    /// Returns the result of the next sample, or `None` if it is retried.
    fn next(&mut self, key: &str) -> io::Result<Option<T>> {
        match self.stored.next().transpose().map_err(|error| named(&self.output, &error))? {
            Some((found, result)) if found == key => Ok((!self.failed.contains(key)).then_some(result)),
            Some((found, _)) => Err(self.mismatch(&format!("it has the sample {found} in place of {key}"))),
            None => Err(self.mismatch(&format!("it has no sample {key}"))),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self.stored.next().transpose().map_err(|error| named(&self.output, &error))? {
            Some((found, _)) => Err(self.mismatch(&format!("the input has no sample {found}"))),
            None => Ok(()),
        }
    }

    fn mismatch(&self, reason: &str) -> io::Error {
        let reason = format!("it does not match the input, {reason}: use --force to process the shard again");
        named(&self.output, &io::Error::other(reason))
    }
}

fn named(output: &Location, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot retry {output}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn earlier(keys: &[&str], failed: &[&str]) -> EarlierResults<usize> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let stored = Box::new((0..).zip(keys).map(|(at, key)| Ok((key, at))));
        let failed = failed.iter().map(|key| (*key).to_owned()).collect();
        EarlierResults { stored, failed: Arc::new(failed), output: Path::new("out/0.tar").into() }
    }

    #[test]
    fn results_of_other_samples_stay() {
        let mut results = earlier(&["a", "b", "c"], &["b"]);
        assert_eq!(["a", "b", "c"].map(|key| results.next(key).unwrap()), [Some(0), None, Some(2)]);
        results.end().unwrap();
    }

    #[test]
    fn output_of_another_input_is_an_error() {
        let end = ": use --force to process the shard again";
        let message = |error: io::Error| {
            let error = error.to_string();
            let reason = error.strip_prefix("cannot retry out/0.tar: it does not match the input, ");
            reason.unwrap().strip_suffix(end).unwrap().to_owned()
        };
        let mut results = earlier(&["a", "b"], &[]);
        assert_eq!(message(results.next("b").unwrap_err()), "it has the sample a in place of b");
        assert_eq!(message(results.end().unwrap_err()), "the input has no sample b");
        assert_eq!(message(results.next("c").unwrap_err()), "it has no sample c");
    }
}
