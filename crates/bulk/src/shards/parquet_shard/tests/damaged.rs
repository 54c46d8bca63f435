//! Files whose metadata and pages do not fit together.

use std::{fs::File, path::Path};

use bytes::Bytes;
use parquet::{
    arrow::{ProjectionMask, arrow_reader::ArrowReaderOptions},
    file::metadata::{
        ColumnChunkMetaDataBuilder, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
        RowGroupMetaData,
    },
};

use super::*;
use crate::shards::parquet_shard::record_columns::RecordColumns;

fn to_builder(path: &Path) -> ParquetRecordBatchReaderBuilder<File> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    ParquetRecordBatchReaderBuilder::try_new_with_options(File::open(path).unwrap(), options).unwrap()
}

/// Returns the captions for the rows of an input. All row groups are decoded together.
fn expected_captions(path: &Path) -> Vec<Option<String>> {
    let builder = to_builder(path);
    let columns = RecordColumns::find(builder.schema(), &columns()).unwrap();
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.roots.iter().copied());
    let batches = builder.with_projection(mask).build().unwrap().map(Result::unwrap);
    let folder = path.parent().unwrap().into();
    let captions = batches.flat_map(|batch| {
        let record = |at| columns.record(&batch, at, &folder).unwrap();
        (0..batch.num_rows()).map(|at| caption(&record(at))).collect::<Vec<_>>()
    });
    captions.collect()
}

/// Returns the captions of an output. Its other columns can be impossible to decode.
fn written_captions(path: &Path) -> Vec<Option<String>> {
    let builder = to_builder(path);
    let mask = ProjectionMask::roots(builder.parquet_schema(), [builder.schema().fields().len() - 1]);
    let batches = builder.with_projection(mask).build().unwrap().map(Result::unwrap);
    batches.flat_map(|batch| captions(&batch, "blip")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_file_is_an_error_or_a_whole_output(
        rows in rows(), codec in codecs(), group_rows in 1_usize..20, at: prop::sample::Index,
        byte: Option<u8>, is_last: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_max_row_group_row_count(Some(group_rows))
            .build();
        let whole = to_file(&to_batch(&rows), properties);
        let (mut file, at) = (whole.clone(), at.index(whole.len()));
        match byte {
            Some(byte) => file[at] = byte,
            None => file.truncate(at),
        }
        let [damaged, other] = if is_last { ["b.parquet", "a.parquet"] } else { ["a.parquet", "b.parquet"] };
        fs::write(folder.path().join(damaged), &file).unwrap();
        fs::write(folder.path().join(other), &whole).unwrap();
        let (summary, errors) = runtime().block_on(process(folder.path(), "blip"));
        prop_assert_eq!(summary.complete_shards + errors.len(), 2);
        prop_assert!(byte.is_some() || errors.len() == 1, "a cut file has no end");
        let output = folder.path().join("out");
        let complete = if errors.is_empty() { vec![damaged, other] } else { vec![other] };
        prop_assert_eq!(fs::read_dir(&output).unwrap().count(), complete.len());
        for name in complete {
            let expected = expected_captions(&folder.path().join(name));
            prop_assert_eq!(written_captions(&output.join(name)), expected);
        }
    }
}

/// Returns a file of row groups with 8, 8 and 4 rows.
fn whole_file() -> Vec<u8> {
    let rows: Vec<Row> = (0..20).map(row).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(8))
        .build();
    to_file(&to_batch(&rows), properties)
}

fn metadata(file: &[u8]) -> ParquetMetaData {
    ParquetMetaDataReader::new().parse_and_finish(&Bytes::copy_from_slice(file)).unwrap()
}

/// Returns the file with another description of a row group.
fn with_group(index: usize, change: impl FnOnce(RowGroupMetaData) -> RowGroupMetaData) -> Vec<u8> {
    let mut file = whole_file();
    let metadata = metadata(&file);
    let mut groups = metadata.row_groups().to_vec();
    groups[index] = change(groups[index].clone());
    let metadata = metadata.into_builder().set_row_groups(groups).build();
    // The last metadata of a file counts.
    ParquetMetaDataWriter::new(&mut file, &metadata).finish().unwrap();
    file
}

fn with_rows(index: usize, rows: i64) -> Vec<u8> {
    with_group(index, |group| group.into_builder().set_num_rows(rows).build().unwrap())
}

fn with_column(
    leaf: usize,
    change: impl FnOnce(ColumnChunkMetaDataBuilder) -> ColumnChunkMetaDataBuilder,
) -> Vec<u8> {
    with_group(1, |mut group| {
        let column = &mut group.columns_mut()[leaf];
        *column = change(column.clone().into_builder()).build().unwrap();
        group
    })
}

#[tokio::test]
async fn wrong_metadata_is_the_error_of_its_file() {
    for (file, message) in [
        (
            with_column(1, |column| column.set_dictionary_page_offset(None).set_data_page_offset(-1)),
            "the file is broken: column start and length should not be negative",
        ),
        (
            with_column(1, |column| column.set_total_compressed_size(-1)),
            "the file is broken: column start and length should not be negative",
        ),
        // No record has this column: only the writer fails.
        (
            with_column(0, |column| {
                column.set_bloom_filter_offset(Some(4)).set_bloom_filter_length(Some(-1))
            }),
            "the file is broken: capacity overflow",
        ),
        (
            with_rows(0, 7),
            "the Parquet file is broken in row group 0: the metadata has 7 rows, and the pages have more",
        ),
        (
            with_rows(2, 3),
            "the Parquet file is broken in row group 2: the metadata has 3 rows, and the pages have more",
        ),
        (
            with_rows(0, 9),
            "the Parquet file is broken in row group 0: the metadata has 9 rows, and the pages have 8",
        ),
        (
            with_rows(2, 5),
            "the Parquet file is broken in row group 2: the metadata has 5 rows, and the pages have 4",
        ),
        (with_rows(2, 0), "the Parquet file is broken in row group 2: the metadata has values without rows"),
        (with_rows(1, -8), "the Parquet file is broken in row group 1: the metadata has -8 rows"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (name, file) in [("a.parquet", &file), ("b.parquet", &whole_file()), ("c.parquet", &file)] {
            fs::write(folder.path().join(name), file).unwrap();
        }
        let (summary, errors) = process(folder.path(), "blip").await;
        assert_eq!(errors, [message, message]);
        assert_eq!((summary.complete_shards, summary.failed_shards), (1, 2));
        let output = folder.path().join("out");
        assert_eq!(written_captions(&output.join("b.parquet")).len(), 20);
        assert_eq!(fs::read_dir(output).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn broken_page_index_is_found_before_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = whole_file();
    let range = metadata(&file).row_group(0).column(0).offset_index_range().unwrap();
    file[range.start as usize..range.end as usize].fill(0xff);
    fs::write(folder.path().join("a.parquet"), &file).unwrap();
    let (summary, errors) = process(folder.path(), "blip").await;
    assert_eq!((summary.failed_shards, summary.samples.written), (1, 0));
    assert!(errors[0].starts_with("the Parquet file is broken: "), "{errors:?}");
}

#[tokio::test]
async fn page_that_cannot_be_decoded_is_named_by_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = whole_file();
    // The first leaf of the image in the second row group.
    let (start, length) = metadata(&file).row_group(1).column(1).byte_range();
    let (start, length) = (start as usize, length as usize);
    file[start..start + length].fill(0xff);
    fs::write(folder.path().join("a.parquet"), &file).unwrap();
    let (summary, errors) = process(folder.path(), "blip").await;
    assert_eq!((summary.complete_shards, summary.failed_shards), (0, 1));
    assert!(errors[0].starts_with("the Parquet file is broken after row 8: "), "{errors:?}");
    assert_eq!(fs::read_dir(folder.path().join("out")).unwrap().count(), 0);
}
