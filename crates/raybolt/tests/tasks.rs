//! Tasks: what is passed, what is returned, and how it is asked for.

mod common;

use common::{await_in, let_out, pass, session};
use raybolt::{Array, ObjectRef, Result, Strategy, Value, get, memory, put, remote};
use serde::{Deserialize, Serialize};

#[remote]
fn square(x: u64) -> u64 {
    x * x
}

#[remote]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[test]
fn a_remote_function_is_still_a_function() {
    assert_eq!(square(3), 9);
}

#[test]
fn a_value_comes_back() -> Result<()> {
    let _session = session();
    assert_eq!(get(&square::remote(3))?, 9);
    assert_eq!(get(square::remote(4))?, 16);
    Ok(())
}

#[test]
fn references_make_a_graph() -> Result<()> {
    let _session = session();
    let (a, b) = (square::remote(3), square::remote(4));
    let c = add::remote(&a, b);
    let d = add::remote(&c, 1);
    assert_eq!(get((&a, &c, &d))?, (9, 25, 26));
    Ok(())
}

#[remote(num_returns = 2)]
fn parts((a, b): (u64, u64), words: &[String], name: &str) -> Result<(u64, String), String> {
    if words.is_empty() { Err("no words".into()) } else { Ok((a + b, format!("{name}{words:?}"))) }
}

#[test]
fn several_returns_are_objects_of_their_own() -> Result<()> {
    let _session = session();
    let words = put(vec!["x".to_owned()])?;
    let (sum, text) = parts::options().num_cpus(2.0).name("p").remote((1, 2), &words, "y");
    assert_eq!(get(&square::remote(&sum))?, 9);
    assert_eq!(get(&text)?, r#"y["x"]"#);
    let (sum, text) = parts::remote((1, 2), Vec::new(), "y");
    let (one, other) = (get(&sum).unwrap_err(), get(&text).unwrap_err());
    assert_eq!(one.to_string(), "task `parts` failed: no words");
    assert_eq!(other.to_string(), one.to_string());
    Ok(())
}

#[remote]
fn largest<T: Ord + Value>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

#[remote]
fn repeat<T, const N: usize>(value: &T) -> Vec<T>
where
    T: Value,
{
    vec![value.clone(); N]
}

#[test]
fn functions_may_be_generic() -> Result<()> {
    let _session = session();
    assert_eq!(get(&largest::remote(vec![1, 3, 2_u8]))?, Some(3));
    assert_eq!(get(&largest::remote::<String>(Vec::new()))?, None);
    let words = put(vec!["a".to_owned(), "b".to_owned()])?;
    assert_eq!(get(&largest::options().name("max").remote(&words))?, Some("b".to_owned()));
    assert_eq!(get(&repeat::remote::<_, 3>(7))?, [7, 7, 7]);
    Ok(())
}

#[remote]
async fn later(later: u64) -> Result<u64> {
    square::remote(later).await
}

#[remote]
async fn total(numbers: &[u64]) -> u64 {
    numbers.iter().sum()
}

#[test]
fn functions_may_be_async_and_await_references() -> Result<()> {
    let running = session();
    assert_eq!(get(&later::remote(3))?, 9);
    assert_eq!(get(&total::remote(vec![1, 2]))?, 3);
    let sum = running.session.block_on(async {
        let (a, b) = (later::remote(2), later::remote(3));
        Ok::<_, raybolt::Error>(a.await? + (&b).await?)
    })?;
    assert_eq!(sum, 13);
    Ok(())
}

#[test]
fn functions_may_stand_within_functions() -> Result<()> {
    #[remote]
    fn inner(inner: u64) -> u64 {
        inner + 1
    }

    let _session = session();
    assert_eq!(get(&inner::remote(1))?, 2);
    Ok(())
}

#[remote]
fn nothing() {}

#[remote]
fn r#type(r#fn: u64) -> u64 {
    r#fn
}

#[remote]
#[allow(clippy::too_many_arguments, reason = "it shows how many there may be")]
fn twelve(
    a: u8,
    b: u8,
    c: u8,
    d: u8,
    e: u8,
    f: u8,
    g: u8,
    h: u8,
    i: u8,
    j: u8,
    k: u8,
    l: u8,
) -> u8 {
    a + b + c + d + e + f + g + h + i + j + k + l
}

#[test]
fn from_no_arguments_to_twelve() -> Result<()> {
    let _session = session();
    get(&nothing::remote())?;
    assert_eq!(get(&r#type::remote(1))?, 1);
    assert_eq!(get(&twelve::remote(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1))?, 12);
    Ok(())
}

#[remote]
fn place(numbers: &[u64]) -> usize {
    numbers.as_ptr() as usize
}

#[test]
fn a_borrowed_argument_is_not_copied() -> Result<()> {
    let _session = session();
    let numbers = vec![1, 2, 3];
    let original = numbers.as_ptr() as usize;
    let numbers = put(numbers)?;
    let places = [place::remote(&numbers), place::remote(&numbers)];
    assert_eq!(get(&places)?, [original, original]);
    Ok(())
}

#[remote]
fn into_place(numbers: Vec<u64>) -> usize {
    numbers.as_ptr() as usize
}

#[test]
fn an_argument_that_nobody_else_holds_is_moved() -> Result<()> {
    let _session = session();
    let numbers = vec![1, 2, 3];
    let original = numbers.as_ptr() as usize;
    assert_eq!(get(&into_place::remote(numbers))?, original);
    let numbers = put(vec![1, 2, 3])?;
    let shared = get(&place::remote(&numbers))?;
    assert_ne!(get(&into_place::remote(&numbers))?, shared, "others can still reach it");
    assert_eq!(get(&into_place::remote(numbers))?, shared);
    Ok(())
}

#[test]
fn get_of_an_array_copies_nothing() -> Result<()> {
    let _session = session();
    let array: Array<f64> = vec![1.5; 1_000].into();
    let object = put(array.clone())?;
    let (one, other) = (get(&object)?, get(&object)?);
    assert_eq!(one.as_ptr(), array.as_ptr());
    assert_eq!(other.as_ptr(), array.as_ptr());
    let bytes = memory()?.bytes;
    assert!((8_000..8_032).contains(&bytes), "{bytes} bytes of one array");
    Ok(())
}

#[test]
fn put_once_is_one_copy_and_ten_values_are_ten() -> Result<()> {
    let _session = session();
    let text = "hello".to_owned();
    let calls: Vec<_> = (0..10).map(|_| length::remote(text.clone())).collect();
    get(&calls)?;
    assert_eq!(memory()?.copies, 10);
    let object = put(text)?;
    let calls: Vec<_> = (0..10).map(|_| length::remote(&object)).collect();
    get(&calls)?;
    assert_eq!(memory()?.copies, 11);
    Ok(())
}

#[remote]
fn length(text: &str) -> usize {
    text.len()
}

#[test]
fn ten_puts_come_back_in_order() -> Result<()> {
    let _session = session();
    let objects = (0..10).map(put).collect::<Result<Vec<_>>>()?;
    assert_eq!(get(&objects)?, (0..10).collect::<Vec<_>>());
    assert_eq!(get(objects)?, (0..10).collect::<Vec<_>>());
    Ok(())
}

#[remote]
fn held(place: &str) -> u64 {
    pass(place);
    7
}

/// A reference in a container.
#[derive(Clone, Serialize, Deserialize)]
struct Order {
    objects: Vec<ObjectRef<u64>>,
}

#[remote]
fn looks(order: Order) -> Result<(bool, Order)> {
    let was_ready = order.objects[0].is_ready();
    let_out("container");
    get(&order.objects)?;
    Ok((was_ready, order))
}

#[test]
fn a_reference_in_a_container_is_not_resolved() -> Result<()> {
    let _session = session();
    let object = held::remote("container");
    await_in("container", 1);
    let (was_ready, order) = get(&looks::remote(Order { objects: vec![object.clone()] }))?;
    assert!(!was_ready, "the task did not wait for what is inside");
    assert!(order.objects[0] == object, "it is the same object");
    Ok(())
}

#[remote]
fn makes_one(x: u64) -> ObjectRef<u64> {
    square::remote(x)
}

#[remote]
fn reads(object: ObjectRef<u64>) -> Result<u64> {
    get(object)
}

#[test]
fn there_are_references_of_references() -> Result<()> {
    let _session = session();
    let outer: ObjectRef<ObjectRef<u64>> = makes_one::remote(3);
    let inner: ObjectRef<u64> = get(&outer)?;
    assert_eq!(get(&inner)?, 9);
    // The outer one is resolved, for it is an argument itself; the inner one is what arrives.
    assert_eq!(get(&reads::remote(&outer))?, 9);
    assert_eq!(get(&reads::remote(put(inner)?))?, 9);
    Ok(())
}

#[remote(num_cpus = 0.5, num_gpus = 0, max_retries = 5, name = "other", resources(disk = 1.0))]
fn settled() -> Result<(), String> {
    Err("always".into())
}

#[test]
fn the_attribute_gives_the_usual_options() {
    let _session = common::session_with(raybolt::Builder::new().resource("disk", 1.0));
    let error = get(&settled::remote()).unwrap_err();
    assert_eq!(error.to_string(), "task `other` failed: always");
    let error = get(&settled::options().resource("disk", 2.0).remote()).unwrap_err();
    let text =
        "`other` can never run: it needs disk: 2, the largest node has 1 (`Builder::resource`)";
    assert_eq!(error.to_string(), text);
}

#[test]
fn every_strategy_leads_to_this_node() -> Result<()> {
    let _session = session();
    assert_eq!(get(&square::options().strategy(Strategy::Spread).remote(3))?, 9);
    assert_eq!(get(&square::options().strategy(Strategy::Default).max_retries(0).remote(3))?, 9);
    Ok(())
}

#[test]
fn references_are_shown_with_their_state() -> Result<()> {
    let _session = session();
    let object = held::remote("shown");
    assert!(format!("{object:?}").ends_with(", pending)"), "{object:?}");
    let_out("shown");
    get(&object)?;
    assert!(format!("{object:?}").ends_with(", ready)"), "{object:?}");
    let failed = settled::options().resource("disk", 1.0).remote();
    assert!(format!("{failed:?}").ends_with(", failed)"), "{failed:?}");
    Ok(())
}
