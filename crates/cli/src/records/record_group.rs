//! Records about the same image, and their results.

use bulk::{Fields, RecordResult};
use proto::Image;
use tonic::{Response, Status, Streaming};

use crate::records::{
    classify_errors::{classify_call_end, empty_response},
    image_loader::ImageLoader,
    record_text::text,
};

/// Records that share one request.
#[derive(Debug)]
pub(crate) struct RecordGroup<'a> {
    records: &'a [Fields],
    /// The position and the text of each record that is sent, in the order of the request.
    sent: Vec<(usize, String)>,
    /// One for each record, once it is known.
    results: Vec<Option<RecordResult>>,
}

impl<'a> RecordGroup<'a> {
    /// Creates a group of records with the text `field`. A record without it has an empty text.
    ///
    /// A record whose `field` is not a text fails and is not sent.
    pub(crate) fn new(records: &'a [Fields], field: &str) -> Self {
        let mut group = Self { records, sent: Vec::new(), results: vec![None; records.len()] };
        for ((at, record), result) in records.iter().enumerate().zip(&mut group.results) {
            match text(record, field) {
                Ok(text) => group.sent.push((at, text.unwrap_or_default().to_owned())),
                Err(error) => *result = Some(RecordResult::Failed(error)),
            }
        }
        group
    }

    /// Creates a group of one record that is sent.
    pub(crate) fn single(record: &'a Fields) -> Self {
        let records = std::slice::from_ref(record);
        Self { records, sent: vec![(0, String::new())], results: vec![None] }
    }

    /// Loads the image of the group. If no record can be sent, returns the results.
    pub(crate) async fn load_image(&self, images: &ImageLoader) -> Result<Image, Vec<RecordResult>> {
        match self.records.first().filter(|_| !self.sent.is_empty()) {
            Some(record) => images
                .load(record)
                .await
                .map_err(|error| vec![RecordResult::Failed(error); self.records.len()]),
            None => Err(self.results.iter().flatten().cloned().collect()),
        }
    }

    /// Returns the texts of the request.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.sent.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Returns the record of a text, by its index in the request.
    pub(crate) fn record(&self, index: u32) -> Option<&'a Fields> {
        self.records.get(self.position(index)?)
    }

    /// Reads the responses of the call, and returns one result for each record.
    ///
    /// `read` returns the index of a response's text in the request, and its result if it has one.
    ///
    /// # Errors
    /// The reason why no record can ever be processed.
    pub(crate) async fn collect<R>(
        mut self,
        responses: Result<Response<Streaming<R>>, Status>,
        read: impl Fn(&Self, R) -> Result<(u32, Option<RecordResult>), String>,
    ) -> Result<Vec<RecordResult>, String> {
        let end = match responses {
            Err(status) => Some(status),
            Ok(responses) => {
                let mut responses = responses.into_inner();
                loop {
                    match responses.message().await {
                        Ok(Some(response)) => {
                            let (index, result) = read(&self, response)?;
                            let place = self.position(index).and_then(|at| self.results.get_mut(at));
                            if let (Some(place), Some(result)) = (place, result) {
                                *place = Some(result);
                            }
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
        };
        let missing = match end {
            Some(status) => classify_call_end(&status)?,
            None => empty_response("no response"),
        };
        Ok(self.results.into_iter().map(|result| result.unwrap_or_else(|| missing.clone())).collect())
    }

    /// Returns the position of the record of a text.
    fn position(&self, index: u32) -> Option<usize> {
        self.sent.get(usize::try_from(index).ok()?).map(|(at, _)| *at)
    }
}
