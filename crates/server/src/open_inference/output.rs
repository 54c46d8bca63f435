//! Item results as output tensors.

use crate::{
    error::{ErrorReason, RequestError},
    open_inference::{
        element_coding,
        signature::{BYTES, FP32},
    },
    pipeline::{item_result::ItemResult, reply::Reply},
    request::task::Task,
};

/// An output tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputTensor {
    /// The name.
    pub name: &'static str,
    /// The shape.
    pub shape: Vec<i64>,
    /// The elements.
    pub data: OutputData,
}

/// The elements of an output tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputData {
    /// Texts.
    Texts(Vec<String>),
    /// Numbers.
    Numbers(Vec<f32>),
}

impl OutputTensor {
    fn texts(name: &'static str, texts: Vec<String>) -> Self {
        Self { name, shape: vec![length(texts.len())], data: OutputData::Texts(texts) }
    }

    fn numbers(name: &'static str, numbers: Vec<f32>) -> Self {
        Self { name, shape: vec![length(numbers.len())], data: OutputData::Numbers(numbers) }
    }

    /// Returns the datatype.
    #[must_use]
    pub fn datatype(&self) -> &'static str {
        match &self.data {
            OutputData::Texts(_) => BYTES,
            OutputData::Numbers(_) => FP32,
        }
    }
}

impl OutputData {
    /// Returns the elements as bytes.
    #[must_use]
    pub fn raw(&self) -> Vec<u8> {
        match self {
            Self::Texts(texts) => element_coding::encode(texts.iter().map(String::as_bytes)),
            Self::Numbers(numbers) => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        }
    }
}

fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// Checks the names of the outputs that a request of `task` asks for.
///
/// # Errors
/// A [`RequestError`] that names an output that is unknown or repeated.
pub fn check_outputs(task: &Task, requested: &[String]) -> Result<(), RequestError> {
    let names = output_names(task);
    for (position, name) in requested.iter().enumerate() {
        let cause =
            match (names.contains(&name.as_str()), requested.iter().take(position).any(|one| one == name)) {
                (false, _) => format!("no output {name:?}, expected one of {}", names.join(", ")),
                (true, true) => format!("output {name:?} is repeated"),
                (true, false) => continue,
            };
        return Err(RequestError::new(ErrorReason::PayloadInvalid).field("outputs").cause(cause));
    }
    Ok(())
}

fn output_names(task: &Task) -> &'static [&'static str] {
    match task {
        Task::Answer { .. } => &["answer", "score"],
        Task::Caption { .. } => &["caption", "score"],
        Task::Match => &["probability", "cosine"],
        Task::Embed => &["embedding"],
    }
}

/// Returns the tensors of `results`, which are in the order of the request: those with the names
/// `requested`, or all if there are none.
///
/// # Errors
/// The error of the first failed item.
pub fn output_tensors(
    results: Vec<ItemResult>,
    requested: &[String],
) -> Result<Vec<OutputTensor>, RequestError> {
    let mut outputs = all_tensors(results)?;
    if requested.is_empty() {
        return Ok(outputs);
    }
    let take = |name: &String| {
        let position = outputs.iter().position(|output| output.name == name)?;
        Some(outputs.remove(position))
    };
    Ok(requested.iter().filter_map(take).collect())
}

fn all_tensors(results: Vec<ItemResult>) -> Result<Vec<OutputTensor>, RequestError> {
    let (mut texts, mut numbers, mut cosines) = (Vec::new(), Vec::new(), Vec::new());
    let (mut text_name, mut embeddings) = (None, 0);
    for result in results {
        match result.reply? {
            Reply::Answer(answer) => {
                text_name = Some("answer");
                texts.push(answer.text);
                numbers.push(answer.score);
            }
            Reply::Caption(caption) => {
                text_name = Some("caption");
                texts.push(caption.text);
                numbers.push(caption.score);
            }
            Reply::Match(scores) => {
                numbers.push(scores.probability);
                cosines.push(scores.cosine);
            }
            Reply::Embedding(embedding) => {
                embeddings += 1;
                numbers.extend(embedding.values);
            }
            Reply::Chunk(_) => {}
        }
    }
    Ok(match text_name {
        Some(name) => vec![OutputTensor::texts(name, texts), OutputTensor::numbers("score", numbers)],
        None if embeddings > 0 => {
            let shape = vec![length(embeddings), length(numbers.len() / embeddings)];
            vec![OutputTensor { shape, ..OutputTensor::numbers("embedding", numbers) }]
        }
        None => vec![OutputTensor::numbers("probability", numbers), OutputTensor::numbers("cosine", cosines)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pipeline::reply::{Answer, Caption, Embedding, MatchScores},
        request::generation::GenerationOptions,
    };

    fn results(replies: Vec<Result<Reply, RequestError>>) -> Vec<ItemResult> {
        let result = |(text_index, reply)| ItemResult { image_index: 0, text_index, ready: None, reply };
        (0..).zip(replies).map(result).collect()
    }

    fn answer(text: &str, score: f32) -> Result<Reply, RequestError> {
        Ok(Reply::Answer(Answer { text: text.to_owned(), score, ..Answer::default() }))
    }

    #[test]
    fn answers_are_a_tensor_of_texts_and_one_of_scores() {
        let outputs = output_tensors(results(vec![answer("a", -0.5), answer("b", -1.0)]), &[]).unwrap();
        let names: Vec<_> = outputs.iter().map(|output| (output.name, output.datatype())).collect();
        assert_eq!(names, [("answer", "BYTES"), ("score", "FP32")]);
        assert_eq!(
            (&outputs[0].shape, outputs[0].data.raw()),
            (&vec![2], b"\x01\0\0\0a\x01\0\0\0b".to_vec())
        );
        assert_eq!(outputs[1].data.raw(), [-0.5_f32, -1.0].map(f32::to_le_bytes).concat());
    }

    #[test]
    fn requested_outputs_come_in_their_order() {
        let requested = ["score".to_owned(), "answer".to_owned()];
        let outputs = output_tensors(results(vec![answer("a", -0.5)]), &requested).unwrap();
        assert_eq!(outputs.iter().map(|output| output.name).collect::<Vec<_>>(), ["score", "answer"]);
    }

    #[test]
    fn outputs_that_a_task_has_not_are_rejected() {
        let check = |task: Task, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            check_outputs(&task, &names).map_err(|error| error.to_string())
        };
        assert_eq!(check(Task::default(), &[]), Ok(()));
        assert_eq!(check(Task::default(), &["score", "answer"]), Ok(()));
        let error = check(Task::default(), &["answer", "answers"]).unwrap_err();
        assert_eq!(error, "outputs is invalid: no output \"answers\", expected one of answer, score");
        let error = check(Task::Match, &["cosine", "cosine"]).unwrap_err();
        assert_eq!(error, "outputs is invalid: output \"cosine\" is repeated");
        assert!(check(Task::Embed, &["probability"]).unwrap_err().ends_with("expected one of embedding"));
    }

    #[test]
    fn every_output_of_a_task_has_its_name() {
        let (caption, score) = (Caption::default(), MatchScores::default());
        let generation = GenerationOptions::default();
        for (task, reply) in [
            (Task::answer(generation), Reply::Answer(Answer::default())),
            (Task::Caption { generation, stream_tokens: false }, Reply::Caption(caption)),
            (Task::Match, Reply::Match(score)),
            (Task::Embed, Reply::Embedding(Embedding { values: vec![1.0], ..Embedding::default() })),
        ] {
            let outputs = output_tensors(results(vec![Ok(reply)]), &[]).unwrap();
            let names: Vec<_> = outputs.iter().map(|output| output.name).collect();
            assert_eq!(names, output_names(&task));
        }
    }

    #[test]
    fn embeddings_have_a_row_for_each_item() {
        let row = || Ok(Reply::Embedding(Embedding { values: vec![0.5; 4], ..Embedding::default() }));
        let outputs = output_tensors(results(vec![row(), row()]), &[]).unwrap();
        assert_eq!((outputs[0].name, &outputs[0].shape), ("embedding", &vec![2, 4]));
    }

    #[test]
    fn failed_item_fails_the_request() {
        let error = RequestError::new(ErrorReason::QuestionEmpty).field("inputs.question[1]");
        let results = results(vec![answer("a", -0.5), Err(error.clone())]);
        assert_eq!(output_tensors(results, &[]).unwrap_err(), error);
    }
}
