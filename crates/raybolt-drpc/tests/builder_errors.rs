//! What the builders refuse, and what they say.

use raybolt_drpc::{
    DrpcBuildError, DrpcRequest, DrpcTopologyBuilder, LinearDrpcTopologyBuilder, LocalDrpc,
    RequestId,
};
use raybolt_topology::{Bolt, BoltError, Collector, Outputs, Tuple};

/// Takes `In`, would emit `Out`, and declares a further stream if it is told to.
struct Step<In, Out> {
    further: Option<&'static str>,
    types: std::marker::PhantomData<fn(In) -> Out>,
}

impl<In, Out> Clone for Step<In, Out> {
    fn clone(&self) -> Self {
        Step { ..*self }
    }
}

fn step<In: Tuple, Out: Tuple>() -> Step<In, Out> {
    Step { further: None, types: std::marker::PhantomData }
}

impl<In: Tuple, Out: Tuple> Bolt for Step<In, Out> {
    type In = In;
    type Out = Out;

    fn declare_outputs(&self, outputs: &mut Outputs<Out>) {
        if let Some(stream) = self.further {
            outputs.stream::<(RequestId,)>(stream);
        }
    }

    fn execute(&mut self, _: In, _: &mut Collector<Out>) -> Result<(), BoltError> {
        Ok(())
    }
}

type Pair = (RequestId, String);

fn linear_error(build: impl FnOnce(&mut LinearDrpcTopologyBuilder)) -> String {
    let mut builder = LinearDrpcTopologyBuilder::new("reach");
    build(&mut builder);
    error(builder.create_local_topology(&LocalDrpc::new()))
}

fn graph_error(build: impl FnOnce(&mut DrpcTopologyBuilder)) -> String {
    let mut builder = DrpcTopologyBuilder::new("reach");
    build(&mut builder);
    error(builder.create_local_topology(&LocalDrpc::new()))
}

fn error<T>(result: Result<T, DrpcBuildError>) -> String {
    result.err().expect("the description is wrong").to_string()
}

#[test]
fn a_function_without_bolts_is_refused() {
    assert_eq!(
        linear_error(|_| {}),
        "function `reach` has no bolts; add the first one by `add_bolt`"
    );
    assert_eq!(
        graph_error(|_| {}),
        "function `reach` has no bolts; add the first one by `set_bolt`"
    );
}

#[test]
fn a_later_bolt_without_grouping_is_refused() {
    let text = linear_error(|builder| {
        builder.add_bolt(step::<DrpcRequest, Pair>(), 1);
        builder.add_bolt(step::<Pair, Pair>(), 1);
    });
    assert_eq!(
        text,
        "bolt `bolt1` gets nothing: say how it shares out the tuples of `bolt0`, for example by \
         `.shuffle_grouping()`"
    );
}

#[test]
fn a_stream_that_does_not_begin_with_the_request_is_refused() {
    let text = linear_error(|builder| {
        builder.add_bolt(step::<DrpcRequest, (String, RequestId)>(), 1);
        builder.add_bolt(step::<(String, RequestId), Pair>(), 1).shuffle_grouping();
    });
    assert_eq!(
        text,
        "the tuples of stream `default` of component `bolt0` begin with `0`; their first field has \
         to be the request, of type `RequestId`"
    );
}

#[test]
fn a_last_bolt_that_emits_no_pairs_is_refused() {
    let text = linear_error(|builder| {
        builder.add_bolt(step::<DrpcRequest, (RequestId, String, u64)>(), 1);
    });
    assert_eq!(
        text,
        "stream `default` of component `bolt0` is returned, so it has to have two fields, the \
         request and its result, not 3 (`0`, `1`, `2`)"
    );
}

#[test]
fn a_last_bolt_with_several_streams_is_refused() {
    let text = linear_error(|builder| {
        let bolt = Step { further: Some("side"), ..step::<DrpcRequest, Pair>() };
        builder.add_bolt(bolt, 1);
    });
    assert_eq!(
        text,
        "the last bolt, `bolt0`, has to declare exactly one stream, not 2 (`default`, `side`)"
    );
}

#[test]
fn a_graph_that_returns_nothing_is_refused() {
    let text = graph_error(|builder| {
        let bolt = step::<DrpcRequest, Pair>();
        builder.set_bolt("sum", bolt, 1).shuffle_grouping(DrpcTopologyBuilder::REQUESTS);
    });
    assert_eq!(
        text,
        "function `reach` returns nothing; name the component that emits its results by `returns`"
    );
}

#[test]
fn an_unknown_returning_component_or_stream_is_refused_with_the_nearest_name() {
    let graph = |component: &'static str, stream: &'static str| {
        graph_error(move |builder| {
            let bolt = step::<DrpcRequest, Pair>();
            builder.set_bolt("sum", bolt, 1).shuffle_grouping(DrpcTopologyBuilder::REQUESTS);
            builder.returns_on(component, stream);
        })
    };
    assert_eq!(
        graph("smu", "default"),
        "function `reach` returns the results of an unknown component `smu`; did you mean `sum`? \
         (known: `sum`)"
    );
    assert_eq!(
        graph("sum", "defualt"),
        "component `sum` has no stream `defualt` to return; did you mean `default`? (known: \
         `default`)"
    );
}

#[test]
fn what_is_wrong_with_the_graph_itself_is_said_as_for_any_topology() {
    let text = graph_error(|builder| {
        builder.set_bolt("sum", step::<DrpcRequest, Pair>(), 1).shuffle_grouping("requets");
        builder.returns("sum");
    });
    assert!(text.contains("`requets`") && text.contains("did you mean `requests`?"), "{text}");
    let text = linear_error(|builder| {
        builder.add_bolt(step::<DrpcRequest, Pair>(), 0);
    });
    assert!(text.contains("bolt0") && text.contains("parallelism"), "{text}");
    let text = linear_error(|builder| {
        builder.add_bolt(step::<DrpcRequest, Pair>(), 1);
        builder.add_bolt(step::<(RequestId, u64), Pair>(), 1).shuffle_grouping();
    });
    assert!(text.contains("bolt0") && text.contains("u64"), "{text}");
    let text = linear_error(|builder| {
        builder.add_bolt(step::<DrpcRequest, Pair>(), 1);
        builder.add_bolt(step::<Pair, Pair>(), 1).fields_grouping(["id"]);
    });
    assert!(text.contains("`id`"), "{text}");
}
