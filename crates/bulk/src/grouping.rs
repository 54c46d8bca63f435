//! Groups adjacent records that have a value in common, so that one request can hold them.

use std::io;

use futures::{Stream, StreamExt as _, stream};
use serde_json::Value;

use crate::record::Record;

/// Records that are processed together.
pub(crate) type Group = Vec<Record>;

/// Groups adjacent records with equal values of the field `group_by`, at most `max_records` per
/// group.
///
/// A record that lacks the field forms a group of one. The function groups only records that are
/// ready: it never waits for more.
pub(crate) fn group_adjacent(
    records: impl Stream<Item = io::Result<Record>> + Send,
    group_by: &'static str,
    max_records: usize,
) -> impl Stream<Item = io::Result<Group>> + Send {
    records.ready_chunks(max_records.max(1)).flat_map(move |chunk| stream::iter(split(chunk, group_by)))
}

fn split(chunk: Vec<io::Result<Record>>, group_by: &str) -> Vec<io::Result<Group>> {
    let mut groups: Vec<io::Result<Group>> = Vec::new();
    for record in chunk {
        match (groups.last_mut(), record) {
            (Some(Ok(group)), Ok(record)) if belongs_to(group, &record, group_by) => group.push(record),
            (_, record) => groups.push(record.map(|record| vec![record])),
        }
    }
    groups
}

fn belongs_to(group: &Group, record: &Record, group_by: &str) -> bool {
    fn value<'a>(record: &'a Record, field: &str) -> Option<&'a Value> {
        record.fields.as_ref().ok()?.get(field)
    }
    let last = group.last().and_then(|last| value(last, group_by));
    last.is_some() && last == value(record, group_by)
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
    async fn adjacent_records_of_one_image_form_a_group() {
        let invalid = Ok(Record { position: 3, fields: Err("invalid".into()) });
        let records =
            [record(0, "a"), record(1, "a"), record(2, "b"), invalid, record(4, "b"), record(5, "a")];
        let groups: Vec<Group> =
            group_adjacent(stream::iter(records), "image", 16).map(Result::unwrap).collect().await;
        let positions: Vec<Vec<u64>> =
            groups.iter().map(|group| group.iter().map(|record| record.position).collect()).collect();
        assert_eq!(positions, [vec![0, 1], vec![2], vec![3], vec![4], vec![5]]);
    }

    #[tokio::test]
    async fn group_size_is_limited() {
        let records = (0..10).map(|position| record(position, "a"));
        let groups = group_adjacent(stream::iter(records), "image", 4);
        let sizes: Vec<usize> = groups.map(|group| group.unwrap().len()).collect().await;
        assert_eq!(sizes, [4, 4, 2]);
    }
}
