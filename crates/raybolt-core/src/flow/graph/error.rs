//! What can be wrong with the description of a topology, in the words that the user reads.

use crate::suggest::Hint;

/// What is wrong with the description of a topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A name is empty, or has a character that paths, addresses and metrics give a meaning.
    #[error(
        "{what} name `{name}` is not valid; use at least one character, and none of `/` `.` `:` `\\`"
    )]
    BadName {
        /// What the name is for.
        what: &'static str,
        /// The name.
        name: Box<str>,
    },
    /// A name is kept for the engine's own components and streams.
    #[error("{what} name `{name}` begins with `__`, which is reserved; choose another")]
    ReservedName {
        /// What the name is for.
        what: &'static str,
        /// The name.
        name: Box<str>,
    },
    /// Two components have one id.
    #[error("component `{id}` is declared twice; ids are unique within a topology")]
    DuplicateComponent {
        /// The id.
        id: Box<str>,
    },
    /// A component declares two streams of one name.
    #[error("component `{component}` declares stream `{stream}` twice")]
    DuplicateStream {
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
    },
    /// A stream declares two fields of one name.
    #[error("stream `{stream}` of component `{component}` declares field `{field}` twice")]
    DuplicateField {
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
        /// The field.
        field: Box<str>,
    },
    /// A component has no instances.
    #[error("component `{component}` has parallelism 0; give it at least 1")]
    ZeroParallelism {
        /// The component.
        component: Box<str>,
    },
    /// An option is zero where that would stop everything.
    #[error("option `{option}` is 0; give it at least 1, or leave it unset")]
    ZeroOption {
        /// The option.
        option: &'static str,
    },
    /// There are more components or instances than can be numbered.
    #[error("topology has too many {what} ({count}); at most {max} are possible")]
    TooMany {
        /// Components or instances.
        what: &'static str,
        /// How many.
        count: u64,
        /// How many are possible.
        max: u64,
    },
    /// Nothing brings tuples in.
    #[error("topology has no spout; add one, since nothing else brings tuples in")]
    NoSpout,
    /// A spout subscribes to streams.
    #[error(
        "spout `{spout}` has an input (stream `{stream}` of `{component}`); only bolts have inputs"
    )]
    SpoutWithInput {
        /// The spout.
        spout: Box<str>,
        /// The component of its first input.
        component: Box<str>,
        /// The stream of its first input.
        stream: Box<str>,
    },
    /// A bolt subscribes to nothing.
    #[error("bolt `{bolt}` has no input; give it a grouping, such as `shuffle_grouping(..)`")]
    NoInput {
        /// The bolt.
        bolt: Box<str>,
    },
    /// A bolt subscribes to a component that does not exist.
    #[error("bolt `{bolt}` subscribes to unknown component `{component}`{hint}")]
    UnknownComponent {
        /// The bolt.
        bolt: Box<str>,
        /// The component.
        component: Box<str>,
        /// The nearest and the known ones.
        hint: Hint,
    },
    /// A bolt subscribes to a stream that its component does not declare.
    #[error(
        "bolt `{bolt}` subscribes to unknown stream `{stream}` of component `{component}`{hint}"
    )]
    UnknownStream {
        /// The bolt.
        bolt: Box<str>,
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
        /// The nearest and the known ones.
        hint: Hint,
    },
    /// A grouping names a field that its stream does not have.
    #[error(
        "bolt `{bolt}` groups stream `{stream}` of component `{component}` by unknown field `{field}`{hint}"
    )]
    UnknownField {
        /// The bolt.
        bolt: Box<str>,
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
        /// The field.
        field: Box<str>,
        /// The nearest and the known ones.
        hint: Hint,
    },
    /// A keyed grouping names no field.
    #[error(
        "bolt `{bolt}` groups stream `{stream}` of component `{component}` by no field; name one, or use `global_grouping`"
    )]
    NoKeyField {
        /// The bolt.
        bolt: Box<str>,
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
    },
    /// A direct grouping on a stream whose producer does not name instances.
    #[error(
        "bolt `{bolt}` uses direct grouping on stream `{stream}` of component `{component}`, which is not direct; declare the stream as direct, or use another grouping"
    )]
    NotDirect {
        /// The bolt.
        bolt: Box<str>,
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
    },
    /// Another grouping on a stream whose producer names the instances.
    #[error(
        "bolt `{bolt}` uses {grouping} grouping on direct stream `{stream}` of component `{component}`; use direct grouping"
    )]
    IsDirect {
        /// The bolt.
        bolt: Box<str>,
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
        /// The grouping.
        grouping: Box<str>,
    },
    /// A bolt takes other tuples than a stream carries.
    #[error(
        "bolt `{bolt}` takes `{takes}`, but stream `{stream}` of component `{component}` carries `{carries}`; make them the same type, or let one be `Values`"
    )]
    TypeMismatch {
        /// The bolt.
        bolt: Box<str>,
        /// What it takes.
        takes: Box<str>,
        /// The component.
        component: Box<str>,
        /// The stream.
        stream: Box<str>,
        /// What the stream carries.
        carries: Box<str>,
    },
    /// Tuples could go round for ever.
    #[error(
        "components form a cycle: {path}; a topology must be acyclic, so remove one of these inputs"
    )]
    Cycle {
        /// The components on the cycle, in the direction of tuples: `a -> b -> a`.
        path: Box<str>,
    },
}

/// Checks the name of a topology, component or stream; `what` says which, for the message.
///
/// # Errors
/// When the name is empty, has one of `/.:\`, or begins with `__`.
pub fn check_name(what: &'static str, name: &str) -> Result<(), GraphError> {
    if name.is_empty() || name.contains(['/', '.', ':', '\\']) {
        return Err(GraphError::BadName { what, name: name.into() });
    }
    if name.starts_with("__") {
        return Err(GraphError::ReservedName { what, name: name.into() });
    }
    Ok(())
}
