//! Records that stand beside each other and have something in common are asked together.

use std::io;

use futures::{Stream, StreamExt as _, stream};

use crate::Record;

/// What is worked on as one.
pub(crate) type Group = Vec<Record>;

/// Groups of at most `most` records that are ready and whose values of `shared` are the same; a record without values is
/// alone. Nothing waits for records that have not come.
pub(crate) fn groups(
    records: impl Stream<Item = io::Result<Record>> + Send,
    shared: &'static str,
    most: usize,
) -> impl Stream<Item = io::Result<Group>> + Send {
    records.ready_chunks(most.max(1)).flat_map(move |chunk| stream::iter(split(chunk, shared)))
}

fn split(chunk: Vec<io::Result<Record>>, shared: &str) -> Vec<io::Result<Group>> {
    let mut groups: Vec<io::Result<Group>> = Vec::new();
    for record in chunk {
        match (groups.last_mut(), record) {
            (Some(Ok(group)), Ok(record)) if belongs(group, &record, shared) => group.push(record),
            (_, record) => groups.push(record.map(|record| vec![record])),
        }
    }
    groups
}

fn belongs(group: &Group, record: &Record, shared: &str) -> bool {
    let value = |record: &Record| record.fields.as_ref().ok()?.get(shared).cloned();
    value(record).is_some_and(|own| group.last().and_then(value).as_ref() == Some(&own))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(position: u64, image: &str) -> io::Result<Record> {
        let fields = [("image".to_owned(), json!(image))].into_iter().collect();
        Ok(Record { position, fields: Ok(fields) })
    }

    #[tokio::test]
    async fn neighbours_of_one_image_are_together_and_others_apart() {
        let wrong = Ok(Record { position: 3, fields: Err("no JSON".into()) });
        let records = [record(0, "a"), record(1, "a"), record(2, "b"), wrong, record(4, "b"), record(5, "a")];
        let groups: Vec<Group> =
            groups(stream::iter(records), "image", 16).map(Result::unwrap).collect().await;
        let positions: Vec<Vec<u64>> =
            groups.iter().map(|group| group.iter().map(|record| record.position).collect()).collect();
        assert_eq!(positions, [vec![0, 1], vec![2], vec![3], vec![4], vec![5]]);
    }

    #[tokio::test]
    async fn a_group_is_no_larger_than_it_may_be() {
        let records = (0..10).map(|position| record(position, "a"));
        let sizes: Vec<usize> =
            groups(stream::iter(records), "image", 4).map(|group| group.unwrap().len()).collect().await;
        assert_eq!(sizes, [4, 4, 2]);
    }
}
