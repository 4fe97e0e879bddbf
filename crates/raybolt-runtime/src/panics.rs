//! Turns panics of user code into errors: message, place and stack, without a word on stderr.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::TaskError;

#[derive(Default)]
struct Capture {
    /// How many `catch` calls are on this thread's stack.
    depth: u32,
    place: Option<(String, String)>,
}

thread_local! {
    static CAPTURE: RefCell<Capture> = RefCell::default();
}

/// Runs user code; a panic becomes an error that names the task.
pub(crate) fn catch<R>(
    task: &str,
    attempt: u32,
    run: impl FnOnce() -> R,
) -> Result<R, Box<TaskError>> {
    install_hook();
    CAPTURE.with_borrow_mut(|capture| capture.depth += 1);
    // The closure's state is user data behind locks that notice a panic, or is dropped with it.
    let result = catch_unwind(AssertUnwindSafe(run));
    let place = CAPTURE.with_borrow_mut(|capture| {
        capture.depth -= 1;
        if result.is_err() { capture.place.take() } else { None }
    });
    result.map_err(|payload| {
        let (location, backtrace) = place.unzip();
        Box::new(TaskError {
            task: task.into(),
            attempt,
            message: message(payload),
            causes: Vec::new(),
            location: location.or_else(|| Some("an unknown place".into())),
            backtrace,
        })
    })
}

/// Drops what is the user's; a panic on the way is recorded in the name of the task.
pub(crate) fn drop_here<T>(task: &str, value: T) {
    if let Err(error) = catch(task, 0, || drop(value)) {
        crate::failures::record(&error, true);
    }
}

/// The text of a panic. Dropping a payload may panic too, so one that is no text is leaked.
fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<&'static str>() {
        Ok(text) => (*text).into(),
        Err(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => {
                std::mem::forget(payload);
                "a panic without a text".into()
            }
        },
    }
}

/// Panics elsewhere go to the hook that was there before.
fn install_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = CAPTURE.with_borrow_mut(|capture| {
                if capture.depth > 0 {
                    let location = info.location().map(ToString::to_string).unwrap_or_default();
                    capture.place =
                        Some((location, own_frames(&Backtrace::force_capture().to_string())));
                }
                capture.depth > 0
            });
            if !ours {
                previous(info);
            }
        }));
    });
}

/// The frames of user code: what lies between the machinery of panics and ours. Where neither can be
/// told apart, since the build has no names, all of them.
fn own_frames(backtrace: &str) -> String {
    let mut frames: Vec<String> = Vec::new();
    for line in backtrace.lines() {
        let number = line.trim_start().split(':').next().unwrap_or_default();
        let begins = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        match frames.last_mut() {
            Some(frame) if !begins => {
                frame.push('\n');
                frame.push_str(line);
            }
            _ => frames.push(line.to_owned()),
        }
    }
    let of_panics = |frame: &&String| {
        ["panicking::", "begin_unwind", "begin_panic", "short_backtrace"]
            .iter()
            .any(|name| frame.contains(name))
    };
    let ours =
        |frame: &&String| frame.contains("raybolt_runtime") || frame.contains("raybolt-runtime");
    let own = frames.iter().skip_while(|frame| !of_panics(frame)).skip_while(of_panics);
    let own: Vec<&str> = own.take_while(|frame| !ours(frame)).map(String::as_str).collect();
    if own.is_empty() { backtrace.to_owned() } else { own.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_cut_to_the_frames_of_the_user() {
        let frames = [
            "   0: raybolt_runtime::panics::install_hook::{{closure}}",
            "   1: std::panicking::rust_panic_with_hook",
            "   2: __rustc::rust_begin_unwind",
            "             at /rustc/library/std/src/panicking.rs:689:5",
            "   3: app::deep",
            "             at ./src/main.rs:7:5",
            "   4: app::task",
            "   5: raybolt_runtime::context::enter",
            "   6: std::panicking::catch_unwind",
        ];
        assert_eq!(own_frames(&frames.join("\n")), frames[4..7].join("\n"));
        assert_eq!(own_frames("   0: <unknown>"), "   0: <unknown>");
        assert_eq!(own_frames(""), "");
    }

    #[test]
    fn a_panic_is_caught_with_its_place() {
        let error = catch("f", 2, || panic!("no {}", "luck")).unwrap_err();
        assert_eq!(error.message, "no luck");
        assert!(error.location.unwrap().contains("panics.rs:"));
        assert!(error.backtrace.unwrap().contains("a_panic_is_caught_with_its_place"));
        assert_eq!(catch("f", 0, || 1).unwrap(), 1);
    }
}
