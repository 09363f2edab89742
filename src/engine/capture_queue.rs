//! Gathers the captures of all workers into groups, and writes each group to disk with one sync.
//!
//! A group is whatever arrived while the group before it was written: with one object in flight, that is one capture,
//! and nothing waits for a group to fill up.

use std::sync::Arc;

use batchplan_store::object::ObjectId;
use batchplan_store::object_request::ObjectRequest;
use batchplan_store::task::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::captures::{Capture, CaptureError, CaptureWriter};

/// The largest group. More captures than objects in flight never wait.
const MAX_GROUP: usize = 8192;

/// A read that is sent only to capture an object, and that was denied before any such read had succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureDenial {
    /// The object.
    pub object: ObjectId,
    /// The read.
    pub request: ObjectRequest,
    /// The error.
    pub fault: StoreError,
}

/// The captures that wait for their group. It holds at most one for each object in flight.
#[derive(Debug)]
pub(super) struct CaptureQueue {
    sender: mpsc::Sender<QueuedCapture>,
}

/// A capture, and who waits for it.
type QueuedCapture = (Capture, oneshot::Sender<CaptureResult>);

/// Whether a capture is on disk.
type CaptureResult = Result<(), Arc<CaptureError>>;

impl CaptureQueue {
    /// Starts the task that writes the groups. It ends, and closes the files, once the queue is dropped.
    pub(super) fn start(writer: CaptureWriter) -> (Self, JoinHandle<()>) {
        let (sender, queue) = mpsc::channel(MAX_GROUP);
        (Self { sender }, tokio::spawn(write_groups(writer, queue)))
    }

    /// Waits until a capture is on disk.
    ///
    /// # Errors
    /// Returns why the capture is not on disk.
    pub(super) async fn record(&self, capture: Capture) -> Result<(), String> {
        let (done, written) = oneshot::channel();
        let gone = || "the task that writes them has stopped".to_owned();
        self.sender.send((capture, done)).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?.map_err(|error| match error.help() {
            Some(help) => format!("{error} ({help})"),
            None => error.to_string(),
        })
    }
}

async fn write_groups(mut writer: CaptureWriter, mut queue: mpsc::Receiver<QueuedCapture>) {
    let mut group = Vec::new();
    while queue.recv_many(&mut group, MAX_GROUP).await > 0 {
        let (captures, waiting): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        let write = move || {
            let written = writer.append(&captures);
            (writer, written)
        };
        // After a panic, everyone who waits learns that the task has stopped.
        let Ok((same, written)) = tokio::task::spawn_blocking(write).await else { return };
        writer = same;
        let written = written.map_err(Arc::new);
        for done in waiting {
            // An object that was abandoned meanwhile waits no more.
            let _ = done.send(written.clone());
        }
    }
}
