//! `wait` and timeouts.

mod common;

use std::time::Duration;

use common::{SOON, await_in, let_out, pass, session};
use raybolt::{ObjectRef, Result, get, get_timeout, put, remote, wait};

const NOT_LONG: Option<Duration> = Some(Duration::from_millis(1));

#[remote]
fn held(place: &str) -> u64 {
    pass(place);
    1
}

#[remote]
fn quick() -> u64 {
    2
}

#[remote]
fn fails() -> Result<u64, String> {
    Err("no".into())
}

#[test]
fn four_of_five_are_ready() -> Result<()> {
    let _session = session();
    let slow = held::remote("four");
    await_in("four", 1);
    let objects = [quick::remote(), slow, quick::remote(), quick::remote(), quick::remote()];
    let (ready, remaining) = wait(&objects, 4, Some(SOON))?;
    assert_eq!(ready, [&objects[..1], &objects[2..]].concat(), "in the order of the arguments");
    assert_eq!(remaining, [objects[1].clone()]);
    let_out("four");
    let (ready, remaining) = wait(&objects, 5, Some(SOON))?;
    assert_eq!((ready.len(), remaining.len()), (5, 0));
    Ok(())
}

#[test]
fn what_is_ready_at_the_timeout_is_told() -> Result<()> {
    let _session = session();
    let objects = [held::remote("timeout"), quick::remote()];
    await_in("timeout", 1);
    get(&objects[1])?;
    let (ready, remaining) = wait(&objects, 2, NOT_LONG)?;
    assert_eq!((ready, remaining), (vec![objects[1].clone()], vec![objects[0].clone()]));
    let_out("timeout");
    Ok(())
}

#[test]
fn no_more_than_asked_for_are_ready() -> Result<()> {
    let _session = session();
    let objects = (0..5).map(put).collect::<Result<Vec<_>>>()?;
    let (ready, remaining) = wait(&objects, 2, None)?;
    assert_eq!((&*ready, &*remaining), (&objects[..2], &objects[2..]));
    Ok(())
}

#[test]
fn an_error_is_ready() -> Result<()> {
    let _session = session();
    let objects = [held::remote("error"), fails::remote()];
    let (ready, _) = wait(&objects, 1, Some(SOON))?;
    assert_eq!(ready, [objects[1].clone()]);
    let_out("error");
    Ok(())
}

#[test]
fn the_same_reference_may_come_twice() -> Result<()> {
    let _session = session();
    let object = held::remote("twice");
    await_in("twice", 1);
    let twice = [object.clone(), object.clone()];
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| wait(&twice, 2, Some(SOON)));
        let_out("twice");
        assert_eq!(waits.join().unwrap()?.0.len(), 2);
        Ok(())
    })
}

#[test]
fn results_are_taken_as_they_come() -> Result<()> {
    let _session = session();
    let mut left: Vec<_> = (0..100).map(|_| quick::remote()).collect();
    let mut sum = 0;
    while !left.is_empty() {
        let (ready, remaining) = wait(&left, 1, Some(SOON))?;
        sum += get(ready)?.iter().sum::<u64>();
        left = remaining;
    }
    assert_eq!(sum, 200);
    Ok(())
}

#[test]
fn the_number_must_fit() {
    let _session = session();
    let objects = [quick::remote(), quick::remote()];
    for n in [0, 3] {
        let text = format!("`num_returns` must be from 1 to the number of objects, 2, not {n}");
        assert_eq!(wait(&objects, n, None).unwrap_err().to_string(), text);
    }
    let none: [ObjectRef<u64>; 0] = [];
    let text = "`num_returns` must be from 1 to the number of objects, 0, not 1";
    assert_eq!(wait(&none, 1, None).unwrap_err().to_string(), text);
}

#[remote]
fn takes(x: u64) -> u64 {
    x
}

#[test]
fn a_get_that_gives_up_says_what_it_waits_for() -> Result<()> {
    let _session = session();
    let millisecond = Duration::from_millis(1);
    let object = held::remote("gives up");
    await_in("gives up", 1);
    let error = get_timeout(&object, millisecond).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("{object} was not there within 1ms (`timeout`): task-")),
        "{text}"
    );
    assert!(text.contains(" `held` is running on thread raybolt-"), "{text}");
    assert!(error.is_timeout());
    let dependent = takes::remote(&object);
    let error = get_timeout(&dependent, millisecond).unwrap_err().to_string();
    let because = format!("`takes` waits for its argument {object}; task-");
    assert!(error.contains(&because) && error.contains(" `held` is running"), "{error}");
    let_out("gives up");
    assert_eq!(get_timeout(&dependent, SOON)?, 1, "the task went on");
    assert_eq!(get_timeout((&object, &dependent), SOON)?, (1, 1));
    Ok(())
}
