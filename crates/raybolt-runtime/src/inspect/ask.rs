//! What a watcher may ask, and how question and answer lie on the session's socket.
//!
//! # Protocol
//! Behind the handshake as [`Role::Watcher`](raybolt_wire::handshake::Role) a watcher sends an [`Ask`] as JSON in
//! one frame. The answer is JSON too, `{"ok": ..}` or `{"error": ".."}`, cut into frames of at most [`PIECE_BYTES`];
//! an empty frame ends it. Then the next question may come.
//!
//! ```text
//! watcher  --->  | {"ask":"why","id":"task-1f"} |
//!          <---  | {"ok":{"id":"task-1f","ste | ps":[..]}} |  |
//! ```

use std::io::{self, Read, Write};

use raybolt_wire::frame::LENGTH_BYTES;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Status, TaskFilter, local};
use crate::error::{Error, Kind, Result};
use crate::processes::errand::{self, Errand};
use crate::session::{self, Place};

/// The longest question.
pub(super) const ASK_BYTES_MAX: usize = 4 << 10;
/// The longest piece of an answer.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// The longest answer that a watcher takes.
pub(super) const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A question to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ask {
    /// [`status`](super::status)
    Status,
    /// [`tasks`](super::tasks)
    Tasks {
        /// Which ones.
        #[serde(flatten)]
        filter: TaskFilter,
        /// How many.
        limit: usize,
    },
    /// [`actors`](super::actors)
    Actors {
        /// How many.
        limit: usize,
    },
    /// [`objects`](super::objects)
    Objects {
        /// How many.
        limit: usize,
    },
    /// [`workers`](super::workers)
    Workers,
    /// [`placement_groups`](super::placement_groups)
    PlacementGroups {
        /// How many.
        limit: usize,
    },
    /// [`errors`](super::errors)
    Errors {
        /// How many.
        limit: usize,
    },
    /// [`memory`](super::memory)
    Memory,
    /// [`why`](super::why())
    Why {
        /// Of what; of all that wait if it is missing.
        id: Option<String>,
    },
    /// [`timeline`](super::timeline)
    Timeline,
    /// What a process knows of itself alone, for the driver that asks its workers.
    #[doc(hidden)]
    Local {
        /// Whether with its timeline.
        with_track: bool,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    Ok(Value),
    Error(String),
}

impl Ask {
    /// Answers for this process's session.
    pub(super) fn answer(&self) -> Answer {
        fn told<T: Serialize>(result: Result<T>) -> Answer {
            let told = result.map_err(|error| error.to_string());
            let value =
                told.and_then(|told| serde_json::to_value(told).map_err(|error| error.to_string()));
            value.map_or_else(Answer::Error, Answer::Ok)
        }
        match self {
            Ask::Status => told::<Status>(super::status()),
            Ask::Tasks { filter, limit } => told(super::tasks(filter, *limit)),
            Ask::Actors { limit } => told(super::actors(*limit)),
            Ask::Objects { limit } => told(super::objects(*limit)),
            Ask::Workers => told(super::workers()),
            Ask::PlacementGroups { limit } => told(super::placement_groups(*limit)),
            Ask::Errors { limit } => told(super::errors(*limit)),
            Ask::Memory => told(super::memory()),
            Ask::Why { id } => told(super::why(id.as_deref())),
            Ask::Timeline => told(super::timeline()),
            Ask::Local { with_track } => {
                told(session::with(|session| local::here(session, *with_track)))
            }
        }
    }
}

/// In a worker process: what its driver answers, which knows the session; nothing anywhere else.
pub(super) fn of_driver<T: DeserializeOwned>(ask: impl FnOnce() -> Ask) -> Option<Result<T>> {
    let here = session::with(|session| !matches!(session.place, Place::Driver(_)));
    let ask = here.is_ok_and(|here| !here).then(ask)?;
    let question = serde_json::to_string(&ask).expect("questions are data");
    Some(errand::run(Question(question)).and_then(|answer| {
        let unread = |error: serde_json::Error| {
            let (task, because) = ("an answer of the driver".into(), error.to_string());
            Error::new(Kind::Decode { task, because })
        };
        match serde_json::from_str(&answer).map_err(unread)? {
            Answer::Ok(told) => serde_json::from_value(told).map_err(unread),
            Answer::Error(because) => Err(Error::new(Kind::Invalid(because))),
        }
    }))
}

/// An [`Ask`] of a worker's code, as JSON like all of them.
#[derive(Serialize, Deserialize)]
struct Question(String);

impl Errand for Question {
    type Answer = String;

    fn run(self) -> Result<String> {
        let answer = match serde_json::from_str::<Ask>(&self.0) {
            Ok(ask) => ask.answer(),
            Err(error) => Answer::Error(error.to_string()),
        };
        Ok(serde_json::to_string(&answer).expect("answers are data"))
    }
}

/// Writes one frame.
pub(super) fn write_frame(stream: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(LENGTH_BYTES + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    stream.write_all(&frame)
}

/// Reads one frame; none when the other side has hung up before it.
pub(super) fn read_frame(stream: &mut impl Read, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; LENGTH_BYTES];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > bytes_max {
        let message = format!("a frame of {length} bytes, where {bytes_max} are the most");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    // Reserved by what arrives, not by what was claimed.
    let mut body = Vec::new();
    stream.take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::TaskState;

    #[test]
    fn questions_are_short_json() {
        let state = Some(TaskState::Queued);
        let filter = TaskFilter { state, name: None };
        for (ask, text) in [
            (Ask::Status, r#"{"ask":"status"}"#),
            (
                Ask::Tasks { filter, limit: 7 },
                r#"{"ask":"tasks","state":"queued","name":null,"limit":7}"#,
            ),
            (Ask::Why { id: Some("task-1f".into()) }, r#"{"ask":"why","id":"task-1f"}"#),
        ] {
            assert_eq!(serde_json::to_string(&ask).unwrap(), text);
            assert_eq!(serde_json::from_str::<Ask>(text).unwrap(), ask);
        }
        let without_name = r#"{"ask":"tasks","limit":7}"#;
        assert!(matches!(serde_json::from_str(without_name), Ok(Ask::Tasks { limit: 7, .. })));
    }

    #[test]
    fn frames_are_bounded_before_they_are_read() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b"abc").unwrap();
        write_frame(&mut bytes, b"").unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(read_frame(&mut stream, 3).unwrap().unwrap(), b"abc");
        assert_eq!(read_frame(&mut stream, 3).unwrap().unwrap(), b"");
        assert_eq!(read_frame(&mut stream, 3).unwrap(), None);
        assert!(read_frame(&mut bytes.as_slice(), 2).is_err());
        assert!(read_frame(&mut &bytes[..5], 3).is_err(), "it ends in the middle");
    }
}
