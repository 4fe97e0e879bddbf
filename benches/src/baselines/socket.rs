//! A process that answers over a Unix socket: what a call between two processes cannot go below as long
//! as each side blocks until the other has spoken.
//!
//! The other process is this program started again. It sends back what it gets, whatever that is.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Result;

use crate::harness::{Sample, latency_us, per_second};
use crate::probe;

/// About what the frame of a call of one number has, and that of its answer.
pub const CALL_BYTES: usize = 48;
/// How much many messages fill together when they need not be there at once.
const BATCH_BYTES: usize = 64 << 10;

/// The process that answers, and the way to it.
pub struct Echo {
    child: Child,
    stream: UnixStream,
}

impl Echo {
    /// Starts the process.
    pub fn start() -> Result<Echo> {
        let (stream, theirs) = UnixStream::pair()?;
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let child = probe::command(&["echo"])?.stdin(stdin).stdout(Stdio::null()).spawn()?;
        Ok(Echo { child, stream })
    }

    /// Sends these bytes and waits until they are back.
    pub fn round_trip(&mut self, bytes: &mut [u8]) {
        self.stream.write_all(bytes).expect("the other process reads");
        self.stream.read_exact(bytes).expect("the other process answers");
    }

    /// p50 and p99 of a round trip of so many bytes.
    pub fn latency_us(&mut self, time: Duration, bytes: usize) -> Sample {
        let mut message = vec![1; bytes];
        let sample = latency_us(time, || self.round_trip(&mut message));
        assert!(message.iter().all(|byte| *byte == 1), "what was sent came back");
        sample
    }

    /// Messages of a call's size that go there and back in a second, many in one system call.
    pub fn per_second(&self, count: usize) -> f64 {
        let batches = (count * CALL_BYTES).div_ceil(BATCH_BYTES);
        per_second(batches * BATCH_BYTES / CALL_BYTES, || {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let batch = [1; BATCH_BYTES];
                    (0..batches).for_each(|_| (&self.stream).write_all(&batch).expect("it reads"));
                });
                let mut batch = [0; BATCH_BYTES];
                (0..batches)
                    .for_each(|_| (&self.stream).read_exact(&mut batch).expect("it answers"));
            });
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// The other process: its stdin is the socket.
pub fn answer() -> Result<()> {
    let mut stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; 2 * BATCH_BYTES];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
