//! The smallest HTTP server that Prometheus reads: `GET /metrics`, one answer per connection.
//!
//! It runs on a thread and a runtime of its own, so that nobody who asks delays anything else. Every size and time of
//! a request is bounded, and so is the number of those who are served at once.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use qanat_proto::{Error, Result};
use tokio::sync::Semaphore;

/// Connections that are served at once; others wait.
const CONNECTIONS_MAX: usize = 16;
/// A request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Until the head is read.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// From the connection to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the page, anew for each request.
pub(super) type MakePage = dyn Fn() -> String + Send + Sync;

/// Serves for as long as the process lives.
///
/// # Errors
/// E0214 if the system gives no more threads.
pub(super) fn serve(listener: TcpListener, page: Arc<MakePage>) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("serve metrics", &e);
    listener.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(failed)?
    };
    let serving = move || runtime.block_on(accept(listener, page));
    std::thread::Builder::new().name("metrics".to_owned()).spawn(serving).map(drop).map_err(failed)
}

async fn accept(listener: tokio::net::TcpListener, page: Arc<MakePage>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, perhaps.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let page = page.clone();
        tokio::spawn(async move {
            let answered = service_fn(move |request: Request<Incoming>| {
                let response = answer(&request, page.as_ref());
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http = Builder::new();
            http.keep_alive(false)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT);
            // What a client does wrong is its own business.
            let _ = tokio::time::timeout(TIMEOUT, http.serve_connection(TokioIo::new(stream), answered)).await;
            drop(permit);
        });
    }
}

fn answer<B: Body>(request: &Request<B>, page: &MakePage) -> Response<Full<Bytes>> {
    let says = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return says(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if request.method() != Method::GET {
        let mut response = says(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    if !request.body().is_end_stream() {
        return says(StatusCode::PAYLOAD_TOO_LARGE, "a request for metrics has no body\n");
    }
    let mut response = Response::new(Full::new(Bytes::from(page())));
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    use super::*;

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        // It may have answered and closed before all of a request that is too long is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn only_what_prometheus_asks_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        serve(listener, Arc::new(|| "qanat_up 1\n".to_owned())).expect("a thread");
        // Those who say nothing take no room from the one who asks, once their time is over.
        let silent: Vec<TcpStream> =
            (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).expect("it listens")).collect();
        let good = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n") && good.ends_with("\r\n\r\nqanat_up 1\n"), "{good}");
        assert!(good.contains("content-type: text/plain; version=0.0.4"), "{good}");
        drop(silent);
        let starts = [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "HTTP/1.1 404"),
            (b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405"),
            (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 413"),
            (b"nonsense\r\n\r\n", "HTTP/1.1 400"),
        ];
        for (request, start) in starts {
            let answer = ask(address, request);
            assert!(answer.starts_with(start), "{answer}");
        }
        let mut long = b"GET /metrics HTTP/1.1\r\nX: ".to_vec();
        long.resize(1 << 20, b'x');
        let answer = ask(address, &long);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX + 1));
        let answer = ask(address, many.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
