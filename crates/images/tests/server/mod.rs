//! A server that responds with bytes that a test defines.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A server on a loopback port, until it is dropped. It closes each connection after one response.
pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    responded: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Returns a response of status 200 with these header lines.
pub(crate) fn ok(body: &[u8], headers: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl Server {
    /// Responds to each request with the bytes that `respond` returns for its path.
    pub(crate) async fn start(respond: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::serve(respond, false).await
    }

    /// Responds to each request with `head`, then sends nothing and keeps the connection open.
    pub(crate) async fn silent_after(head: &'static [u8]) -> Self {
        Self::serve(move |_| head.to_vec(), true).await
    }

    async fn serve(respond: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static, leave_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let responded = Arc::new(Notify::new());
        let (log, done) = (Arc::clone(&requests), Arc::clone(&responded));
        let respond = Arc::new(respond);
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                log.lock().unwrap().push(request);
                // Writing fails when the client has already closed the connection.
                let _ = stream.write_all(&respond(&path)).await;
                done.notify_one();
                if leave_open {
                    open.push(stream);
                }
            }
        });
        Self { port, requests, responded, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until the server has responded to a request.
    pub(crate) async fn has_responded(&self) {
        self.responded.notified().await;
    }

    /// Stops the server and closes its port.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // The result is the cancellation. The listener is dropped by now.
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
