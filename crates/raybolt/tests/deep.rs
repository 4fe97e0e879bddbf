//! Many tasks that wait for each other, on few CPUs; and what is left of them.

mod common;

use common::{await_in, let_out, pass, session};
use raybolt::{ObjectRef, Result, get, get_timeout, memory, put, remote, wait};

#[remote]
fn nested(depth: u64) -> Result<u64> {
    match depth {
        0 => Ok(0),
        depth => Ok(1 + get(nested::remote(depth - 1))?),
    }
}

#[test]
fn tasks_nest_a_thousand_deep() -> Result<()> {
    let _session = session();
    assert_eq!(get_timeout(&nested::remote(1_000), common::SOON)?, 1_000);
    assert_eq!(get(&nested::remote(1_000))?, 1_000, "also when the caller takes part");
    Ok(())
}

#[remote]
async fn nested_async(depth: u64) -> Result<u64> {
    match depth {
        0 => Ok(0),
        depth => Ok(1 + nested_async::remote(depth - 1).await?),
    }
}

#[test]
fn async_tasks_nest_ten_thousand_deep() -> Result<()> {
    let _session = session();
    assert_eq!(get_timeout(&nested_async::remote(10_000), common::SOON)?, 10_000);
    Ok(())
}

#[remote]
fn held(place: &str) -> u64 {
    pass(place);
    1
}

#[remote]
fn waits_for(objects: Vec<ObjectRef<u64>>) -> Result<u64> {
    get(&objects[0])
}

#[test]
fn ten_thousand_parents_wait_for_one_object_on_two_cpus() -> Result<()> {
    let _session = session();
    let object = held::remote("parents");
    await_in("parents", 1);
    let inside = put(vec![object])?;
    let parents: Vec<_> = (0..10_000).map(|_| waits_for::remote(&inside)).collect();
    while memory()?.threads.1 < 9_999 {
        std::thread::yield_now(); // Until all but the last few of them wait.
    }
    let_out("parents");
    assert_eq!(get(&parents)?.iter().sum::<u64>(), 10_000);
    Ok(())
}

#[remote]
fn next(x: u64) -> u64 {
    x + 1
}

#[remote]
fn fails() -> Result<u64, String> {
    Err("at the root".into())
}

#[test]
fn a_chain_of_a_hundred_thousand_tasks_ends() -> Result<()> {
    let _session = session();
    let chain = |first: ObjectRef<u64>| (0..100_000).fold(first, |last, _| next::remote(last));
    assert_eq!(get(&chain(put(0)?))?, 100_000);
    let error = get(&chain(fails::remote())).unwrap_err();
    assert_eq!(error.to_string(), "task `fails` failed: at the root");
    Ok(())
}

#[remote]
fn sum(numbers: Vec<ObjectRef<u64>>) -> Result<u64> {
    Ok(get(&numbers)?.iter().sum())
}

#[test]
fn ten_thousand_references_in_one_object() -> Result<()> {
    let _session = session();
    let numbers = (0..10_000).map(put).collect::<Result<Vec<_>>>()?;
    let object = put(numbers)?;
    assert_eq!(get(&sum::remote(&object))?, 49_995_000);
    Ok(())
}

#[test]
fn when_all_is_dropped_nothing_is_left() -> Result<()> {
    let _session = session();
    let kept = put(vec![1_u8; 1_000])?;
    let mut numbers: Vec<_> = (0..1_000).map(next::remote).collect();
    numbers.push(fails::remote());
    let last = numbers.iter().fold(put(0)?, |_, number| next::remote(number));
    let nested = put(vec![put(7)?])?;
    wait(&numbers, numbers.len(), None)?;
    let _ = get(&last);
    let report = memory()?;
    assert!(report.objects > 1_000 && report.bytes > 9_000, "{report:?}");
    drop((numbers, last, nested));
    while memory()?.tasks > 0 {
        std::thread::yield_now(); // Tasks that nobody waited for.
    }
    let report = memory()?;
    assert_eq!((report.objects, report.bytes), (1, 1_008), "{report:?}");
    drop(kept);
    let report = memory()?;
    assert_eq!((report.objects, report.bytes), (0, 0), "{report:?}");
    Ok(())
}
