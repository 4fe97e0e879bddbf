//! Generators: tasks and calls that return streams.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{await_count, await_in, count, let_out, pass, reach, session, session_with};
use raybolt::{Array, Builder, RefStream, Result, Value, errors, get, memory, put, remote};
use serde::{Deserialize, Serialize, Serializer};

const NOT_LONG: Duration = Duration::from_millis(1);

#[remote]
fn numbers(from: u64, to: u64) -> impl Iterator<Item = u64> {
    from..to
}

fn values<T: Value>(stream: RefStream<T>) -> Result<Vec<T>> {
    stream.map(|item| get(item?)).collect()
}

#[test]
fn items_come_in_order_and_then_none() -> Result<()> {
    let _session = session();
    let mut stream = numbers::remote(0, 3);
    let items: Vec<_> = stream.by_ref().map(|item| get(item?)).collect::<Result<_>>()?;
    assert_eq!(items, [0, 1, 2]);
    assert!(stream.next().is_none() && stream.next().is_none());
    assert_eq!(values(numbers::remote(0, 10_000))?.len(), 10_000);
    assert_eq!(values(numbers::remote(3, 3))?, [0; 0]);
    Ok(())
}

#[remote]
fn double(x: u64) -> u64 {
    2 * x
}

#[test]
fn items_are_objects_like_others() -> Result<()> {
    let _session = session();
    let doubled: Vec<_> =
        numbers::remote(1, 4).map(|item| Ok(double::remote(item?))).collect::<Result<_>>()?;
    assert_eq!(get(&doubled)?, [2, 4, 6]);
    Ok(())
}

/// Endless: tells how many it has made, and when it is dropped.
struct Source {
    place: String,
    made: u64,
}

impl Iterator for Source {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.made += 1;
        reach(&format!("{} made", self.place));
        Some(self.made)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        reach(&format!("{} dropped", self.place));
    }
}

#[remote]
fn source(place: String) -> impl Iterator<Item = u64> {
    Source { place, made: 0 }
}

#[remote]
fn reaches(place: &str) {
    reach(place);
}

#[test]
fn a_full_stream_holds_its_generator_but_no_cpu() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0));
    let mut stream = source::options().stream_buffer(3).remote("full");
    assert_eq!(get(stream.next().unwrap()?)?, 1);
    // The only CPU is free when the generator waits for room.
    get(&reaches::remote("full other"))?;
    let made = count("full made");
    assert!(made <= 1 + 3 + 1, "{made} items were made");
    assert_eq!(get(stream.next().unwrap()?)?, 2);
    Ok(())
}

#[test]
fn dropping_a_stream_stops_its_generator() {
    let _session = session();
    let mut stream = source::options().stream_buffer(2).remote("stops");
    assert!(stream.next().is_some());
    drop(stream);
    await_count("stops dropped", 1);
    // One that nobody reads waits for room, which is the same to it.
    let stream = source::options().stream_buffer(1).remote("unread");
    await_count("unread made", 2);
    drop(stream);
    await_count("unread dropped", 1);
}

#[remote]
fn held(place: &str) {
    pass(place);
}

#[test]
fn a_generator_that_nobody_wants_any_more_does_not_begin() -> Result<()> {
    let _session = session_with(Builder::new().num_cpus(1.0));
    let first = held::remote("begin");
    await_in("begin", 1);
    drop(source::remote("begin source"));
    let_out("begin");
    get(&first)?;
    get(&reaches::remote("begin after"))?;
    assert_eq!(count("begin source made"), 0);
    Ok(())
}

#[remote]
fn panics_at(n: u64) -> impl Iterator<Item = u64> {
    (0..).inspect(move |i| assert!(*i < n, "no further"))
}

#[remote]
fn fails_at(n: u64) -> impl Iterator<Item = Result<u64, String>> {
    (0..).map(move |i| if i < n { Ok(i) } else { Err(format!("not {i}")) })
}

#[remote]
fn may_not_begin(well: bool) -> Result<impl Iterator<Item = u64>, String> {
    if well { Ok(0..2) } else { Err("not at all".into()) }
}

#[test]
fn what_a_generator_fails_with_is_its_last_item() -> Result<()> {
    let _session = session();
    let texts = |stream: RefStream<u64>| -> Vec<String> {
        let text = |item: Result<_>| match item.and_then(get) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        stream.map(text).collect()
    };
    assert_eq!(texts(fails_at::remote(2)), ["0", "1", "task `fails_at` failed: not 2"]);
    let panicked = texts(panics_at::remote(1));
    assert_eq!((panicked.len(), &*panicked[0]), (2, "0"));
    assert!(panicked[1].starts_with("task `panics_at` panicked at "), "{}", panicked[1]);
    assert!(panicked[1].ends_with(": no further"), "{}", panicked[1]);
    let named = may_not_begin::options().name("shy").remote(false);
    assert_eq!(texts(named), ["task `shy` failed: not at all"]);
    assert_eq!(texts(may_not_begin::remote(true)), ["0", "1"]);
    assert_eq!(errors()?.len(), 3);
    Ok(())
}

static ATTEMPTS: AtomicU64 = AtomicU64::new(0);

#[remote]
fn gets_further() -> impl Iterator<Item = Result<u64, String>> {
    let limit = 2 * (ATTEMPTS.fetch_add(1, Ordering::Relaxed) + 1);
    (0..5).map(move |i| if i < limit { Ok(i) } else { Err(format!("not {i} yet")) })
}

#[test]
fn another_attempt_goes_on_where_the_last_one_ended() -> Result<()> {
    let _session = session();
    let stream = gets_further::options().retry_on(|error| error.message.ends_with("yet")).remote();
    assert_eq!(values(stream)?, [0, 1, 2, 3, 4]);
    Ok(())
}

#[test]
fn a_stream_can_be_awaited() -> Result<()> {
    let running = session();
    let sum = running.session.block_on(async {
        let mut stream = numbers::options().stream_buffer(2).remote(0, 100);
        let mut sum = 0;
        while let Some(item) = stream.next_async().await {
            sum += item?.await?;
        }
        Ok::<_, raybolt::Error>(sum)
    })?;
    assert_eq!(sum, 4_950);
    Ok(())
}

#[remote]
fn gated(place: String) -> impl Iterator<Item = u64> {
    (0..2).inspect(move |i| {
        if *i == 1 {
            pass(&place);
        }
    })
}

#[test]
fn who_gives_up_on_an_item_may_ask_again() -> Result<()> {
    let _session = session();
    let mut stream = gated::remote("gated");
    assert_eq!(get(stream.next().unwrap()?)?, 0);
    await_in("gated", 1);
    let error = stream.next_timeout(NOT_LONG).unwrap().unwrap_err();
    let text = error.to_string();
    let start = "the next item of a stream was not there within 1ms (`timeout`): task-";
    assert!(text.starts_with(start) && text.contains(" `gated` is running on thread"), "{text}");
    let_out("gated");
    assert_eq!(get(stream.next().unwrap()?)?, 1);
    assert!(stream.next().is_none());
    Ok(())
}

#[test]
fn a_deadline_ends_a_stream() -> Result<()> {
    let _session = session();
    let mut deadline = Duration::from_millis(20);
    loop {
        let options = source::options().stream_buffer(1).deadline(deadline);
        let stream = options.remote("deadline");
        while memory()?.tasks > 0 {
            std::thread::yield_now(); // Nobody reads, and yet it ends.
        }
        let items: Vec<_> = stream.collect();
        let last = items.last().unwrap().as_ref().unwrap_err();
        let text = format!("task `source` did not end within {deadline:?} (`deadline`)");
        assert_eq!(last.to_string(), text);
        if count("deadline made") > 0 {
            break;
        }
        deadline *= 2; // It was over before the generator began.
    }
    await_count("deadline dropped", 1);
    Ok(())
}

#[test]
fn the_end_of_a_session_ends_its_streams() {
    let running = session();
    let stream = source::options().stream_buffer(1).remote("session");
    await_count("session made", 2);
    drop(running);
    await_count("session dropped", 1);
    let last = stream.last().unwrap().unwrap_err();
    assert_eq!(last.to_string(), "the session ended before the rest of a stream was there");
}

#[remote]
fn windows(numbers: &[u64], size: usize) -> impl Iterator<Item = Array<u64>> {
    numbers.windows(size).map(|window| window.to_vec().into())
}

#[test]
fn a_generator_may_borrow_its_arguments() -> Result<()> {
    let _session = session();
    let windows = values(windows::remote(put(vec![1, 2, 3])?, 2))?;
    assert_eq!(windows, [Array::from(vec![1, 2]), vec![2, 3].into()]);
    Ok(())
}

/// A value that will not be written.
#[derive(Clone, Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a secret stays where it is"))
    }
}

#[remote]
fn secrets() -> impl Iterator<Item = Secret> {
    std::iter::repeat(Secret)
}

#[test]
fn an_item_that_cannot_travel_ends_the_stream() {
    let _session = session();
    let error = secrets::remote().next().unwrap().unwrap_err();
    let text = "`secrets`: a value of type `streams::Secret` cannot be serialized: a secret stays \
                where it is";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_bound_of_none_is_refused() {
    let _session = session();
    let mut stream = numbers::options().stream_buffer(0).remote(0, 1);
    let error = stream.next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "`stream_buffer` must be at least 1");
    assert!(stream.next().is_none());
}

#[test]
fn nothing_is_left_of_streams() -> Result<()> {
    let _session = session();
    assert_eq!(values(numbers::remote(0, 100))?.len(), 100);
    let mut stream = source::options().stream_buffer(5).remote("left");
    assert!(stream.next().is_some());
    drop(stream);
    await_count("left dropped", 1);
    while (memory()?.objects, memory()?.tasks, memory()?.bytes) != (0, 0, 0) {
        std::thread::yield_now(); // Its last attempt is about to be reported.
    }
    Ok(())
}
