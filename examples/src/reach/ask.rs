//! Starts the topology and asks it: one question, or all of them with many in flight.

use std::collections::VecDeque;
use std::num::ParseIntError;
use std::sync::Arc;

use raybolt::drpc::{DrpcBuildError, DrpcError, LocalDrpc, Pending};
use raybolt::topology::{Config, LocalCluster, SubmitError};
use thiserror::Error;

use super::Data;
use super::topology::{FUNCTION, topology};

/// How to run the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many requests may be in flight at once.
    pub in_flight: usize,
    /// How many threads work; one per core if not given.
    pub threads: Option<usize>,
    /// No bolt gets more instances than this.
    pub max_parallelism: Option<usize>,
}

impl Default for Options {
    /// A thousand in flight hide the way of each; far more would only fill the processor's caches.
    fn default() -> Options {
        Options { in_flight: 1_000, threads: None, max_parallelism: None }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] DrpcError),
    /// The topology answered with something else than a number.
    #[error("the reach is no number: {0}")]
    Number(#[from] ParseIntError),
}

/// A running topology that knows the reach of every key.
pub struct Reach {
    data: Arc<Data>,
    drpc: LocalDrpc,
    in_flight: usize,
    /// Ends the topology when it is dropped.
    _cluster: LocalCluster,
}

/// Why the topology could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// It was not described well.
    #[error(transparent)]
    Build(#[from] DrpcBuildError),
    /// The cluster refused it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Reach {
    /// Starts the topology on this data.
    ///
    /// # Errors
    /// When the topology is refused, as with no instances at all.
    pub fn start(data: Arc<Data>, options: Options) -> Result<Reach, StartError> {
        let Options { in_flight, threads, max_parallelism } = options;
        let drpc = LocalDrpc::new();
        let cluster = threads.map_or_else(LocalCluster::new, LocalCluster::with_threads);
        let config = Config { max_task_parallelism: max_parallelism, ..Config::default() };
        cluster.submit(FUNCTION, config, topology(&data, &drpc)?)?;
        Ok(Reach { data, drpc, in_flight: in_flight.max(1), _cluster: cluster })
    }

    /// The reach of one key; 0 if nobody tweeted it.
    ///
    /// # Errors
    /// When the call fails.
    pub fn ask(&self, key: &str) -> Result<u64, AskError> {
        Ok(self.drpc.execute(FUNCTION, key)?.parse()?)
    }

    /// The reach of every key, by its number, in order.
    ///
    /// # Errors
    /// When a call fails.
    pub fn ask_all(&self, mut answered: impl FnMut(u32, u64)) -> Result<(), AskError> {
        let keys = self.data.keys();
        let mut asked = 0..keys.len() as u32;
        let mut next = 0;
        let mut pending: VecDeque<Pending<String>> = VecDeque::with_capacity(self.in_flight);
        loop {
            while pending.len() < self.in_flight
                && let Some(key) = asked.next()
            {
                pending.push_back(self.drpc.submit(FUNCTION, keys.name(key)));
            }
            let Some(first) = pending.pop_front() else { return Ok(()) };
            answered(next, first.wait()?.parse()?);
            next += 1;
        }
    }
}
