//! Every mistake with its text, and what a plan says.

use std::time::Duration;

use super::*;

fn stream(id: &str, fields: &[&str]) -> OutputStream {
    let fields = fields.iter().map(|&field| field.to_owned()).collect();
    OutputStream { id: id.to_owned(), fields, carries: typed("Word"), direct: false }
}

fn typed(name: &str) -> TupleType {
    TupleType { name: name.to_owned(), dynamic: false }
}

fn reads(component: &str, grouping: Grouping) -> Subscription {
    let (component, stream) = (component.to_owned(), DEFAULT_STREAM.to_owned());
    Subscription { component, stream, grouping }
}

fn spout(id: &str) -> Component {
    Component { outputs: vec![stream(DEFAULT_STREAM, &["word"])], ..Component::spout(id) }
}

/// A bolt that reads the default streams of `inputs` by shuffle and emits on its own.
fn bolt(id: &str, inputs: &[&str]) -> Component {
    Component {
        outputs: vec![stream(DEFAULT_STREAM, &["word", "count"])],
        inputs: inputs.iter().map(|&input| reads(input, Grouping::Shuffle)).collect(),
        takes: Some(typed("Word")),
        ..Component::bolt(id)
    }
}

fn bolt_with(id: &str, input: &str, grouping: Grouping) -> Component {
    Component { inputs: vec![reads(input, grouping)], ..bolt(id, &[]) }
}

fn graph(components: Vec<Component>) -> Graph {
    Graph { components, options: Options::default() }
}

fn error_of(components: Vec<Component>) -> String {
    graph(components).plan().expect_err("the graph is wrong").to_string()
}

fn by(field: &str) -> Grouping {
    Grouping::Fields(vec![field.to_owned()])
}

fn indexes(numbers: &[u16]) -> Vec<ComponentIndex> {
    numbers.iter().copied().map(ComponentIndex).collect()
}

#[test]
fn a_plan_numbers_instances_over_components_in_order_of_declaration() {
    let words = Component { parallelism: 2, ..spout("words") };
    let count = Component { parallelism: 3, ..bolt("count", &["words"]) };
    let plan = graph(vec![words, count]).plan().unwrap();
    assert_eq!(plan.instances(), 5);
    assert_eq!(plan.instance(ComponentIndex(1), InstanceIndex(2)), InstanceId(4));
    assert_eq!(plan.locate(InstanceId(1)), Some((ComponentIndex(0), InstanceIndex(1))));
    assert_eq!(plan.locate(InstanceId(2)), Some((ComponentIndex(1), InstanceIndex(0))));
    assert_eq!(plan.locate(InstanceId(5)), None);
    assert_eq!(plan.find("count"), Some(ComponentIndex(1)));
    assert_eq!(plan.find("other"), None);
}

#[test]
fn max_task_parallelism_caps_the_instances_of_each_component() {
    let mut graph = graph(vec![
        Component { parallelism: 9, ..spout("words") },
        Component { parallelism: 2, ..bolt("count", &["words"]) },
    ]);
    graph.options.max_task_parallelism = Some(3);
    let plan = graph.plan().unwrap();
    assert_eq!(plan.component(ComponentIndex(0)).instances, 3);
    assert_eq!(plan.component(ComponentIndex(1)).instances, 2);
    assert_eq!(plan.component(ComponentIndex(1)).first_instance, InstanceId(3));
}

#[test]
fn the_order_puts_every_component_after_its_upstream_ones() {
    let plan = graph(vec![
        bolt("join", &["left", "right"]),
        bolt("left", &["words"]),
        spout("words"),
        bolt("right", &["words", "left"]),
    ])
    .plan()
    .unwrap();
    assert_eq!(plan.order(), indexes(&[2, 1, 3, 0]));
}

#[test]
fn edges_carry_the_positions_of_key_fields() {
    let mut total = bolt("total", &["count"]);
    total.inputs.push(reads("count", by("count")));
    total.inputs.push(reads("words", Grouping::PartialKey(vec!["word".to_owned()])));
    let plan = graph(vec![spout("words"), bolt("count", &["words"]), total]).plan().unwrap();
    let keys: Vec<_> = plan.edges_into(ComponentIndex(2)).map(|e| e.key_fields.clone()).collect();
    assert_eq!(keys, [vec![], vec![1], vec![0]]);
    assert_eq!(plan.edges_from(ComponentIndex(1)).count(), 2);
    assert_eq!(plan.downstream(ComponentIndex(1)), indexes(&[2]));
    assert_eq!(plan.downstream(ComponentIndex(0)), indexes(&[1, 2]));
}

#[test]
fn a_plan_tells_the_batch_machine_its_graph() {
    let total = Component { wants_finished: true, ..bolt("total", &["words"]) };
    let plan = graph(vec![spout("words"), total]).plan().unwrap();
    let expected = [
        BatchComponent {
            instances: 1,
            spout: true,
            wants_finished: false,
            downstream: indexes(&[1]),
        },
        BatchComponent { instances: 1, spout: false, wants_finished: true, downstream: vec![] },
    ];
    assert_eq!(plan.batches(), expected);
}

#[test]
fn values_are_converted_from_and_to_any_type() {
    let dynamic = TupleType { name: "Values".to_owned(), dynamic: true };
    let mut any = bolt("any", &["words"]);
    any.takes = Some(dynamic.clone());
    any.outputs[0].carries = dynamic;
    let mut free = bolt("free", &["words", "any"]);
    free.takes = None;
    assert!(graph(vec![spout("words"), any, bolt("typed", &["any"]), free]).plan().is_ok());
}

#[test]
fn an_unknown_component_is_named_with_the_nearest() {
    let components = vec![spout("words"), bolt("split", &["words"]), bolt("count", &["spilt"])];
    assert_eq!(
        error_of(components),
        "bolt `count` subscribes to unknown component `spilt`; did you mean `split`? \
         (known: `words`, `split`)"
    );
}

#[test]
fn an_unknown_stream_is_named_with_the_nearest() {
    let mut count = bolt("count", &["words"]);
    count.inputs[0].stream = "defualt".to_owned();
    assert_eq!(
        error_of(vec![spout("words"), count]),
        "bolt `count` subscribes to unknown stream `defualt` of component `words`; did you mean \
         `default`? (known: `default`)"
    );
}

#[test]
fn a_stream_of_a_component_without_streams_is_unknown() {
    assert_eq!(
        error_of(vec![Component::spout("words"), bolt("count", &["words"])]),
        "bolt `count` subscribes to unknown stream `default` of component `words` (none is known)"
    );
}

#[test]
fn an_unknown_field_is_named_with_the_nearest() {
    assert_eq!(
        error_of(vec![spout("words"), bolt_with("count", "words", by("wrod"))]),
        "bolt `count` groups stream `default` of component `words` by unknown field `wrod`; \
         did you mean `word`? (known: `word`)"
    );
}

#[test]
fn a_keyed_grouping_names_a_field() {
    assert_eq!(
        error_of(vec![spout("words"), bolt_with("count", "words", Grouping::Fields(vec![]))]),
        "bolt `count` groups stream `default` of component `words` by no field; name one, or use \
         `global_grouping`"
    );
}

#[test]
fn a_bolt_needs_an_input() {
    assert_eq!(
        error_of(vec![spout("words"), bolt("count", &[])]),
        "bolt `count` has no input; give it a grouping, such as `shuffle_grouping(..)`"
    );
}

#[test]
fn a_spout_has_no_input() {
    let mut more = spout("more");
    more.inputs.push(reads("words", Grouping::All));
    assert_eq!(
        error_of(vec![spout("words"), more]),
        "spout `more` has an input (stream `default` of `words`); only bolts have inputs"
    );
}

#[test]
fn a_component_is_declared_once() {
    assert_eq!(
        error_of(vec![spout("words"), bolt("words", &["words"])]),
        "component `words` is declared twice; ids are unique within a topology"
    );
}

#[test]
fn a_stream_is_declared_once() {
    let mut words = spout("words");
    words.outputs.push(stream(DEFAULT_STREAM, &[]));
    assert_eq!(error_of(vec![words]), "component `words` declares stream `default` twice");
}

#[test]
fn a_field_is_declared_once() {
    let mut words = spout("words");
    words.outputs[0].fields.push("word".to_owned());
    assert_eq!(
        error_of(vec![words]),
        "stream `default` of component `words` declares field `word` twice"
    );
}

#[test]
fn a_component_has_instances() {
    assert_eq!(
        error_of(vec![Component { parallelism: 0, ..spout("words") }]),
        "component `words` has parallelism 0; give it at least 1"
    );
}

#[test]
fn options_are_not_zero() {
    let wrong = |options: Options| {
        Graph { components: vec![spout("words")], options }.plan().unwrap_err().to_string()
    };
    assert_eq!(
        wrong(Options { max_task_parallelism: Some(0), ..Options::default() }),
        "option `max_task_parallelism` is 0; give it at least 1, or leave it unset"
    );
    assert_eq!(
        wrong(Options { message_timeout: Some(Duration::ZERO), ..Options::default() }),
        "option `message_timeout` is 0; give it at least 1, or leave it unset"
    );
    assert_eq!(
        wrong(Options { max_spout_pending: Some(0), ..Options::default() }),
        "option `max_spout_pending` is 0; give it at least 1, or leave it unset"
    );
}

#[test]
fn reserved_names_are_refused() {
    assert_eq!(
        error_of(vec![spout("__acker")]),
        "component name `__acker` begins with `__`, which is reserved; choose another"
    );
    let mut words = spout("words");
    words.outputs[0].id = "__tick".to_owned();
    assert_eq!(
        error_of(vec![words]),
        "stream name `__tick` begins with `__`, which is reserved; choose another"
    );
}

#[test]
fn names_have_no_separators() {
    let text = "component name `a/b` is not valid; use at least one character, and none of `/` `.` \
                `:` `\\`";
    assert_eq!(error_of(vec![spout("a/b")]), text);
    for name in ["", "a.b", "a:b", "a\\b"] {
        let expected = GraphError::BadName { what: "topology", name: name.into() };
        assert_eq!(check_name("topology", name), Err(expected));
    }
    assert_eq!(check_name("topology", "word-count 2"), Ok(()));
}

#[test]
fn a_topology_has_a_spout() {
    assert_eq!(
        error_of(vec![]),
        "topology has no spout; add one, since nothing else brings tuples in"
    );
    assert_eq!(graph(vec![bolt("count", &["count"])]).plan(), Err(GraphError::NoSpout));
}

#[test]
fn direct_grouping_needs_a_direct_stream() {
    assert_eq!(
        error_of(vec![spout("words"), bolt_with("count", "words", Grouping::Direct)]),
        "bolt `count` uses direct grouping on stream `default` of component `words`, which is not \
         direct; declare the stream as direct, or use another grouping"
    );
}

#[test]
fn a_direct_stream_needs_direct_grouping() {
    let mut words = spout("words");
    words.outputs[0].direct = true;
    assert_eq!(
        error_of(vec![words.clone(), bolt_with("count", "words", by("word"))]),
        "bolt `count` uses fields(word) grouping on direct stream `default` of component `words`; \
         use direct grouping"
    );
    assert!(graph(vec![words, bolt_with("count", "words", Grouping::Direct)]).plan().is_ok());
}

#[test]
fn a_type_mismatch_names_both_types() {
    let mut count = bolt("count", &["words"]);
    count.takes = Some(typed("Sentence"));
    assert_eq!(
        error_of(vec![spout("words"), count]),
        "bolt `count` takes `Sentence`, but stream `default` of component `words` carries `Word`; \
         make them the same type, or let one be `Values`"
    );
}

#[test]
fn a_cycle_is_named_from_its_first_member_in_the_direction_of_tuples() {
    let components = vec![
        spout("words"),
        bolt("a", &["words", "c"]),
        bolt("b", &["a"]),
        bolt("c", &["b"]),
        bolt("after", &["c"]),
    ];
    assert_eq!(
        error_of(components),
        "components form a cycle: a -> b -> c -> a; a topology must be acyclic, so remove one of \
         these inputs"
    );
}

#[test]
fn a_bolt_that_reads_itself_is_a_cycle() {
    let text = error_of(vec![spout("words"), bolt("a", &["words", "a"])]);
    assert!(text.starts_with("components form a cycle: a -> a;"), "{text}");
}

#[test]
fn what_cannot_be_numbered_is_refused() {
    let many = |parallelism| Component { parallelism, ..spout("words") };
    let count = Component { parallelism: u32::MAX, ..bolt("count", &["words"]) };
    assert_eq!(
        error_of(vec![many(1), count]),
        "topology has too many instances (4294967296); at most 4294967295 are possible"
    );
    let components = (0..70_000).map(|number| spout(&number.to_string())).collect();
    assert_eq!(
        error_of(components),
        "topology has too many components (70000); at most 65535 are possible"
    );
}
