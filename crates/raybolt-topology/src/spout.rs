//! Spouts: what users write to bring tuples in.

use std::sync::Arc;
use std::time::Duration;

use crate::builder::Outputs;
use crate::collector::SpoutCollector;
use crate::context::Context;
use crate::tuple::Tuple;

/// Brings tuples in. The value given to the builder is a *prototype*: each instance works on a clone.
///
/// ```
/// use raybolt_topology::{Next, Spout, SpoutCollector};
///
/// #[derive(Clone)]
/// struct Numbers(std::ops::Range<u64>);
///
/// impl Spout for Numbers {
///     type Out = (u64,);
///
///     fn next_tuple(&mut self, out: &mut SpoutCollector<Self::Out>) -> Next {
///         match self.0.next() {
///             Some(number) => {
///                 out.emit((number,));
///                 Next::Emitted
///             }
///             None => Next::Done,
///         }
///     }
/// }
/// ```
pub trait Spout: Clone + Send + 'static {
    /// What it emits on its default stream.
    type Out: Tuple;

    /// Declares further streams, or the fields of dynamic tuples.
    fn declare_outputs(&self, outputs: &mut Outputs<Self::Out>) {
        let _ = outputs;
    }

    /// Called once on each instance, before the first `next_tuple`.
    fn open(&mut self, context: &Context) {
        let _ = context;
    }

    /// Emits what there is to emit: one tuple or a few. Must not block: say [`Next::Idle`] and wake the
    /// instance by the context's waker, or declare the spout `blocking`.
    fn next_tuple(&mut self, collector: &mut SpoutCollector<Self::Out>) -> Next;

    /// All that came of the tuple emitted with this id has been processed.
    fn ack(&mut self, id: MessageId) {
        let _ = id;
    }

    /// Something that came of the tuple emitted with this id failed, or took longer than the message
    /// timeout. Emit it again, or give it up.
    fn fail(&mut self, id: MessageId, reason: &str) {
        let _ = (id, reason);
    }

    /// The topology is active again.
    fn activate(&mut self) {}

    /// The topology is not active: `next_tuple` is not called any more.
    fn deactivate(&mut self) {}

    /// Called once on each instance when its topology ends or is rebalanced.
    fn close(&mut self) {}

    /// What it would call when there is nothing more, and all that it wanted followed has been processed: taken by what
    /// stands in its place, when the spout itself goes to another process.
    #[doc(hidden)]
    fn take_on_done(&mut self) -> Option<OnDone> {
        None
    }
}

/// Called when all is done.
#[doc(hidden)]
pub type OnDone = Arc<dyn Fn() + Send + Sync>;

/// What [`Spout::next_tuple`] did, and when it wants to be called again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// It emitted something: at once.
    Emitted,
    /// There is nothing: when its waker is woken, or something was acked or failed.
    Idle,
    /// There is nothing: after this time, or as for `Idle`.
    After(Duration),
    /// There will be nothing any more but replays: only when something failed.
    Done,
}

/// Names a tuple that a spout wants followed; the spout chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MessageId(pub u64);
