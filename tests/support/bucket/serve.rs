//! Listening and answering, on the one thread that the server has.

use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::answer::refuse;
use super::asked::Asked;
use super::{Fate, Manner, Moment, Nature, Seen, Shared};

/// How often a request that waits looks whether it still must.
const HELD: Duration = Duration::from_millis(2);

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the client went away: {0}")]
    Client(#[from] hyper::Error),
    #[error("as the test wants it")]
    Wanted,
}

/// Serves until it is told to stop; whatever is under way then is cut off.
pub(super) fn serve(listener: StdListener, shared: Arc<Mutex<Shared>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a socket");
        tokio::select! {
            () = accept(listener, shared) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    stream.set_nodelay(true).expect("a socket");
    let answering = service_fn(move |request| answer(Arc::clone(&shared), request));
    // It ends when the client is done, was killed, or is to be left without an answer.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answering).await;
}

async fn answer(shared: Arc<Mutex<Shared>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
    let (parts, body) = request.into_parts();
    let asked = Asked::read(parts, body.collect().await?.to_bytes());
    let mut arrival = locked(&shared).arrive(&asked);
    if let Some((_, hook)) = arrival.hook.take_if(|(moment, _)| *moment == Moment::Arrived) {
        hook();
        return Err(Broken::Wanted);
    }
    tokio::time::sleep(arrival.latency).await;
    let mut response = match arrival.fate {
        Fate::Throttled => refuse(503, "SlowDown", "Please reduce your request rate."),
        Fate::Broken => refuse(500, "InternalError", "We encountered an internal error. Please try again."),
        Fate::Unheard => return Err(Broken::Wanted),
        Fate::Lost => {
            let _unsent = locked(&shared).carry_out(&asked);
            return Err(Broken::Wanted);
        }
        Fate::Served => served(&shared, &asked).await,
    };
    if let Some((_, hook)) = arrival.hook {
        hook();
        return Err(Broken::Wanted);
    }
    response.headers_mut().insert("x-amz-request-id", HeaderValue::from(arrival.number));
    if locked(&shared).nature == Nature::RangesEverywhere {
        response.headers_mut().insert("accept-ranges", HeaderValue::from_static("bytes"));
    }
    Ok(response)
}

/// As the test wants it served.
async fn served(shared: &Mutex<Shared>, asked: &Asked) -> Response<Full<Bytes>> {
    let seen = Seen::of(asked);
    loop {
        let judges = {
            let mut shared = locked(shared);
            match (shared.judge)(&seen) {
                Manner::Serve => {
                    shared.served(asked.kind);
                    return shared.carry_out(asked);
                }
                Manner::Refuse(status, code) => {
                    shared.served(asked.kind);
                    return refuse(status, code, "As the test wants it.");
                }
                Manner::Say(status, body) => {
                    shared.served(asked.kind);
                    let status = http::StatusCode::from_u16(status).expect("a status");
                    let mut response = Response::new(Full::from(body));
                    *response.status_mut() = status;
                    return response;
                }
                Manner::Wait => shared.judges,
            }
        };
        while locked(shared).judges == judges {
            tokio::time::sleep(HELD).await;
        }
    }
}

fn locked(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().expect("nobody panicked with it")
}
