//! A session's directory with a door in it, and someone who takes the guests.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use raybolt_core::ids::{Epoch, NodeId, ProcessId, SessionId};
use raybolt_wire::door::{Door, Guest, Limits};
use raybolt_wire::handshake::{Identity, Role};
use raybolt_wire::knock::knock;
use raybolt_wire::secret::Secret;

pub const WORKER: Role = Role::Worker { process: ProcessId(3) };

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// A member of the house's session.
pub fn identity() -> Identity {
    Identity {
        secret: Secret::from_bytes([1; 32]),
        session: SessionId(7),
        node: NodeId(1),
        epoch: Epoch(1),
        features: 0,
    }
}

/// A directory with mode 0700 that goes with its value.
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("raybolt-door-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `D` is a door, or nothing yet.
pub struct House<D = Door> {
    pub door: D,
    guests: Receiver<Guest>,
    socket: PathBuf,
    folder: Folder,
}

impl House<()> {
    /// Without a door.
    pub fn new() -> Self {
        let folder = Folder::new();
        House { door: (), guests: channel().1, socket: folder.0.join("node.sock"), folder }
    }
}

impl<D> House<D> {
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl House {
    pub fn open(limits: Limits) -> Self {
        let House { socket, folder, .. } = House::new();
        let (send, guests) = channel();
        // The receiver is gone when a test is at its end.
        let take = move |guest| drop(send.send(guest));
        let door = Door::open(&socket, identity(), limits, take).unwrap();
        House { door, guests, socket, folder }
    }

    /// A connection that says nothing by itself.
    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).unwrap()
    }

    /// The next guest.
    pub fn guest(&self) -> HouseGuest {
        let Guest { stream, hello, pid } = self.guests.recv_timeout(PATIENCE).unwrap();
        stream.set_nonblocking(false).unwrap();
        HouseGuest { stream, hello, pid }
    }

    /// A rightful worker still gets in, is the next guest, and is answered.
    pub fn still_works(&self) {
        let (stream, _) = knock(&self.socket, &identity(), WORKER, soon()).unwrap();
        self.guest().answer_to(&stream);
    }

    /// Leaves the directory.
    pub fn close(self) -> Folder {
        self.door.close();
        self.folder
    }
}

/// A guest whose stream blocks.
pub struct HouseGuest {
    stream: UnixStream,
    pub hello: raybolt_wire::handshake::Hello,
    pub pid: u32,
}

impl HouseGuest {
    /// Says something, and hears it back.
    pub fn answer_to(&self, mut theirs: &UnixStream) {
        let mut ours = &self.stream;
        let mut bytes = [0; 4];
        theirs.write_all(b"ping").unwrap();
        ours.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
        ours.write_all(b"pong").unwrap();
        theirs.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"pong");
    }
}
