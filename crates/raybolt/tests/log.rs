//! The log: what nobody waits for is heard of, through the program's own subscriber too.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use raybolt::{Result, errors, get, remote};

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[remote]
fn fails_unheard() {
    panic!("This task failed!!");
}

#[test]
fn a_panic_that_nobody_waits_for_is_logged_with_its_stack() -> Result<()> {
    let kept = Kept::default();
    let writer = kept.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let _session = raybolt::init()?; // The subscriber that is there stays.
    let task = fails_unheard::remote();
    while errors()?.is_empty() {
        std::thread::yield_now(); // Waiting for the task itself would make it heard.
    }
    let error = get(&task).unwrap_err();
    let text = String::from_utf8(kept.0.lock().unwrap().clone()).expect("logs are text");
    assert!(text.contains(&format!("ERROR raybolt: {error}")), "{text}");
    assert!(text.contains("log::fails_unheard") || text.contains("fails_unheard\n"), "{text}");
    assert!(!text.contains("raybolt_runtime::"), "only frames of the user are shown: {text}");
    Ok(())
}
