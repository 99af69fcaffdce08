//! One port for everything: HTTP/2 with gRPC, and HTTP/1.1.

use std::time::Duration;

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};

/// Bytes on the way in one stream without a word of the receiver: lanes of other stores, and batches of clients.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// The same of a whole connection.
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Requests of one connection at one time.
const STREAMS_MAX: u32 = 16_384;

/// Bytes of one HTTP/2 frame: fewer and larger than the default of 16 KiB, for batches are large.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Bytes that a stream may have written and not sent.
const SEND_BUFFER_BYTES: usize = 2 << 20;

/// A silent connection is asked whether it is still there …
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// … and closed if it does not answer for this long.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// After a failed accept (too many open files) this passes before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections for ever.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, router.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder.http1().timer(TokioTimer::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await
    {
        tracing::debug!(%error, "a connection ended");
    }
}
