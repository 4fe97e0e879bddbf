//! Where tuples go: each grouping, named streams, and what converts.

mod common;

use std::collections::BTreeMap;

use common::*;
use raybolt_topology::*;

type Number = (u64,);
type Reader<'b> = BoltDeclarer<'b, Number, Tell<Number>>;

/// Which instance saw which numbers, of `count` emitted to four instances.
fn spread(
    count: u64,
    read: impl for<'b> FnOnce(Reader<'b>) -> Reader<'b>,
    deliveries: usize,
) -> BTreeMap<usize, Vec<u64>> {
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given((0..count).map(|n| (n,))), 1);
    read(builder.set_bolt("tell", tell, 4));
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("spread", Config::default(), builder).unwrap();
    let mut spread = BTreeMap::<usize, Vec<u64>>::new();
    for Seen { instance, tuple } in take(&seen, deliveries) {
        spread.entry(instance).or_default().push(tuple.0);
    }
    drop(cluster);
    assert_over(&seen);
    spread
}

#[test]
fn shuffle_gives_each_instance_its_turn_in_order() {
    let spread = spread(4_000, |bolt| bolt.shuffle_grouping("numbers"), 4_000);
    assert_eq!(spread.len(), 4);
    for numbers in spread.values() {
        assert_eq!(numbers.len(), 1_000);
        assert!(numbers.is_sorted(), "batches of one producer stay in order");
    }
}

#[test]
fn local_or_shuffle_and_none_are_even_too() {
    let local = spread(400, |bolt| bolt.local_or_shuffle_grouping("numbers"), 400);
    let none = spread(400, |bolt| bolt.none_grouping("numbers"), 400);
    assert!(local.values().chain(none.values()).all(|numbers| numbers.len() == 100));
}

#[test]
fn equal_fields_meet_at_one_instance() {
    let (tell, seen) = tell::<(String, u64)>();
    let mut builder = TopologyBuilder::new();
    let words = (0..9_000u64).map(|n| (format!("word{}", n % 30), n));
    builder.set_spout("words", given(words), 1);
    builder.set_bolt("tell", tell, 4).fields_grouping("words", ["0"]);
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("fields", Config::default(), builder).unwrap();
    let mut homes = BTreeMap::new();
    for Seen { instance, tuple } in take(&seen, 9_000) {
        assert_eq!(*homes.entry(tuple.0).or_insert(instance), instance);
    }
    let used: std::collections::BTreeSet<_> = homes.values().collect();
    assert_eq!((homes.len(), used.len()), (30, 4));
}

#[test]
fn partial_key_spreads_one_key_over_two_instances() {
    let (tell, seen) = tell::<(String,)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("words", given((0..1_000).map(|_| ("same".to_owned(),))), 1);
    builder.set_bolt("tell", tell, 4).partial_key_grouping("words", ["0"]);
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("partial", Config::default(), builder).unwrap();
    let mut counts = BTreeMap::<usize, usize>::new();
    for Seen { instance, .. } in take(&seen, 1_000) {
        *counts.entry(instance).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [500, 500]);
}

#[test]
fn all_gives_every_instance_everything() {
    let spread = spread(1_500, |bolt| bolt.all_grouping("numbers"), 6_000);
    let everything: Vec<u64> = (0..1_500).collect();
    assert_eq!(spread.into_values().collect::<Vec<_>>(), vec![everything; 4]);
}

#[test]
fn global_gives_the_first_instance_everything() {
    let spread = spread(100, |bolt| bolt.global_grouping("numbers"), 100);
    assert_eq!(spread, BTreeMap::from([(0, (0..100).collect())]));
}

#[test]
fn a_custom_grouping_chooses_any_number_of_instances() {
    let choose = |tuple: &Number, instances: usize, chosen: &mut Vec<usize>| {
        match tuple.0 % 3 {
            0 => {}                                      // Nobody.
            1 => chosen.extend([0, instances - 1, 999]), // Two, and one that does not exist.
            _ => chosen.push(1),
        }
    };
    let spread = spread(9, |bolt| bolt.custom_grouping("numbers", choose), 9);
    assert_eq!(
        spread,
        BTreeMap::from([(0, vec![1, 4, 7]), (1, vec![2, 5, 8]), (3, vec![1, 4, 7])])
    );
}

#[test]
fn several_subscriptions_are_several_deliveries() {
    let spread = spread(4, |bolt| bolt.shuffle_grouping("numbers").global_grouping("numbers"), 8);
    assert_eq!(spread.values().map(Vec::len).sum::<usize>(), 8);
}

/// Sends even numbers to stream `even`, and each number to the instance it names on `direct`.
#[derive(Clone)]
struct Sort;

impl Bolt for Sort {
    type In = Number;
    type Out = ();

    fn declare_outputs(&self, outputs: &mut Outputs<()>) {
        outputs.stream::<(String,)>("even").direct_stream::<Number>("direct");
    }

    fn execute(&mut self, (number,): Number, out: &mut Collector<()>) -> Result<(), BoltError> {
        if number.is_multiple_of(2) {
            out.emit_on("even", (number.to_string(),));
        }
        out.emit_direct("direct", number as usize % 2, (number,));
        Ok(())
    }
}

#[test]
fn named_and_direct_streams_have_their_own_types_and_readers() {
    let (tell_even, even) = tell::<(String,)>();
    let (tell_direct, direct) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given((0..6u64).map(|n| (n,))), 1);
    builder.set_bolt("sort", Sort, 1).shuffle_grouping("numbers");
    builder.set_bolt("even", tell_even, 1).shuffle_grouping_on("sort", "even");
    builder.set_bolt("direct", tell_direct, 2).direct_grouping_on("sort", "direct");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("streams", Config::default(), builder).unwrap();
    let texts: Vec<_> = take(&even, 3).into_iter().map(|seen| seen.tuple.0).collect();
    assert_eq!(texts, ["0", "2", "4"]);
    for Seen { instance, tuple } in take(&direct, 6) {
        assert_eq!(instance as u64, tuple.0 % 2);
    }
}

#[test]
fn an_emit_on_a_stream_that_is_not_declared_is_an_error_that_names_it() {
    let (tell, _seen) = tell::<Number>();
    let wrong = apply(|number: Number, out: &mut Collector<Number>| {
        match number.0 {
            0 => out.emit_on("odd", number),
            1 => out.emit_on("default", ("text".to_owned(),)),
            _ => out.emit_direct("default", 0, number),
        }
        Ok(())
    });
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given((0..3u64).map(|n| (n,))), 1);
    builder.set_bolt("wrong", wrong, 1).shuffle_grouping("numbers");
    builder.set_bolt("tell", tell, 1).shuffle_grouping("wrong");
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("wrong", Config::default(), builder).unwrap();
    until("three errors", || handle.stats().errors_total == 3);
    let errors: Vec<_> = handle.stats().errors.into_iter().map(|error| error.message).collect();
    assert!(errors[0].ends_with("`wrong` has not declared a stream `odd`, only `default`"));
    assert!(
        errors[1].ends_with(
            "stream `default` of `wrong` carries `(u64,)`, not `(alloc::string::String,)`"
        ),
        "{errors:?}"
    );
    assert!(
        errors[2].ends_with(
            "direct emit on stream `default`: the consumer does not use direct grouping; \
             emit without naming an instance"
        ),
        "{errors:?}"
    );
}

#[test]
fn dynamic_and_typed_bolts_read_each_other() {
    let (tell, seen) = tell::<(String, u64)>();
    let to_values = apply(|values: Values, out: &mut Collector<Values>| {
        out.emit(values![values.str(0).unwrap_or("?"), values.i64(1).unwrap_or(0) + 1]);
        Ok(())
    });
    let mut builder = TopologyBuilder::new();
    builder.set_spout("typed", given([("a".to_owned(), 1u64), ("b".to_owned(), 2)]), 1);
    builder.set_bolt("dynamic", to_values, 1).fields_grouping("typed", ["1"]);
    builder.set_bolt("tell", tell, 1).shuffle_grouping("dynamic");
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("convert", Config::default(), builder).unwrap();
    let tuples: Vec<_> = take(&seen, 2).into_iter().map(|seen| seen.tuple).collect();
    assert_eq!(tuples, [("a".to_owned(), 2), ("b".to_owned(), 3)]);
}

#[test]
fn a_join_of_a_typed_and_a_dynamic_stream_meets_its_keys() {
    #[derive(Clone)]
    struct Named(Given<Values>);
    impl Spout for Named {
        type Out = Values;
        fn declare_outputs(&self, outputs: &mut Outputs<Values>) {
            outputs.fields(["key", "text"]);
        }
        fn next_tuple(&mut self, out: &mut SpoutCollector<Values>) -> Next {
            self.0.next_tuple(out)
        }
    }
    let (tell, seen) = tell::<Values>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("typed", given((0..50u64).map(|n| (n as u32, 1u8))), 1);
    builder.set_spout("dynamic", Named(given((0..50u64).map(|n| values![n, "x"]))), 1);
    builder
        .set_bolt("join", tell, 4)
        .fields_grouping("typed", ["0"])
        .fields_grouping("dynamic", ["key"]);
    let cluster = LocalCluster::with_threads(2);
    cluster.submit("join", Config::default(), builder).unwrap();
    let mut homes = BTreeMap::new();
    for Seen { instance, tuple } in take(&seen, 100) {
        let key = tuple.i64(0).unwrap();
        assert_eq!(*homes.entry(key).or_insert(instance), instance, "key {key}");
    }
}

#[test]
fn a_tuple_knows_where_it_comes_from() {
    let source = apply(|_: Number, out: &mut Collector<(String,)>| {
        let source = out.source().expect("a tuple is at hand");
        let text = format!("{} {} {}", source.component, source.stream, source.instance);
        out.emit((text,));
        Ok(())
    });
    let (tell, seen) = tell::<(String,)>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given([(1u64,)]), 1);
    builder.set_bolt("source", source, 1).shuffle_grouping("numbers");
    builder.set_bolt("tell", tell, 1).shuffle_grouping("source");
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("source", Config::default(), builder).unwrap();
    assert_eq!(take(&seen, 1)[0].tuple.0, "numbers default 0");
}

#[test]
fn a_custom_grouping_that_panics_fails_the_tuple_and_goes_on() {
    let choose = |tuple: &Number, _: usize, chosen: &mut Vec<usize>| {
        assert!(tuple.0 != 2, "no choice for 2");
        chosen.push(3);
    };
    let pass = apply(|number: Number, out: &mut Collector<Number>| {
        out.emit(number);
        Ok(())
    });
    let (tell, seen) = tell::<Number>();
    let mut builder = TopologyBuilder::new();
    builder.set_spout("numbers", given((0..5u64).map(|n| (n,))), 1);
    builder.set_bolt("pass", pass, 1).shuffle_grouping("numbers");
    builder.set_bolt("tell", tell, 4).custom_grouping("pass", choose);
    let cluster = LocalCluster::with_threads(1);
    let handle = cluster.submit("choose", Config::default(), builder).unwrap();
    let seen: Vec<_> = take(&seen, 4).iter().map(|it| (it.instance, it.tuple.0)).collect();
    assert_eq!(seen, [(3, 0), (3, 1), (3, 3), (3, 4)]);
    assert!(handle.stats().errors[0].message.ends_with("no choice for 2"));
}

#[test]
fn a_field_that_panics_while_it_converts_fails_the_tuple_and_nothing_else() {
    #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
    struct Moody(u64);
    impl Field for Moody {
        fn into_value(self) -> Value {
            assert!(self.0 != 1, "not in the mood");
            Value::from(self.0)
        }
    }
    let (tell, seen) = tell::<Values>();
    let (spout, fates) = followed((0..3).map(|n| (Moody(n),)));
    let mut builder = TopologyBuilder::new();
    builder.set_spout("moody", spout, 1);
    builder.set_bolt("tell", tell, 1).shuffle_grouping("moody");
    let cluster = LocalCluster::with_threads(1);
    cluster.submit("moody", Config::default(), builder).unwrap();
    let values: Vec<_> = take(&seen, 2).into_iter().map(|it| it.tuple).collect();
    assert_eq!(values, [values![0], values![2]]);
    let failed = take(&fates, 3).into_iter().find(|fate| !matches!(fate, Fate::Acked(_)));
    let Some(Fate::Failed(1, reason)) = failed else { panic!("{failed:?}") };
    assert!(reason.ends_with("not in the mood"), "{reason}");
}
