//! What code in a worker has its driver do, and waits for: reports, and what only the driver has.
//!
//! # Protocol
//! An errand is data. In a worker it goes to the driver, where it runs on a thread of the pool (it may wait
//! there), and its answer comes back as an object's value. Anywhere else it runs at once, on the spot.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::get;
use crate::error::{Error, Kind, Result};
use crate::session::{self, Place};

/// Something that is done where the driver is.
pub(crate) trait Errand: Serialize + DeserializeOwned {
    /// What comes back.
    type Answer: Serialize + DeserializeOwned;

    /// Does it, in the driver's process.
    fn run(self) -> Result<Self::Answer>;
}

/// Has it done, and waits for the answer.
///
/// # Errors
/// Without a session, and what the errand says.
pub(crate) fn run<E: Errand>(errand: E) -> Result<E::Answer> {
    let asked = session::with(|session| match &session.place {
        Place::Here | Place::Workers(_) => Ok(None),
        Place::Driver(upstream) => {
            let input = raybolt_wire::value::encode(&errand).map_err(|error| unsent(&error))?;
            upstream.ask_and_wait(session.epoch, serve::<E>, &input).map(Some)
        }
    })??;
    match asked {
        None => errand.run(),
        Some(answer) => {
            let answer = raybolt_wire::value::decode::<Result<E::Answer>>(&get(answer)?);
            answer.map_err(|error| unsent(&error))?
        }
    }
}

fn serve<E: Errand>(input: &[u8]) -> Vec<u8> {
    let errand = raybolt_wire::value::decode::<E>(input).map_err(|error| unsent(&error));
    let answer = errand.and_then(E::run);
    raybolt_wire::value::encode(&answer).unwrap_or_else(|error| {
        let answer: Result<E::Answer> = Err(unsent(&error));
        raybolt_wire::value::encode(&answer).expect("errors are data")
    })
}

fn unsent(error: &dyn std::error::Error) -> Error {
    let (task, because) = ("a question to the driver".into(), error.to_string());
    Error::new(Kind::Encode { task, because })
}
