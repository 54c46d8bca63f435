//! Scores of how well texts describe images, one call for each image.

use bulk::{Fields, RecordResult, Task};
use proto::{ImageTexts, MatchRequest, match_response::Outcome};

use crate::{
    connection::RpcClient,
    records::{
        classify_errors::classify_item_error, image_loader::ImageLoader, record_group::RecordGroup,
        response_fields::score_fields,
    },
};

/// Compares the `image` of records with their `text`.
#[derive(Debug)]
pub(crate) struct MatchTask {
    pub(crate) client: RpcClient,
    pub(crate) images: ImageLoader,
    /// The fields that all requests share: model and priority.
    pub(crate) request: MatchRequest,
}

impl Task for MatchTask {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let group = RecordGroup::new(&records, "text");
        let image = match group.load_image(&self.images).await {
            Ok(image) => image,
            Err(results) => return Ok(results),
        };
        let inputs = vec![ImageTexts { image: Some(image), texts: group.texts() }];
        let request = self.client.request(MatchRequest { inputs, ..self.request.clone() });
        let responses = self.client.stub().r#match(request).await;
        let read = |_: &RecordGroup<'_>, response: proto::MatchResponse| {
            let result = match response.outcome {
                Some(Outcome::Match(scores)) => Some(RecordResult::Answered(score_fields(&scores))),
                Some(Outcome::Error(error)) => Some(classify_item_error(&error)?),
                None => None,
            };
            Ok((response.text_index, result))
        };
        group.collect(responses, read).await
    }
}
