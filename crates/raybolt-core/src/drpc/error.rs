//! Why a request got no result.
//!
//! Four things are kept apart, as their levers differ: the caller's mistake (`UnknownFunction`,
//! `NotText`), the topology's fault (`Failed`, `NoResult`), the weather, after which trying again is
//! sensible (`Busy`, `TimedOut`, `ServerLost`, `ShuttingDown`), and the caller's own wish or pace
//! (`Cancelled`, `ReaderTooSlow`).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::RequestId;
use crate::suggest::Hint;

/// Why a DRPC request got no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DrpcError {
    /// No topology serves a function of this name.
    UnknownFunction {
        /// The name asked for.
        function: String,
        /// The functions that are served, in alphabetical order.
        known: Vec<String>,
    },
    /// As many requests wait for the function as may.
    Busy {
        /// The function.
        function: String,
        /// How many requests wait for a topology with room.
        waiting: usize,
        /// How many requests are in topologies.
        in_flight: usize,
    },
    /// The deadline passed before a result came.
    TimedOut {
        /// The function.
        function: String,
        /// The request.
        request: RequestId,
        /// How long the request was allowed to take.
        allowed: Duration,
        /// Whether a topology had taken the request.
        delivered: bool,
    },
    /// A component of the topology failed on the request.
    Failed {
        /// The function.
        function: String,
        /// The request.
        request: RequestId,
        /// What the component said.
        message: String,
    },
    /// The topology was done with the request and had emitted no result for it.
    NoResult {
        /// The function.
        function: String,
        /// The request.
        request: RequestId,
        /// The component that should have emitted the result, if it is known.
        component: Option<String>,
    },
    /// The topology that served the function went away.
    ServerLost {
        /// The function.
        function: String,
        /// The request.
        request: RequestId,
        /// How often the request had been handed to a topology.
        deliveries: u32,
        /// Whether the function forbids a second delivery.
        at_most_once: bool,
    },
    /// The caller cancelled the request, or left.
    Cancelled {
        /// The function.
        function: String,
        /// The request.
        request: RequestId,
    },
    /// A streamed result came faster than its caller read it.
    ReaderTooSlow {
        /// The function.
        function: String,
        /// The request.
        request: RequestId,
        /// How many parts may wait for the caller.
        parts_max: usize,
    },
    /// The result is no text, but text was asked for.
    NotText {
        /// The function.
        function: String,
        /// The request.
        request: RequestId,
        /// How many bytes at the result's begin are text.
        valid_up_to: usize,
    },
    /// The DRPC server is shutting down.
    ShuttingDown {
        /// The function.
        function: String,
    },
}

impl DrpcError {
    /// The function that was called.
    pub fn function(&self) -> &str {
        match self {
            DrpcError::UnknownFunction { function, .. }
            | DrpcError::Busy { function, .. }
            | DrpcError::TimedOut { function, .. }
            | DrpcError::Failed { function, .. }
            | DrpcError::NoResult { function, .. }
            | DrpcError::ServerLost { function, .. }
            | DrpcError::Cancelled { function, .. }
            | DrpcError::ReaderTooSlow { function, .. }
            | DrpcError::NotText { function, .. }
            | DrpcError::ShuttingDown { function } => function,
        }
    }

    /// Whether the same call may well succeed later, or at another server.
    pub fn is_retryable(&self) -> bool {
        match self {
            DrpcError::Busy { .. }
            | DrpcError::TimedOut { .. }
            | DrpcError::ServerLost { .. }
            | DrpcError::ShuttingDown { .. } => true,
            DrpcError::UnknownFunction { .. }
            | DrpcError::Failed { .. }
            | DrpcError::NoResult { .. }
            | DrpcError::Cancelled { .. }
            | DrpcError::ReaderTooSlow { .. }
            | DrpcError::NotText { .. } => false,
        }
    }
}

impl std::error::Error for DrpcError {}

impl fmt::Display for DrpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DrpcError::UnknownFunction { function, known } => unknown(f, function, known),
            DrpcError::Busy { function, waiting, in_flight } => write!(
                f,
                "function `{function}` is busy: {waiting} requests wait and {in_flight} are in its \
                 topologies; call again later, or raise `waiting_max`"
            ),
            DrpcError::TimedOut { function, request, allowed, delivered } => {
                let place = if *delivered {
                    "it was in a topology"
                } else {
                    "it still waited for a topology with room"
                };
                write!(
                    f,
                    "request {request} to function `{function}` not answered within {allowed:?}; \
                     {place} (`deadline`)"
                )
            }
            DrpcError::Failed { function, request, message } => {
                write!(f, "function `{function}` failed on request {request}: {message}")
            }
            DrpcError::NoResult { function, request, component } => {
                write!(f, "function `{function}` finished request {request} without a result")?;
                match component {
                    Some(component) => write!(f, "; component `{component}` emitted none"),
                    None => Ok(()),
                }
            }
            DrpcError::ServerLost { function, request, deliveries, at_most_once } => {
                lost(f, function, *request, *deliveries, *at_most_once)
            }
            DrpcError::Cancelled { function, request } => {
                write!(f, "request {request} to function `{function}` was cancelled by its caller")
            }
            DrpcError::ReaderTooSlow { function, request, parts_max } => write!(
                f,
                "request {request} to function `{function}` stopped: {parts_max} parts of its \
                 result wait to be read; read faster, or raise `parts_max`"
            ),
            DrpcError::NotText { function, request, valid_up_to } => write!(
                f,
                "the result of function `{function}` for request {request} is not text: byte \
                 {valid_up_to} is not UTF-8; use `execute_bytes`"
            ),
            DrpcError::ShuttingDown { function } => {
                write!(f, "function `{function}` gave no result: the DRPC server is shutting down")
            }
        }
    }
}

fn unknown(f: &mut fmt::Formatter<'_>, function: &str, known: &[String]) -> fmt::Result {
    write!(f, "unknown function `{function}`")?;
    if known.is_empty() {
        return write!(f, "; no topology serves any: submit one first");
    }
    write!(f, "{}", Hint::new(function, known.iter().map(String::as_str)))
}

fn lost(
    f: &mut fmt::Formatter<'_>,
    function: &str,
    request: RequestId,
    deliveries: u32,
    at_most_once: bool,
) -> fmt::Result {
    write!(f, "server lost: ")?;
    match deliveries {
        0 => write!(
            f,
            "no topology serves function `{function}` any more; request {request} had not been \
             delivered"
        ),
        _ if at_most_once => write!(
            f,
            "the topology that had request {request} went away, and function `{function}` forbids \
             a second delivery (`at_most_once`)"
        ),
        1 => write!(
            f,
            "the topology that had request {request} went away, and no other serves function \
             `{function}`"
        ),
        more => write!(
            f,
            "{more} topologies that had request {request} to function `{function}` went away one \
             after the other (`deliveries_max`)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestId = RequestId(7);

    #[test]
    fn every_error_names_the_thing_and_the_lever() {
        let f = || String::from("reach");
        let cases = [
            (
                DrpcError::UnknownFunction {
                    function: "raech".into(),
                    known: vec![f(), "x".into()],
                },
                "unknown function `raech`; did you mean `reach`? (known: `reach`, `x`)",
            ),
            (
                DrpcError::UnknownFunction { function: f(), known: Vec::new() },
                "unknown function `reach`; no topology serves any: submit one first",
            ),
            (
                DrpcError::Busy { function: f(), waiting: 100, in_flight: 20 },
                "function `reach` is busy: 100 requests wait and 20 are in its topologies; call \
                 again later, or raise `waiting_max`",
            ),
            (
                DrpcError::TimedOut {
                    function: f(),
                    request: REQUEST,
                    allowed: Duration::from_millis(1_500),
                    delivered: false,
                },
                "request 7 to function `reach` not answered within 1.5s; it still waited for a \
                 topology with room (`deadline`)",
            ),
            (
                DrpcError::Failed {
                    function: f(),
                    request: REQUEST,
                    message: "no such table".into(),
                },
                "function `reach` failed on request 7: no such table",
            ),
            (
                DrpcError::NoResult {
                    function: f(),
                    request: REQUEST,
                    component: Some("sum".into()),
                },
                "function `reach` finished request 7 without a result; component `sum` emitted none",
            ),
            (
                DrpcError::ServerLost {
                    function: f(),
                    request: REQUEST,
                    deliveries: 1,
                    at_most_once: true,
                },
                "server lost: the topology that had request 7 went away, and function `reach` \
                 forbids a second delivery (`at_most_once`)",
            ),
            (
                DrpcError::Cancelled { function: f(), request: REQUEST },
                "request 7 to function `reach` was cancelled by its caller",
            ),
            (
                DrpcError::ReaderTooSlow { function: f(), request: REQUEST, parts_max: 10 },
                "request 7 to function `reach` stopped: 10 parts of its result wait to be read; \
                 read faster, or raise `parts_max`",
            ),
            (
                DrpcError::NotText { function: f(), request: REQUEST, valid_up_to: 3 },
                "the result of function `reach` for request 7 is not text: byte 3 is not UTF-8; use \
                 `execute_bytes`",
            ),
            (
                DrpcError::ShuttingDown { function: f() },
                "function `reach` gave no result: the DRPC server is shutting down",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_name_unlike_all_others_gets_no_suggestion() {
        let error =
            DrpcError::UnknownFunction { function: "zzz".into(), known: vec!["reach".into()] };
        assert_eq!(error.to_string(), "unknown function `zzz` (known: `reach`)");
    }
}
