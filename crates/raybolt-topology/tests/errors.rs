//! What is refused at submit, and in which words.

mod common;

use common::*;
use raybolt_topology::*;

type Number = (u64,);

/// A topology that is right, for `change` to spoil.
fn refused(change: impl FnOnce(&mut TopologyBuilder)) -> String {
    let (tell, _seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given([(1u64,)]), 1);
    builder.set_bolt("tell", tell, 1).shuffle_grouping("numbers");
    change(&mut builder);
    let cluster = LocalCluster::with_threads(1);
    match cluster.submit("refused", Config::default(), builder) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.to_string(),
    }
}

fn sink() -> Tell<Number> {
    tell().0
}

#[test]
fn an_unknown_component_is_named_with_the_nearest() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1).shuffle_grouping("nmubers");
    });
    assert_eq!(
        error,
        "bolt `sink` subscribes to unknown component `nmubers`; did you mean `numbers`? \
         (known: `numbers`, `tell`)"
    );
}

#[test]
fn an_unknown_stream_is_named_with_the_known_ones() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1).all_grouping_on("numbers", "odd");
    });
    assert_eq!(
        error,
        "bolt `sink` subscribes to unknown stream `odd` of component `numbers` (known: `default`)"
    );
}

#[test]
fn an_unknown_field_is_named_with_the_known_ones() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1).fields_grouping("numbers", ["number"]);
    });
    assert_eq!(
        error,
        "bolt `sink` groups stream `default` of component `numbers` by unknown field `number` \
         (known: `0`)"
    );
}

#[test]
fn the_fields_of_dynamic_tuples_have_to_be_declared() {
    let error = refused(|b| {
        b.set_spout("values", given([values![1]]), 1);
        b.set_bolt("sink", sink(), 1).fields_grouping("values", ["number"]);
    });
    assert!(
        error.starts_with(
            "bolt `sink` groups stream `default` of component `values` by unknown field `number`"
        ),
        "{error}"
    );
}

#[test]
fn a_grouping_by_no_field_is_refused() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1).fields_grouping("numbers", []);
    });
    assert_eq!(
        error,
        "bolt `sink` groups stream `default` of component `numbers` by no field; name one, or use \
         `global_grouping`"
    );
}

#[test]
fn a_bolt_without_input_is_refused() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1);
    });
    assert_eq!(
        error,
        "bolt `sink` has no input; give it a grouping, such as `shuffle_grouping(..)`"
    );
}

#[test]
fn a_component_without_instances_is_refused() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 0).shuffle_grouping("numbers");
    });
    assert_eq!(error, "component `sink` has parallelism 0; give it at least 1");
}

#[test]
fn a_component_that_is_declared_twice_is_refused() {
    let error = refused(|b| {
        b.set_bolt("tell", sink(), 1).shuffle_grouping("numbers");
    });
    assert_eq!(error, "component `tell` is declared twice; ids are unique within a topology");
}

#[test]
fn a_cycle_is_refused() {
    let pass = apply(|number: Number, out: &mut Collector<Number>| {
        out.emit(number);
        Ok(())
    });
    let error = refused(|b| {
        let other = pass.clone();
        b.set_bolt("a", pass, 1).shuffle_grouping("numbers").shuffle_grouping("b");
        b.set_bolt("b", other, 1).shuffle_grouping("a");
    });
    assert_eq!(
        error,
        "components form a cycle: a -> b -> a; a topology must be acyclic, so remove one of these \
         inputs"
    );
}

#[test]
fn a_topology_without_a_spout_is_refused() {
    let cluster = LocalCluster::with_threads(1);
    let error = cluster.submit("empty", Config::default(), TopologyBuilder::new()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "topology has no spout; add one, since nothing else brings tuples in"
    );
}

#[test]
fn a_stream_of_another_type_is_refused_naming_both() {
    let (words, _seen) = tell::<(String,)>();
    let error = refused(|b| {
        b.set_bolt("words", words, 1).shuffle_grouping("numbers");
    });
    assert_eq!(
        error,
        "bolt `words` takes `(alloc::string::String,)`, but stream `default` of component \
         `numbers` carries `(u64,)`; make them the same type, or let one be `Values`"
    );
}

#[test]
fn a_custom_grouping_of_another_type_is_refused_naming_both() {
    let choose = |_: &(String,), _: usize, _: &mut Vec<usize>| {};
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1).custom_grouping("numbers", choose);
    });
    assert_eq!(
        error,
        "bolt `sink` groups stream `default` of component `numbers` by a function of \
         `(alloc::string::String,)`, but the stream carries `(u64,)`"
    );
}

#[test]
fn direct_grouping_needs_a_direct_stream() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1).direct_grouping_on("numbers", "default");
    });
    assert_eq!(
        error,
        "bolt `sink` uses direct grouping on stream `default` of component `numbers`, which is not \
         direct; declare the stream as direct, or use another grouping"
    );
}

#[test]
fn bad_names_are_refused() {
    let error = refused(|b| {
        b.set_bolt("a/b", sink(), 1).shuffle_grouping("numbers");
    });
    assert_eq!(
        error,
        "component name `a/b` is not valid; use at least one character, and none of `/` `.` `:` `\\`"
    );
    let error = refused(|b| {
        b.set_bolt("__me", sink(), 1).shuffle_grouping("numbers");
    });
    assert_eq!(error, "component name `__me` begins with `__`, which is reserved; choose another");
    let cluster = LocalCluster::with_threads(1);
    let error = cluster.submit("a.b", Config::default(), TopologyBuilder::new()).err().unwrap();
    assert!(error.to_string().starts_with("topology name `a.b` is not valid"), "{error}");
}

fn small() -> TopologyBuilder {
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given([(1u64,)]), 1);
    builder
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("count", Config::default(), small()).unwrap();
    let error = cluster.submit("count", Config::default(), small()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "topology `count` is running already; choose another name, or kill it first"
    );
}

#[test]
fn a_rebalance_that_is_not_possible_is_refused() {
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("count", Config::default(), small()).unwrap();
    assert_eq!(
        handle.rebalance("number", 2).unwrap_err().to_string(),
        "topology `count` has no component `number`; did you mean `numbers`? (known: `numbers`)"
    );
    assert_eq!(
        handle.rebalance("numbers", 0).unwrap_err().to_string(),
        "component `numbers` has parallelism 0; give it at least 1"
    );
    assert_eq!(handle.stats().status, Status::Active);
    handle.kill(LONG);
    assert_eq!(
        handle.rebalance("numbers", 2).unwrap_err().to_string(),
        "topology `count` is killed; nothing was changed"
    );
}

#[test]
fn a_bolt_that_would_be_ticked_all_the_time_is_refused() {
    let error = refused(|b| {
        b.set_bolt("sink", sink(), 1)
            .shuffle_grouping("numbers")
            .tick_every(std::time::Duration::ZERO);
    });
    assert_eq!(error, "bolt `sink` has a tick period of 0; give it at least a millisecond");
}
