//! Arrow's record batches over processes: read where they lie, here and in workers.
//!
//! A program of its own, since its workers are this very file started again.

#![allow(clippy::print_stdout, reason = "this is a program")]

#[path = "common/cases.rs"]
mod cases;

use std::process::ExitCode;
use std::sync::Arc;

use raybolt::arrow::Batch;
use raybolt::arrow::arrow_array::cast::AsArray;
use raybolt::arrow::arrow_array::types::Float64Type;
use raybolt::arrow::arrow_array::{Float64Array, RecordBatch, StringArray};
use raybolt::{Builder, LogLevel, Result, get, put, remote};

use cases::{Case, Harness};

const CASES: &[Case<Result<()>>] = &[
    ("what is put here is read where it lies, here and in a worker", put_here),
    ("what a worker returns is read where it lies, here and in a worker", returned),
    ("small ones and parts of values travel too", small_and_nested),
];

fn main() -> ExitCode {
    let session = Builder::new().processes(2).num_cpus(2.0).log_level(LogLevel::Off).start();
    let _session = session.expect("the session starts");
    let mut harness = Harness::new();
    harness.all(CASES);
    harness.end()
}

fn table(rows: u32) -> Batch {
    let numbers = Float64Array::from_iter_values((0..rows).map(f64::from));
    let words = StringArray::from_iter_values((0..rows).map(|row| format!("row {row}")));
    let columns = [("number", Arc::new(numbers) as _), ("word", Arc::new(words) as _)];
    RecordBatch::try_from_iter(columns).expect("columns of one length").into()
}

fn numbers(batch: &Batch) -> &[f64] {
    batch.column(0).as_primitive::<Float64Type>().values()
}

#[remote]
fn made(rows: u32) -> Batch {
    table(rows)
}

#[remote]
fn sum(batch: &Batch) -> f64 {
    numbers(batch).iter().sum()
}

/// Whether both are the same memory, numbers and text.
#[remote]
fn is_same(one: &Batch, other: &Batch) -> bool {
    are_same(one, other)
}

fn are_same(one: &Batch, other: &Batch) -> bool {
    let text = |batch: &Batch| batch.column(1).as_string::<i32>().value_data().as_ptr().addr();
    numbers(one).as_ptr() == numbers(other).as_ptr() && text(one) == text(other)
}

fn put_here() -> Result<()> {
    let table = table(100_000);
    let object = put(table.clone())?;
    let (one, other) = (get(&object)?, get(&object)?);
    assert_eq!(one, table);
    assert!(are_same(&one, &other), "nobody copies it");
    assert!(!are_same(&one, &table), "it lies in the store");
    assert!(get(is_same::remote(&object, &object))?, "nor does a worker");
    drop(object);
    assert_eq!(one, other, "it stays as long as it is read");
    Ok(())
}

fn returned() -> Result<()> {
    let object = made::remote(100_000);
    let (one, other) = (get(&object)?, get(&object)?);
    assert_eq!(one, table(100_000));
    assert!(are_same(&one, &other), "nobody copies it");
    assert!(get(is_same::remote(&object, &object))?, "nor does another worker");
    assert_eq!(get(sum::remote(&object))?, numbers(&one).iter().sum::<f64>());
    Ok(())
}

#[remote]
fn turned((one, name, other): (Batch, String, Batch)) -> (Batch, String, Batch) {
    (other, name, one)
}

fn small_and_nested() -> Result<()> {
    for (few, many) in [(0, 3), (2_000, 100_000)] {
        let (few, many) = (table(few), table(many));
        let back = get(turned::remote((few.clone(), "both".into(), many.clone())))?;
        assert_eq!(back, (many, "both".into(), few));
    }
    Ok(())
}
