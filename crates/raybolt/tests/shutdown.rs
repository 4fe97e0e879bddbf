//! A session that ends while user code does not return.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use raybolt::{get, remote};

static GATE: Mutex<Option<(Sender<()>, Receiver<()>)>> = Mutex::new(None);

#[remote]
fn stay() -> u64 {
    let (started, gate) = GATE.lock().unwrap().take().expect("one task takes it");
    started.send(()).unwrap();
    let _ = gate.recv(); // Until the test is over.
    1
}

#[test]
fn who_waits_for_a_task_that_does_not_return_is_told_when_the_session_ends() {
    let session = raybolt::init().unwrap();
    let (started, start) = channel();
    let (release, gate) = channel();
    *GATE.lock().unwrap() = Some((started, gate));
    let object = stay::remote();
    start.recv().unwrap();
    let id = object.to_string();
    let waiting = std::thread::spawn(move || get(&object));
    // The waiting thread may come late: then it finds no session, which is a reason too.
    drop(session);
    let error = waiting.join().unwrap().unwrap_err().to_string();
    let ended = format!("the session ended before {id} was there");
    assert!(error == ended || error.starts_with("raybolt is not running here"), "{error}");
    drop(release);
}
