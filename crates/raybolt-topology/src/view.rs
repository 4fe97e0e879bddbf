//! A look at what a [`TopologyBuilder`] has been told, for builders on top of it.

use raybolt_core::flow::graph;
use raybolt_core::flow::grouping::Grouping;

use crate::builder::{ComponentSpec, TopologyBuilder};
use crate::wiring::StreamSpec;

/// A component that was added to a builder.
#[derive(Clone, Copy)]
pub struct ComponentView<'b>(&'b ComponentSpec);

/// A stream that such a component declares.
#[derive(Clone, Copy)]
pub struct StreamView<'b>(&'b StreamSpec);

impl TopologyBuilder {
    /// The components that were added, in order.
    pub fn components(&self) -> impl Iterator<Item = ComponentView<'_>> {
        self.components.iter().map(ComponentView)
    }

    /// Lets a bolt that was added read a stream more. Says whether there is such a bolt.
    pub fn add_input(
        &mut self,
        bolt: &str,
        component: &str,
        stream: &str,
        grouping: Grouping,
    ) -> bool {
        let Some(spec) = self.components.iter_mut().find(|spec| spec.node.id == bolt) else {
            return false;
        };
        let (component, stream) = (component.to_owned(), stream.to_owned());
        spec.node.inputs.push(graph::Subscription { component, stream, grouping });
        true
    }
}

impl<'b> ComponentView<'b> {
    /// Its name.
    pub fn id(self) -> &'b str {
        &self.0.node.id
    }

    /// How many subscriptions it has.
    pub fn inputs(self) -> usize {
        self.0.node.inputs.len()
    }

    /// The streams that it emits on, the default one first.
    pub fn streams(self) -> impl Iterator<Item = StreamView<'b>> {
        self.0.streams.iter().map(StreamView)
    }
}

impl<'b> StreamView<'b> {
    /// Its name.
    pub fn id(self) -> &'b str {
        &self.0.id
    }

    /// The names of its tuples' fields.
    pub fn fields(self) -> &'b [String] {
        &self.0.fields
    }

    /// Whether its tuples are dynamic.
    pub fn is_dynamic(self) -> bool {
        self.0.dynamic
    }

    /// Whether the type of its tuples says that they begin with their request.
    pub fn carries_request(self) -> bool {
        self.0.carries_request
    }
}
