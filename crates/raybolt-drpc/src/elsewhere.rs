//! Calls from worker processes of functions that no topology there serves: the servers are in the driver's.
//!
//! # Protocol
//! A worker has its driver's process run [`serve`], which looks for a server there whose topologies serve
//! the function, calls it, and sends the outcome back.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use raybolt_core::drpc::{DrpcError, Outcome};
use raybolt_core::ids::RequestId;
use raybolt_runtime::call::in_driver;
use serde::{Deserialize, Serialize};

use crate::local::{CallOptions, LocalDrpc, WeakDrpc};
use crate::pending::{Call, Pending, Reply};

/// The servers of this process, oldest first.
static SERVERS: Mutex<Vec<WeakDrpc>> = Mutex::new(Vec::new());

#[derive(Serialize, Deserialize)]
struct Asked {
    function: String,
    args: Vec<u8>,
    deadline: Option<Duration>,
}

/// A server that workers may ask.
pub(crate) fn offer(drpc: &LocalDrpc) {
    let mut servers = servers();
    servers.retain(|server| server.upgrade().is_some());
    servers.push(drpc.downgrade());
}

/// Begins a call in the driver's process.
pub(crate) fn submit<T: Reply>(
    function: &str,
    args: Bytes,
    deadline: Option<Duration>,
) -> Pending<T> {
    let call = Arc::new(Call::new());
    let (answered, name) = (call.clone(), function.to_owned());
    let lost = move |message: String| DrpcError::Failed {
        function: name.clone(),
        request: RequestId(0),
        message,
    };
    let asked = Asked { function: function.into(), args: args.into(), deadline };
    let input = || raybolt_wire::value::encode(&asked).unwrap_or_default();
    in_driver(serve, input, move |output| {
        let outcome = output.map_err(|error| lost(error.to_string())).and_then(|output| {
            let outcome = raybolt_wire::value::decode::<Result<Vec<u8>, DrpcError>>(&output);
            outcome.map_err(|error| lost(error.to_string())).flatten()
        });
        answered.answer(match outcome {
            Ok(bytes) => Outcome::Result(bytes.into()),
            Err(error) => Outcome::Failed(error),
        });
    });
    Pending::elsewhere(call, function)
}

/// Calls a function of this process's servers for a worker.
fn serve(input: &[u8]) -> Vec<u8> {
    let outcome: Result<Vec<u8>, DrpcError> = match raybolt_wire::value::decode::<Asked>(input) {
        Ok(asked) => call(asked).map(Vec::from),
        Err(error) => Err(DrpcError::Failed {
            function: "?".into(),
            request: RequestId(0),
            message: error.to_string(),
        }),
    };
    raybolt_wire::value::encode(&outcome).unwrap_or_default()
}

fn call(Asked { function, args, deadline }: Asked) -> Result<Bytes, DrpcError> {
    let servers: Vec<_> = servers().iter().filter_map(WeakDrpc::upgrade).collect();
    let serves = |drpc: &&LocalDrpc| drpc.functions().contains(&function);
    let drpc = servers.iter().find(serves).or(servers.last()).cloned().unwrap_or_default();
    let options = CallOptions { deadline };
    drpc.submit_with::<Bytes>(&function, args, options).wait()
}

fn servers() -> MutexGuard<'static, Vec<WeakDrpc>> {
    SERVERS.lock().expect("no thread panics with this lock")
}
