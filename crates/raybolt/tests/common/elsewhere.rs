//! What tests over processes have in common: ways to see and to stop what happens in a worker.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use raybolt::topology::{Bolt, BoltError, Collector};
use serde::{Deserialize, Serialize};

use crate::cases;

pub const LONG: Duration = Duration::from_secs(60);

/// A file into which the spouts of a test write lines.
#[derive(Clone, Serialize, Deserialize)]
pub struct Diary(pub PathBuf);

impl Diary {
    pub fn new(name: &str) -> Self {
        let path = cases::path(name);
        std::fs::write(&path, "").unwrap();
        Diary(path)
    }

    pub fn note(&self, line: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(&self.0).unwrap();
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    pub fn count(&self, wanted: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(wanted)).count()
    }

    /// Waits until so many lines begin so.
    pub fn wait_for(&self, wanted: &str, count: usize) {
        let begun = std::time::Instant::now();
        while self.count(wanted) < count {
            assert!(
                begun.elapsed() < LONG,
                "`{wanted}` is not {count} times in {:?}",
                self.lines()
            );
            std::thread::yield_now();
        }
    }
}

/// Where someone in a worker waits until the test lets it go on: it knocks, and reads to the end.
pub struct Gate {
    listener: UnixListener,
    path: PathBuf,
}

impl Gate {
    pub fn new(name: &str) -> Self {
        let path = cases::path(name);
        Gate { listener: UnixListener::bind(&path).unwrap(), path }
    }

    /// What whoever is to [`pass`] it has to know.
    pub fn name(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }

    /// Waits until someone is in the gate, who goes on when what is returned is dropped; says in which process.
    pub fn entered(&self) -> (u32, UnixStream) {
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut process = [0; 4];
        stream.read_exact(&mut process).unwrap();
        (u32::from_le_bytes(process), stream)
    }

    /// Whether nobody has come but those who have entered.
    pub fn is_deserted(&self) -> bool {
        self.listener.set_nonblocking(true).unwrap();
        self.listener.accept().is_err()
    }

    /// Whoever comes from now on passes.
    pub fn open(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Comes to a gate, and says in which process.
pub fn knock(gate: &str) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(gate)?;
    stream.write_all(&std::process::id().to_le_bytes())?;
    Ok(stream)
}

/// Waits in a gate, if it is there.
pub fn pass(gate: &str) {
    if let Ok(mut stream) = knock(gate) {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

pub fn kill(process: u32) {
    let victim = rustix::process::Pid::from_raw(process as i32).unwrap();
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
}

/// Time in which a spout that is not held back would have gone on: calls and answers of its worker.
pub fn meanwhile() {
    for number in 0..500 {
        assert_eq!(raybolt::get(&twice::remote(number)).unwrap(), 2 * number);
    }
}

/// What is counted, when it has not changed for as long as a spout that is not held back would have rested.
pub fn settled<T: PartialEq>(count: impl Fn() -> T) -> T {
    let begun = std::time::Instant::now();
    loop {
        let before = count();
        meanwhile();
        if count() == before {
            return before;
        }
        assert!(begun.elapsed() < LONG, "it does not stand still");
    }
}

#[raybolt::remote]
pub fn twice(number: u64) -> u64 {
    2 * number
}

/// Keeps what it gets where the test can see it.
#[derive(Clone)]
pub struct Keep<T>(Sender<T>);

impl<T: raybolt::topology::Tuple> Bolt for Keep<T> {
    type In = T;
    type Out = ();

    fn execute(&mut self, tuple: T, _: &mut Collector<()>) -> Result<(), BoltError> {
        let _ = self.0.send(tuple);
        Ok(())
    }
}

pub fn keep<T>() -> (Keep<T>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Keep(sender), receiver)
}
