//! What workers write to stdout and stderr: to files, and to the driver's own.
//!
//! # Protocol
//! 1. Each worker has a pipe for either stream. One thread of ours waits for all of them; it appends
//!    what arrives to `logs/worker-<n>.{out,err}`, and keeps the last lines at hand for the error that
//!    tells of a death ([`Logs::last_lines`]).
//! 2. Whole lines are shown by the driver with the worker's name before them.
//!
//! # Invariants
//! - **LOGS-1 (nothing is drowned).** A stream shows at most [`LINES_PER_WINDOW`] lines per window, and
//!   then says how many were not shown; the file has them. A line that several workers write within a
//!   window is shown once, and then how often it was repeated.
//! - **LOGS-2 (bounded).** A file that has grown to [`FILE_BYTES_MAX`] is put aside as `.1`, in place of
//!   the one before; a line beyond [`LINE_BYTES_MAX`] is cut.
//! - **LOGS-3 (idle is free).** Without anything to show the thread sleeps.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use raybolt_core::ids::ProcessId;

use crate::processes::poll::Poll;

/// For how long lines are counted, and told from each other.
const WINDOW: Duration = Duration::from_secs(1);
/// How many lines of a stream are shown in a window.
const LINES_PER_WINDOW: usize = 1_000;
/// How many lines are watched for repetition.
const SEEN_MAX: usize = 1_000;
/// The longest line that is shown.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How large a file grows.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How many lines an error repeats.
const LAST_LINES: usize = 10;
/// How much is read from one pipe before the others have their turn.
const TURN_BYTES: usize = 1 << 20;

/// Which stream of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Out,
    Err,
}

/// The logs of a session.
pub(crate) struct Logs {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    poll: Poll,
    directory: PathBuf,
    is_shown: bool,
    streams: Mutex<HashMap<u64, Arc<Stream>>>,
    /// Lines that others have read and the thread is to show.
    lines: Mutex<VecDeque<Line>>,
    is_over: AtomicBool,
}

struct Stream {
    process: ProcessId,
    kind: Kind,
    reading: Mutex<Reading>,
}

struct Reading {
    /// Until its end.
    pipe: Option<OwnedFd>,
    path: PathBuf,
    /// Absent if the disk refuses.
    file: Option<File>,
    bytes: u64,
    /// The beginning of a line.
    partial: Vec<u8>,
    last: VecDeque<String>,
}

/// A line as it is to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line {
    process: ProcessId,
    kind: Kind,
    text: String,
    /// Whether its file has it too.
    is_logged: bool,
}

impl Logs {
    /// Logs in `directory`; shown by this process too if `is_shown`.
    pub(crate) fn start(directory: &Path, is_shown: bool) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            poll: Poll::new()?,
            directory: directory.to_owned(),
            is_shown,
            streams: Mutex::default(),
            lines: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let running = shared.clone();
        let thread =
            std::thread::Builder::new().name("raybolt-logs".into()).spawn(move || running.run())?;
        Ok(Logs { shared, thread: Some(thread) })
    }

    /// A worker has begun.
    pub(crate) fn follow(&self, process: ProcessId, out: ChildStdout, err: ChildStderr) {
        self.shared.follow(process, Kind::Out, out.into());
        self.shared.follow(process, Kind::Err, err.into());
    }

    /// A worker is dead, and all that it wrote is read: the last lines of it, of stderr if there are any.
    pub(crate) fn last_lines(&self, process: ProcessId) -> Vec<String> {
        let mut last = Vec::new();
        for kind in [Kind::Out, Kind::Err] {
            let stream = self.shared.streams().remove(&token(process, kind));
            let Some(stream) = stream else { continue };
            let mut reading = stream.reading();
            while self.shared.read(&stream, &mut reading) {}
            self.shared.close(&stream, &mut reading);
            if !reading.last.is_empty() {
                last = std::mem::take(&mut reading.last).into();
            }
        }
        self.shared.poll.interrupt();
        last
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.poll.interrupt();
        if let Some(thread) = self.thread.take() {
            // It reports a panic of its own.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn follow(&self, process: ProcessId, kind: Kind, pipe: OwnedFd) {
        // A pipe that cannot be read without waiting is not read at all.
        if rustix::io::ioctl_fionbio(&pipe, true).is_err() {
            return;
        }
        let extension = match kind {
            Kind::Out => "out",
            Kind::Err => "err",
        };
        let path = self.directory.join(format!("worker-{process}.{extension}"));
        let file = open(&path);
        let token = token(process, kind);
        let watched = self.poll.add(&pipe, token);
        let (partial, last) = (Vec::new(), VecDeque::new());
        let reading = Reading { pipe: Some(pipe), path, file, bytes: 0, partial, last };
        if watched.is_ok() {
            let stream = Arc::new(Stream { process, kind, reading: Mutex::new(reading) });
            self.streams().insert(token, stream);
        }
    }

    fn run(&self) {
        let mut screen = Screen::default();
        while !self.is_over.load(Ordering::SeqCst) {
            let mut ready = Vec::new();
            let timeout =
                screen.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
            self.poll.wait(timeout, |what| ready.push(what.token));
            for token in ready {
                let stream = self.streams().get(&token).cloned();
                if let Some(stream) = stream {
                    self.read(&stream, &mut stream.reading());
                }
            }
            self.show(&mut screen);
        }
        for stream in self.streams().drain() {
            let mut reading = stream.1.reading();
            while self.read(&stream.1, &mut reading) {}
            self.close(&stream.1, &mut reading);
        }
        self.show(&mut screen);
        emit(&screen.end(None));
    }

    fn show(&self, screen: &mut Screen) {
        let lines =
            std::mem::take(&mut *self.lines.lock().expect("no thread panics with this lock"));
        let now = Instant::now();
        let mut shown = screen.end(Some(now));
        for line in lines {
            screen.show(line, now, &mut shown);
        }
        emit(&shown);
    }

    /// Reads what is there, up to a bound; says whether there may be more.
    fn read(&self, stream: &Stream, reading: &mut Reading) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let mut left = TURN_BYTES;
        while left > 0 {
            let Some(pipe) = &reading.pipe else { return false };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => {
                    self.close(stream, reading);
                    return false;
                }
                Ok(count) => {
                    left -= count.min(left);
                    self.take(stream, reading, &buffer[..count]);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false, // Nothing is there now, or never will be.
            }
        }
        true
    }

    fn take(&self, stream: &Stream, reading: &mut Reading, bytes: &[u8]) {
        if let Err(error) = reading.write(bytes) {
            Self::refused(stream, reading, &error);
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX - reading.partial.len().min(LINE_BYTES_MAX);
            reading.partial.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line(stream, reading);
            }
        }
    }

    fn end_line(&self, stream: &Stream, reading: &mut Reading) {
        let line = std::mem::take(&mut reading.partial);
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
        if reading.last.len() == LAST_LINES {
            reading.last.pop_front();
        }
        reading.last.push_back(text.clone());
        if self.is_shown {
            let Stream { process, kind, .. } = *stream;
            let mut lines = self.lines.lock().expect("no thread panics with this lock");
            lines.push_back(Line { process, kind, text, is_logged: reading.file.is_some() });
        }
    }

    /// The file takes no more: a full disk, most likely. Lines are still shown.
    fn refused(stream: &Stream, reading: &mut Reading, error: &io::Error) {
        reading.file = None;
        let process = stream.process;
        let path = reading.path.display();
        tracing::warn!(target: "raybolt", "{path} takes no more of what worker {process} writes: {error}");
    }

    /// A stream has ended, or nobody is there any more to write to it.
    fn close(&self, stream: &Stream, reading: &mut Reading) {
        if !reading.partial.is_empty() {
            self.end_line(stream, reading);
        }
        if let Some(pipe) = reading.pipe.take() {
            self.poll.remove(&pipe);
        }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Arc<Stream>>> {
        self.streams.lock().expect("no thread panics with this lock")
    }
}

impl Stream {
    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().expect("no thread panics with this lock")
    }
}

impl Reading {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes > FILE_BYTES_MAX {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            // If that fails the file is begun anew all the same: LOGS-2.
            let _ = std::fs::rename(&self.path, aside);
            self.file = open(&self.path);
            self.bytes = 0;
        }
        self.bytes += bytes.len() as u64;
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().create(true).write(true).truncate(true).open(path).ok()
}

/// Where all is that a worker wrote to stderr, if that is more than the [last lines](Logs::last_lines).
pub(crate) fn more_of(directory: &Path, process: ProcessId) -> Option<PathBuf> {
    let path = directory.join(format!("worker-{process}.err"));
    let text = std::fs::read(&path).ok()?;
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    (lines > LAST_LINES).then_some(path)
}

fn token(process: ProcessId, kind: Kind) -> u64 {
    process.0 << 1 | u64::from(kind == Kind::Err)
}

fn emit(shown: &[(Kind, String)]) {
    for (kind, text) in shown {
        // Whoever closed our streams does not want to read.
        let _ = match kind {
            Kind::Out => writeln!(io::stdout(), "{text}"),
            Kind::Err => writeln!(io::stderr(), "{text}"),
        };
    }
}

/// Decides what is shown.
#[derive(Default)]
struct Screen {
    seen: HashMap<(Kind, String), Seen>,
    counts: HashMap<(ProcessId, Kind), Count>,
}

/// A line that was shown a moment ago.
struct Seen {
    until: Instant,
    process: ProcessId,
    repeated: usize,
}

/// The lines of a stream within a window.
struct Count {
    until: Instant,
    lines: usize,
    /// Whether the file has all of them.
    are_logged: bool,
}

impl Screen {
    fn show(&mut self, line: Line, now: Instant, shown: &mut Vec<(Kind, String)>) {
        let Line { process, kind, text, is_logged } = line;
        let key = (kind, text);
        match self.seen.get_mut(&key) {
            Some(seen) if seen.process != process => {
                seen.repeated += 1;
                return;
            }
            Some(_) => {}
            None => {
                if self.seen.len() < SEEN_MAX {
                    let seen = Seen { until: now + WINDOW, process, repeated: 0 };
                    self.seen.insert(key.clone(), seen);
                }
            }
        }
        let count = self.counts.entry((process, kind));
        let new = Count { until: now + WINDOW, lines: 0, are_logged: true };
        let count = count.or_insert(new);
        count.lines += 1;
        count.are_logged &= is_logged;
        if count.lines <= LINES_PER_WINDOW {
            shown.push((kind, format!("(worker {process}) {}", key.1)));
        }
    }

    /// What the windows that have ended by now leave to be said; all of them without a time.
    fn end(&mut self, now: Option<Instant>) -> Vec<(Kind, String)> {
        let is_over = |until: Instant| now.is_none_or(|now| until <= now);
        let mut shown = Vec::new();
        for ((kind, text), seen) in self.seen.extract_if(|_, seen| is_over(seen.until)) {
            if seen.repeated > 0 {
                let Seen { process, repeated, .. } = seen;
                let text =
                    format!("(worker {process}) {text} [repeated {repeated}x across workers]");
                shown.push((kind, text));
            }
        }
        for ((process, kind), count) in self.counts.extract_if(|_, count| is_over(count.until)) {
            let Some(more @ 1..) = count.lines.checked_sub(LINES_PER_WINDOW) else { continue };
            let place = match count.are_logged {
                true => "which are in its log and not shown here",
                false => "not shown here, and not all of them in its log",
            };
            let text = format!("(worker {process}) ... {more} more lines, {place}");
            shown.push((kind, text));
        }
        shown
    }

    fn next_deadline(&self) -> Option<Instant> {
        let seen = self.seen.values().map(|seen| seen.until);
        seen.chain(self.counts.values().map(|count| count.until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(process: u64, text: &str) -> Line {
        Line { process: ProcessId(process), kind: Kind::Out, text: text.into(), is_logged: true }
    }

    fn texts(shown: Vec<(Kind, String)>) -> Vec<String> {
        shown.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn a_line_of_many_workers_is_shown_once_and_then_how_often_it_was_repeated() {
        let (mut screen, now, mut shown) = (Screen::default(), Instant::now(), Vec::new());
        for process in 1..=13 {
            screen.show(line(process, "ready"), now, &mut shown);
        }
        screen.show(line(1, "ready"), now, &mut shown);
        assert_eq!(texts(shown), ["(worker 1) ready", "(worker 1) ready"]);
        assert_eq!(screen.end(Some(now)), []);
        assert_eq!(screen.next_deadline(), Some(now + WINDOW));
        let rest = texts(screen.end(Some(now + WINDOW)));
        assert_eq!(rest, ["(worker 1) ready [repeated 12x across workers]"]);
        assert_eq!(screen.next_deadline(), None, "then nobody wakes up any more");
    }

    #[test]
    fn a_stream_that_says_too_much_is_cut_short_and_it_is_said_by_how_much() {
        let (mut screen, now, mut shown) = (Screen::default(), Instant::now(), Vec::new());
        for number in 0..LINES_PER_WINDOW + 7 {
            screen.show(line(2, &number.to_string()), now, &mut shown);
        }
        assert_eq!(shown.len(), LINES_PER_WINDOW);
        let rest = texts(screen.end(None));
        assert_eq!(rest, ["(worker 2) ... 7 more lines, which are in its log and not shown here"]);
    }

    #[test]
    fn what_a_worker_wrote_is_in_its_file_and_its_last_lines_are_at_hand() {
        let directory = std::env::temp_dir().join(format!("raybolt-logs-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let logs = Logs::start(&directory, false).unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "seq 1 20; echo oh dear >&2; printf 'the end' >&2"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = ProcessId(7);
        logs.follow(process, child.stdout.take().unwrap(), child.stderr.take().unwrap());
        child.wait().unwrap();
        assert_eq!(logs.last_lines(process), ["oh dear", "the end"]);
        let out = std::fs::read_to_string(directory.join("worker-7.out")).unwrap();
        assert!(out.starts_with("1\n2\n") && out.ends_with("20\n"), "{out}");
        drop(logs);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
