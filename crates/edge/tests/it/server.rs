//! A server on a free port of the loopback, and clients of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use thalweg_edge::{Edge, EdgeConfig, Peer, Tls};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
}

/// Answers at `/` with the peer's name, at `/slow` after a while, at `/endless` for ever, and at
/// `/echo` with the body.
fn routes() -> Router {
    Router::new()
        .route(
            "/",
            get(|Extension(peer): Extension<Peer>| async move {
                match peer.certificate {
                    Some(certificate) => certificate.common_name.clone().unwrap_or_default(),
                    None => "hello".to_owned(),
                }
            }),
        )
        .route(
            "/slow",
            get(async || {
                tokio::time::sleep(Duration::from_millis(700)).await;
                "done"
            }),
        )
        .route(
            "/endless",
            get(async || {
                let chunk = Bytes::from(vec![b'x'; 64 << 10]);
                let chunks = std::iter::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
                Body::from_stream(futures::stream::iter(chunks))
            }),
        )
        .route("/echo", post(|body: Bytes| async move { body }))
}

impl Server {
    pub(crate) async fn start(config: EdgeConfig, tls: Option<Arc<Tls>>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let edge = Edge::new(config, tls);
        let serving = tokio::spawn(edge.serve_http("test", socket, routes(), stopping.clone()));
        Self { address, stopping, serving }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Stops and waits until everything under way is finished.
    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        self.serving.await.unwrap();
    }

    pub(crate) fn begin_to_stop(&self) {
        self.stopping.cancel();
    }
}

/// Sends a `GET` and returns the whole answer, or what came of it before the end.
pub(crate) async fn get_path(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    // The server may have closed the connection already.
    let _ = stream.write_all(request.as_bytes()).await;
    rest(stream).await
}

/// What comes until the server closes the connection.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset connection is closed too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
