//! A connection that takes its time: it stands before a server, and hands on every message after a latency that it
//! draws.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// One client's way to a server; it is closed when this is dropped.
pub(crate) struct SlowLink {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SlowLink {
    /// Where a request and its answer take so many milliseconds together.
    pub(crate) fn to(server: SocketAddr, milliseconds: Range<u64>, seed: u64) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
                tell.send(listener.local_addr().expect("an address")).expect("somebody listens");
                tokio::select! {
                    () = accept(listener, server, milliseconds, seed) => {}
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv().expect("a port");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // One that is gone already has nothing to stop.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, milliseconds: Range<u64>, seed: u64) {
    for number in 0.. {
        let (client, _) = listener.accept().await.expect("a connection");
        let mut draw = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) + number);
        let (there, back) = (draw.fork(), draw.fork());
        // Each way takes half of it.
        let half = milliseconds.start / 2..milliseconds.end / 2;
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            // A request must not wait for the one before it to be acknowledged.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                hand_on(from_client, to_server, half.clone(), there),
                hand_on(from_server, to_client, half, back)
            );
        });
    }
}

async fn hand_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    milliseconds: Range<u64>,
    mut draw: fastrand::Rng,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(Duration::from_millis(draw.u64(milliseconds.clone()))).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // The other end is gone, and so is this one for it.
    let _ = to.shutdown().await;
}
