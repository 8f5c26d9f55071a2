//! HTTP, in both its versions, for axum's routers.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::ConnectInfo,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header::RETRY_AFTER};
use http_body::{Frame, SizeHint};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::TcpListener,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service as _;

use crate::{
    config::EdgeConfig,
    listener::{Arrival, Edge},
    meters,
    peer::Peer,
    places::{Full, Place, Places},
    tls::Application,
};

/// Longest head of a request, and what is read of a body at once.
const BUFFER_BYTES: usize = 128 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Longest headers of an HTTP/2 request, after decompression (RFC 9113 §6.5.2).
const MAX_HEADER_LIST_BYTES: u32 = 32 << 10;
/// What an HTTP/2 client may send ahead of the reader, for each stream and for the connection: it
/// is memory that no other limit counts. (hyper's own default is 1 MiB.)
const WINDOW_BYTES: u32 = 256 << 10;
/// What is kept of an answer that an HTTP/2 client does not take.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Requests of one HTTP/2 connection at once.
const MAX_STREAMS: u32 = 128;
/// After so long without a sign of life an HTTP/2 client is asked for one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Time in which it has to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Time in which a client that is told goodbye has to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

impl Edge {
    /// Serves `routes` on `socket` until `stopping`; requests under way are finished then, unless
    /// the returned future is dropped before.
    ///
    /// Handlers find a [`Peer`] and axum's `ConnectInfo<SocketAddr>` among the extensions of a
    /// request.
    pub async fn serve_http(
        self: Arc<Self>,
        name: &'static str,
        socket: TcpListener,
        routes: Router,
        stopping: CancellationToken,
    ) {
        let builder = builder(&self.config);
        let listener = self.listen(name, socket, Application::Http);
        let connections = TaskTracker::new();
        let gone = CancellationToken::new();
        let _gone_when_dropped = gone.clone().drop_guard();
        loop {
            let arrival = tokio::select! {
                arrival = listener.accept() => arrival,
                () = stopping.cancelled() => break,
            };
            let connection = Connection {
                routes: routes.clone(),
                requests: Arc::clone(&self.requests),
                idle_timeout: self.config.idle_timeout(),
                body_timeout: self.config.body_timeout(),
                stopping: stopping.clone(),
                gone: gone.clone(),
            };
            let builder = builder.clone();
            let address = arrival.address();
            connections.spawn(async move {
                if let Err(error) = connection.serve(arrival, &builder).await {
                    tracing::debug!(%address, %error, "connection ended");
                }
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

fn builder(config: &EdgeConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.idle_timeout())
        .max_buf_size(BUFFER_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// What serving one connection takes.
struct Connection {
    routes: Router,
    requests: Arc<Places>,
    idle_timeout: Duration,
    body_timeout: Duration,
    /// Told when requests under way shall be the last.
    stopping: CancellationToken,
    /// Told when nobody waits for them any more.
    gone: CancellationToken,
}

impl Connection {
    async fn serve(self, arrival: Arrival, builder: &Builder<TokioExecutor>) -> io::Result<()> {
        let (stream, peer, _open) = arrival.connect().await?;
        let activity = Arc::new(Activity::default());
        let service = service_fn(|request| self.answer(&activity, &peer, request));
        // On the heap: a task is as large as its largest state, and most connections are idle.
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
        let served = tokio::select! {
            served = connection.as_mut() => Some(served),
            () = self.stopping.cancelled() => None,
            () = self.gone.cancelled() => return Ok(()),
            () = activity.is_idle_for(self.idle_timeout) => {
                meters::cut_off("idle");
                None
            }
        };
        let served = match served {
            Some(served) => served,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection => served,
                    // It does not say goodbye.
                    () = activity.is_idle_for(GOODBYE_TIMEOUT) => Ok(()),
                    () = self.gone.cancelled() => Ok(()),
                }
            }
        };
        served.map_err(io::Error::other)
    }

    fn answer(
        &self,
        activity: &Arc<Activity>,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> + use<> {
        activity.begun.fetch_add(1, Relaxed);
        let place = self.requests.take(peer.address.ip());
        let refused = place.as_ref().err().copied();
        let under_way = UnderWay { activity: Arc::clone(activity), _place: place.ok() };
        let mut request = request.map(|body| Body::new(Sent::new(body, self.body_timeout)));
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer.address));
        request.extensions_mut().insert(peer.clone());
        let mut routes = self.routes.clone();
        async move {
            let response = match refused {
                Some(full) => refuse(full),
                None => routes.call(request).await.unwrap_or_else(|never| match never {}),
            };
            Ok(response.map(|body| Answer { body, _under_way: under_way }))
        }
    }
}

/// What a connection's requests tell of it.
#[derive(Debug, Default)]
struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Activity {
    /// Resolves when no request was under way for `time`, or up to twice as long.
    async fn is_idle_for(&self, time: Duration) {
        let mut begun_before = self.begun.load(Relaxed);
        loop {
            tokio::time::sleep(time).await;
            let (ended, begun) = (self.ended.load(Relaxed), self.begun.load(Relaxed));
            if begun == begun_before && ended == begun {
                return;
            }
            begun_before = begun;
        }
    }
}

/// A request under way, until the last byte of its answer is handed over.
struct UnderWay {
    activity: Arc<Activity>,
    _place: Option<Place>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.ended.fetch_add(1, Relaxed);
    }
}

fn refuse(full: Full) -> Response {
    meters::cut_off("client_requests");
    let text = format!("too many requests are under way: {full}; retry after a second\n");
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], text).into_response()
}

/// The body of a request, which has to arrive in time.
struct Sent {
    body: Incoming,
    deadline: Instant,
    timeout: Duration,
    /// Armed only when the body has to be waited for.
    late: Option<Pin<Box<Sleep>>>,
}

impl Sent {
    fn new(body: Incoming, timeout: Duration) -> Self {
        Self { body, deadline: Instant::now() + timeout, timeout, late: None }
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        let deadline = self.deadline;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(late.as_mut().poll(cx));
        meters::cut_off("body_timeout");
        let text = format!("the body did not arrive within {:?}", self.timeout);
        let error = io::Error::new(io::ErrorKind::TimedOut, text);
        Poll::Ready(Some(Err(axum::Error::new(error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer; its request is under way until it is gone.
struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
