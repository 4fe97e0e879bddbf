//! What an instance is told about itself.

use std::fmt;
use std::sync::{Arc, Weak};

use crate::task::Task;

/// What an instance is told about itself, before its first tuple.
#[derive(Debug, Clone)]
pub struct Context {
    pub(crate) topology: Arc<str>,
    pub(crate) component: Arc<str>,
    pub(crate) instance: usize,
    pub(crate) instances: usize,
    pub(crate) waker: Waker,
}

impl Context {
    /// The topology's name.
    pub fn topology(&self) -> &str {
        &self.topology
    }

    /// The component's name.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The instance's number within the component, from 0.
    pub fn instance(&self) -> usize {
        self.instance
    }

    /// How many instances the component has.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// Wakes this instance; from any thread, at any time.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Wakes an instance that has nothing to do: a spout whose source has something again.
#[derive(Clone)]
pub struct Waker(pub(crate) Weak<Task>);

impl Waker {
    /// Asks for a call of `next_tuple` that sees all that happened before this call.
    pub fn wake(&self) {
        if let Some(task) = self.0.upgrade() {
            task.wake();
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
