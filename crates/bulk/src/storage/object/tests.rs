use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::Arc,
    thread,
};

use futures::executor::block_on;
use object_store::{ObjectStoreExt as _, memory::InMemory, path::Path as ObjectPath};
use proptest::prelude::*;

use crate::storage::{
    location::Location, object::stores::register, open_stored, partial_file::PartialFile, stop::StopRequests,
    stored_file::StoredFile,
};

/// Returns bytes that differ at all places.
fn content(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}

/// Returns a store and the location of an object in its bucket.
fn stored(bucket: &str) -> (Arc<InMemory>, Location) {
    let store = Arc::new(InMemory::new());
    register(&format!("s3://{bucket}"), Arc::clone(&store) as _);
    (store, Location::from(format!("s3://{bucket}/a/b.tar")))
}

fn read(location: &Location) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_stored(location)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn object_appears_when_it_is_complete() {
    let (_, location) = stored("complete");
    // No part, one part that is not full, and several.
    for length in [0, 1000, 20 << 20] {
        let bytes = content(length);
        let mut file = PartialFile::create(&location).unwrap();
        file.write_all(&bytes).unwrap();
        file.complete().unwrap();
        assert!(read(&location).unwrap() == bytes, "{length}");
    }
    let mut file = PartialFile::create(&location).unwrap();
    file.write_all(b"other").unwrap();
    assert_eq!(read(&location).unwrap().len(), 20 << 20, "the old object stays");
    file.discard().unwrap();
    assert_eq!(read(&location).unwrap().len(), 20 << 20);
}

#[test]
fn object_that_changes_while_it_is_read_is_an_error() {
    let (store, location) = stored("changed");
    let put = |bytes: Vec<u8>| block_on(store.put(&ObjectPath::from("a/b.tar"), bytes.into())).unwrap();
    put(content(20 << 20));
    let mut stream = open_stored(&location).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    put(content(20 << 20));
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "the object has changed while it was read");
}

#[test]
fn missing_object_is_not_found() {
    let (_, location) = stored("missing");
    assert_eq!(read(&location).unwrap_err().kind(), io::ErrorKind::NotFound);
    for (url, reason) in [
        ("s3://", "the URL has no bucket or server"),
        ("s3://bucket//a.tar", "the name of the object is invalid"),
        ("s3://bucket/../a.tar", "the name of the object is invalid"),
    ] {
        let error = read(&Location::from(Path::new(url))).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}

/// Answers requests of the headers and of the content with texts, and closes each connection.
fn web_server_of(head: &'static str, content: &'static str) -> Location {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = Location::from(format!("http://{}/a.tar?sig=secret", listener.local_addr().unwrap()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let is_head = lines.next().is_some_and(|line| line.starts_with("HEAD"));
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let answer = if is_head { head } else { content };
            // The client can have closed the connection.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    location
}

/// Answers every request with a text, without its content where headers are requested.
fn web_server(answer: &'static str) -> Location {
    web_server_of(answer.split_inclusive("\r\n\r\n").next().unwrap(), answer)
}

#[test]
fn range_of_another_length_is_an_error() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
    const RANGE: &str = "HTTP/1.1 206 Part\r\nConnection: close\r\nContent-Range: bytes 0-3/4\r\n";
    let of = |content: &str| {
        let length = content.len();
        web_server_of(HEAD, format!("{RANGE}Content-Length: {length}\r\n\r\n{content}").leak())
    };
    assert_eq!(read(&of("abcd")).unwrap(), b"abcd");
    for content in ["", "abc", "abcde"] {
        let error = read(&of(content)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{content}: {error}");
    }
}

#[test]
fn change_without_a_tag_is_seen_by_size_and_time() {
    const FIRST: &str = "Last-Modified: Tue, 01 Dec 2026 06:00:00 GMT\r\n";
    const LATER: &str = "Last-Modified: Tue, 01 Dec 2026 06:00:01 GMT\r\n";
    let server = |head: &str, range: &str, size: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{head}Content-Length: 4\r\n\r\n");
        let content = format!(
            "HTTP/1.1 206 Part\r\nConnection: close\r\n{range}Content-Range: bytes 0-3/{size}\r\n\
             Content-Length: 4\r\n\r\nabcd"
        );
        web_server_of(head.leak(), content.leak())
    };
    for (head, range) in [(FIRST, FIRST), ("", LATER), (FIRST, ""), ("", "")] {
        assert_eq!(read(&server(head, range, 4)).unwrap(), b"abcd");
    }
    let tagged = format!("ETag: W/\"1\"\r\n{FIRST}");
    for (head, range, size) in [(FIRST, LATER, 4), (&*tagged, LATER, 4), (FIRST, FIRST, 5), ("", "", 5)] {
        let error = read(&server(head, range, size)).unwrap_err();
        assert_eq!(error.to_string(), "the object has changed while it was read");
    }
    let tagged = format!("ETag: \"1\"\r\n{FIRST}");
    assert_eq!(read(&server(&tagged, LATER, 4)).unwrap(), b"abcd", "the tag is the condition");
}

#[test]
fn stop_ends_requests_to_a_server_that_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = Location::from(format!("http://{}/a.tar", listener.local_addr().unwrap()));
    let requests = StopRequests::default();
    let waiting = {
        let (requests, location) = (requests.clone(), location.clone());
        thread::spawn(move || requests.scope(|| read(&location)))
    };
    // The request has been sent: without an answer, only the stop ends it.
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    requests.stop();
    for error in [waiting.join().unwrap().unwrap_err(), requests.scope(|| read(&location)).unwrap_err()] {
        assert_eq!(error.to_string(), "the run was stopped");
    }
}

#[test]
fn answers_of_web_servers_end_in_content_or_errors() {
    const OK: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nabcd";
    assert_eq!(read(&web_server(OK)).unwrap(), b"abcd");
    for (answer, expected) in [
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nabcd",
            "the server has ended its answer early",
        ),
        ("HTTP/1.1 404 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "no such file (404)"),
        ("HTTP/1.1 401 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "access denied (401)"),
        ("HTTP/1.1 418 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "the server answered 418"),
    ] {
        let error = read(&web_server(answer)).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
    let error = read(&web_server("nonsense\r\n\r\n")).unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[cfg(feature = "parquet")]
    #[test]
    fn ranges_have_the_bytes_of_the_object(
        reads in prop::collection::vec((0_u64..1_500_000, 0_usize..700_000, any::<bool>()), 1..8)
    ) {
        use parquet::file::reader::ChunkReader as _;

        let (store, location) = stored("ranges");
        let bytes = content(1_500_000);
        block_on(store.put(&ObjectPath::from("a/b.tar"), bytes.clone().into())).unwrap();
        let file = StoredFile::open(&location).unwrap();
        for (start, length, is_stream) in reads {
            let at = usize::try_from(start).unwrap();
            let expected = bytes.get(at..at + length);
            if is_stream {
                let mut found = Vec::new();
                file.get_read(start).unwrap().take(length as u64).read_to_end(&mut found).unwrap();
                prop_assert!(found == bytes[at..bytes.len().min(at + length)]);
            } else {
                let found = file.get_bytes(start, length).ok();
                prop_assert!(found.as_deref() == expected, "{start} {length}");
            }
        }
    }
}
