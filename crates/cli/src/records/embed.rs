//! Embeddings of images and texts, one call for each.

use bulk::{Fields, RecordResult, Task};
use proto::{EmbedRequest, embed_response::Outcome};

use crate::{
    connection::RpcClient,
    records::{
        classify_errors::classify_item_error, image_loader::ImageLoader, record_group::RecordGroup,
        record_text::text, response_fields::embedding_fields,
    },
};

/// Embeds the `text` of records, or their `image` if they have no text. Of a sample of a data set
/// it embeds the image, if there is one: the text describes it.
#[derive(Debug)]
pub(crate) struct EmbedTask {
    pub(crate) client: RpcClient,
    pub(crate) images: ImageLoader,
    /// The fields that all requests share: model and priority.
    pub(crate) request: EmbedRequest,
    /// Whether a record with an image and a text has the embedding of its image.
    pub(crate) prefers_images: bool,
}

impl EmbedTask {
    async fn to_request(&self, record: &Fields) -> Result<EmbedRequest, Fields> {
        let mut request = self.request.clone();
        match text(record, "text")? {
            Some(text) if !(self.prefers_images && record.contains_key("image")) => {
                request.texts.push(text.to_owned());
            }
            _ => request.images.push(self.images.load(record).await?),
        }
        Ok(request)
    }
}

impl Task for EmbedTask {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let mut results = Vec::with_capacity(records.len());
        for record in &records {
            let request = match self.to_request(record).await {
                Ok(request) => self.client.request(request),
                Err(error) => {
                    results.push(RecordResult::Failed(error));
                    continue;
                }
            };
            let responses = self.client.stub().embed(request).await;
            let read = |_: &RecordGroup<'_>, response: proto::EmbedResponse| {
                let result = match response.outcome {
                    Some(Outcome::Embedding(embedding)) => {
                        Some(RecordResult::Answered(embedding_fields(&embedding)))
                    }
                    Some(Outcome::Error(error)) => Some(classify_item_error(&error)?),
                    None => None,
                };
                Ok((0, result))
            };
            results.append(&mut RecordGroup::single(record).collect(responses, read).await?);
        }
        Ok(results)
    }
}
