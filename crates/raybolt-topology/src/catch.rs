//! Turns panics of user code into messages with their place.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// How many [`caught`] calls are on this thread's stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs user code; a panic becomes the error `panicked at FILE:LINE:COLUMN: MESSAGE`.
pub fn caught<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(run));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic whose payload is no text");
        let place = PLACE.take().unwrap_or_else(|| "an unknown place".into());
        format!("panicked at {place}: {message}")
    })
}

/// The place of a panic is known to the hook only. Ours keeps it for panics that are caught here,
/// and leaves all others to the hook that was there before.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if DEPTH.get() == 0 {
                previous(info);
            } else {
                PLACE.set(info.location().map(ToString::to_string));
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_place() {
        let line = line!() + 1;
        let error = caught(|| panic!("no {}", "bolt")).unwrap_err();
        assert!(error.starts_with("panicked at crates/raybolt-topology/src/catch.rs:"), "{error}");
        assert!(error.contains(&format!(":{line}:")) && error.ends_with(": no bolt"), "{error}");
        assert_eq!(caught(|| 7), Ok(7));
    }
}
