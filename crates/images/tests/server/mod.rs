//! A server that answers what a test wants, byte for byte.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Listens on a loopback port until it is dropped. Every answer ends its connection unless it has a
/// length and says nothing of closing.
pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    answered: Arc<Notify>,
    task: JoinHandle<()>,
}

/// A response of status 200 with these header lines.
pub(crate) fn ok(body: &[u8], headers: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl Server {
    /// Answers each request for a path with the bytes that `answer` gives, then closes.
    pub(crate) async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::serve(answer, false).await
    }

    /// Answers each request with `head`, and then neither sends nor closes.
    pub(crate) async fn silent_after(head: &'static [u8]) -> Self {
        Self::serve(move |_| head.to_vec(), true).await
    }

    async fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static, keep_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answered = Arc::new(Notify::new());
        let (log, done) = (Arc::clone(&requests), Arc::clone(&answered));
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                log.lock().unwrap().push(request);
                // A client that has heard enough may have left.
                let _ = stream.write_all(&answer(&path)).await;
                done.notify_one();
                if keep_open {
                    open.push(stream);
                }
            }
        });
        Self { port, requests, answered, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until a request has been answered.
    pub(crate) async fn has_answered(&self) {
        self.answered.notified().await;
    }

    /// Closes the port.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // Ends as aborted, with the listener dropped.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
