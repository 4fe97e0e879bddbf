//! Checks a [`Graph`] and resolves it to a [`Plan`]: one step per kind of mistake, in reading order.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{GraphError, check_name};
use super::{
    Component, ComponentKind, Edge, Graph, OutputStream, Plan, PlanComponent, Subscription,
    component_index,
};
use crate::flow::grouping::Grouping;
use crate::ids::{ComponentIndex, InstanceId};
use crate::suggest::Hint;

/// See [`Graph::plan`].
pub(super) fn plan(graph: &Graph) -> Result<Plan, GraphError> {
    check_options(graph)?;
    check_numbers(graph)?;
    for component in &graph.components {
        check_component(component)?;
    }
    let names = Names::of(graph)?;
    if !graph.components.iter().any(|component| component.kind == ComponentKind::Spout) {
        return Err(GraphError::NoSpout);
    }
    let mut edges = Vec::new();
    for (position, component) in graph.components.iter().enumerate() {
        check_has_input(component)?;
        for (input, subscription) in component.inputs.iter().enumerate() {
            let to = component_index(position);
            edges.push(resolve(&names, component, subscription, to, input)?);
        }
    }
    let order = topological_order(graph, &edges)?;
    let components = numbered(graph)?;
    Ok(Plan { components, edges, order, options: graph.options.clone() })
}

fn check_options(graph: &Graph) -> Result<(), GraphError> {
    let options = &graph.options;
    let zero = [
        ("max_task_parallelism", options.max_task_parallelism == Some(0)),
        ("message_timeout", options.message_timeout.is_some_and(|timeout| timeout.is_zero())),
        ("max_spout_pending", options.max_spout_pending == Some(0)),
    ];
    match zero.iter().find(|(_, is_zero)| *is_zero) {
        Some(&(option, _)) => Err(GraphError::ZeroOption { option }),
        None => Ok(()),
    }
}

fn check_numbers(graph: &Graph) -> Result<(), GraphError> {
    let (count, max) = (graph.components.len() as u64, u64::from(u16::MAX));
    if count > max {
        return Err(GraphError::TooMany { what: "components", count, max });
    }
    Ok(())
}

/// What can be said of a component without knowing the others.
fn check_component(component: &Component) -> Result<(), GraphError> {
    check_name("component", &component.id)?;
    if component.parallelism == 0 {
        return Err(GraphError::ZeroParallelism { component: component.id.as_str().into() });
    }
    for (position, stream) in component.outputs.iter().enumerate() {
        check_name("stream", &stream.id)?;
        if component.outputs[..position].iter().any(|earlier| earlier.id == stream.id) {
            return Err(GraphError::DuplicateStream {
                component: component.id.as_str().into(),
                stream: stream.id.as_str().into(),
            });
        }
        check_fields(component, stream)?;
    }
    Ok(())
}

fn check_fields(component: &Component, stream: &OutputStream) -> Result<(), GraphError> {
    for (position, field) in stream.fields.iter().enumerate() {
        if stream.fields[..position].contains(field) {
            return Err(GraphError::DuplicateField {
                component: component.id.as_str().into(),
                stream: stream.id.as_str().into(),
                field: field.as_str().into(),
            });
        }
    }
    Ok(())
}

fn check_has_input(component: &Component) -> Result<(), GraphError> {
    match (component.kind, component.inputs.first()) {
        (ComponentKind::Spout, Some(input)) => Err(GraphError::SpoutWithInput {
            spout: component.id.as_str().into(),
            component: input.component.as_str().into(),
            stream: input.stream.as_str().into(),
        }),
        (ComponentKind::Bolt, None) => {
            Err(GraphError::NoInput { bolt: component.id.as_str().into() })
        }
        _ => Ok(()),
    }
}

/// The components by name.
struct Names<'a> {
    graph: &'a Graph,
    positions: BTreeMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    fn of(graph: &'a Graph) -> Result<Self, GraphError> {
        let mut positions = BTreeMap::new();
        for (position, component) in graph.components.iter().enumerate() {
            if positions.insert(component.id.as_str(), position).is_some() {
                return Err(GraphError::DuplicateComponent { id: component.id.as_str().into() });
            }
        }
        Ok(Self { graph, positions })
    }
}

/// Finds what a subscription names, and checks that the two sides fit.
fn resolve(
    names: &Names<'_>,
    bolt: &Component,
    subscription: &Subscription,
    to: ComponentIndex,
    input: usize,
) -> Result<Edge, GraphError> {
    let position = find_component(names, bolt, subscription)?;
    let producer = &names.graph.components[position];
    let stream = find_stream(producer, bolt, subscription)?;
    let output = &producer.outputs[stream];
    check_direct(output, bolt, subscription)?;
    check_type(output, bolt, subscription)?;
    Ok(Edge {
        from: component_index(position),
        stream,
        to,
        input,
        grouping: subscription.grouping.clone(),
        key_fields: find_key_fields(output, bolt, subscription)?,
    })
}

fn find_component(
    names: &Names<'_>,
    bolt: &Component,
    subscription: &Subscription,
) -> Result<usize, GraphError> {
    let wanted = subscription.component.as_str();
    names.positions.get(wanted).copied().ok_or_else(|| {
        // The bolt itself would be the nearest name to a misspelt one surprisingly often, and never
        // be right.
        let others = names.graph.components.iter().map(|c| c.id.as_str());
        GraphError::UnknownComponent {
            bolt: bolt.id.as_str().into(),
            component: wanted.into(),
            hint: Hint::new(wanted, others.filter(|&id| id != bolt.id)),
        }
    })
}

fn find_stream(
    producer: &Component,
    bolt: &Component,
    subscription: &Subscription,
) -> Result<usize, GraphError> {
    let wanted = subscription.stream.as_str();
    producer.outputs.iter().position(|output| output.id == wanted).ok_or_else(|| {
        GraphError::UnknownStream {
            bolt: bolt.id.as_str().into(),
            component: producer.id.as_str().into(),
            stream: wanted.into(),
            hint: Hint::new(wanted, producer.outputs.iter().map(|output| output.id.as_str())),
        }
    })
}

fn find_key_fields(
    output: &OutputStream,
    bolt: &Component,
    subscription: &Subscription,
) -> Result<Vec<usize>, GraphError> {
    let keyed = matches!(subscription.grouping, Grouping::Fields(_) | Grouping::PartialKey(_));
    let wanted = subscription.grouping.key_fields();
    if keyed && wanted.is_empty() {
        return Err(GraphError::NoKeyField {
            bolt: bolt.id.as_str().into(),
            component: subscription.component.as_str().into(),
            stream: output.id.as_str().into(),
        });
    }
    let find = |field: &String| {
        output.fields.iter().position(|known| known == field).ok_or_else(|| {
            GraphError::UnknownField {
                bolt: bolt.id.as_str().into(),
                component: subscription.component.as_str().into(),
                stream: output.id.as_str().into(),
                field: field.as_str().into(),
                hint: Hint::new(field, output.fields.iter().map(String::as_str)),
            }
        })
    };
    wanted.iter().map(find).collect()
}

fn check_direct(
    output: &OutputStream,
    bolt: &Component,
    subscription: &Subscription,
) -> Result<(), GraphError> {
    let bolt = bolt.id.as_str().into();
    let component = subscription.component.as_str().into();
    let stream = output.id.as_str().into();
    match (output.direct, &subscription.grouping) {
        (false, Grouping::Direct) => Err(GraphError::NotDirect { bolt, component, stream }),
        (true, Grouping::Direct) | (false, _) => Ok(()),
        (true, other) => Err(GraphError::IsDirect {
            bolt,
            component,
            stream,
            grouping: other.to_string().into(),
        }),
    }
}

fn check_type(
    output: &OutputStream,
    bolt: &Component,
    subscription: &Subscription,
) -> Result<(), GraphError> {
    match &bolt.takes {
        Some(takes) if !output.carries.fits(takes) => Err(GraphError::TypeMismatch {
            bolt: bolt.id.as_str().into(),
            takes: takes.name.as_str().into(),
            component: subscription.component.as_str().into(),
            stream: output.id.as_str().into(),
            carries: output.carries.name.as_str().into(),
        }),
        _ => Ok(()),
    }
}

/// Takes components whose upstream ones are all taken, the first declared first.
fn topological_order(graph: &Graph, edges: &[Edge]) -> Result<Vec<ComponentIndex>, GraphError> {
    let count = graph.components.len();
    let mut downstream = vec![Vec::new(); count];
    let mut waiting_for = vec![0_usize; count];
    for edge in edges {
        downstream[edge.from.index()].push(edge.to.index());
        waiting_for[edge.to.index()] += 1;
    }
    let mut ready: BTreeSet<usize> =
        (0..count).filter(|&position| waiting_for[position] == 0).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(position) = ready.pop_first() {
        order.push(component_index(position));
        for &next in &downstream[position] {
            waiting_for[next] -= 1;
            if waiting_for[next] == 0 {
                ready.insert(next);
            }
        }
    }
    if order.len() == count { Ok(order) } else { Err(cycle(graph, edges, &waiting_for)) }
}

/// Names a cycle among the components that still wait: each of them has an upstream one that waits
/// too, so a walk upstream must come back to itself.
fn cycle(graph: &Graph, edges: &[Edge], waiting_for: &[usize]) -> GraphError {
    let waits = |position: usize| waiting_for[position] > 0;
    let upstream = |position: usize| {
        edges
            .iter()
            .find(|edge| edge.to.index() == position && waits(edge.from.index()))
            .map(|edge| edge.from.index())
            .expect("who waits has an upstream component that waits")
    };
    let mut walked = Vec::new();
    let mut at = (0..waiting_for.len()).find(|&position| waits(position)).expect("someone waits");
    while !walked.contains(&at) {
        walked.push(at);
        at = upstream(at);
    }
    let begin = walked.iter().position(|&position| position == at).expect("the walk came back");
    let mut path = walked.split_off(begin);
    path.reverse();
    let first = (0..path.len()).min_by_key(|&place| path[place]).expect("a cycle has a member");
    path.rotate_left(first);
    path.push(path[0]);
    let names: Vec<&str> = path.iter().map(|&p| graph.components[p].id.as_str()).collect();
    GraphError::Cycle { path: names.join(" -> ").into() }
}

/// Gives instances their numbers (GRAPH-2).
fn numbered(graph: &Graph) -> Result<Vec<PlanComponent>, GraphError> {
    let most = graph.options.max_task_parallelism.unwrap_or(u32::MAX);
    let capped = |component: &Component| component.parallelism.min(most);
    let count: u64 = graph.components.iter().map(|c| u64::from(capped(c))).sum();
    let max = u64::from(u32::MAX);
    if count > max {
        return Err(GraphError::TooMany { what: "instances", count, max });
    }
    let mut next = 0;
    let number = |component: &Component| {
        let first_instance = InstanceId(next);
        next += capped(component);
        PlanComponent {
            id: component.id.clone(),
            kind: component.kind,
            instances: capped(component),
            first_instance,
            outputs: component.outputs.clone(),
            wants_finished: component.wants_finished,
        }
    };
    Ok(graph.components.iter().map(number).collect())
}
