//! What the macros' expansions name. No part of the API.

pub use raybolt_runtime::args::{Held, IntoArg};
pub use raybolt_runtime::call::submit;
pub use raybolt_runtime::handle::{ActorClass, ActorHandle, ActorOptions, create, find};
pub use raybolt_runtime::job::{Failure, Function, Step};
pub use raybolt_runtime::method::{Body, Method, MethodFuture};
pub use raybolt_runtime::object::ObjectRef;
pub use raybolt_runtime::options::{CallOptions, TaskOptions};
pub use raybolt_runtime::output::{One, Output, Several};
pub use raybolt_runtime::stream::{Items, RefStream, Sink};
pub use serde;

use crate::session::{Builder, Session};

/// Runs `body` in a session; without one the program ends here.
pub fn main<R>(builder: Builder, body: impl FnOnce(&Session) -> R) -> R {
    match builder.start() {
        Ok(session) => body(&session),
        Err(error) => {
            eprintln!("Error: {error}");
            std::process::exit(1);
        }
    }
}

/// The builder that `f::options()` returns: the same methods for every function.
#[doc(hidden)]
#[macro_export]
macro_rules! __task_options {
    ($name:ident) => {
        /// How a task is to be run; `remote` calls it.
        #[allow(non_camel_case_types, reason = "named like the function it stands beside")]
        #[derive(Clone)]
        #[must_use = "nothing is called before `remote`"]
        pub struct $name($crate::__private::TaskOptions);

        #[allow(dead_code, reason = "made for every function alike")]
        impl $name {
            fn new(options: $crate::__private::TaskOptions) -> Self {
                Self(options)
            }

            fn into_inner(self) -> $crate::__private::TaskOptions {
                self.0
            }

            /// CPUs that the task holds while it runs; 1 by default, 0 for async tasks, parts allowed.
            pub fn num_cpus(self, count: f64) -> Self {
                Self(self.0.num_cpus(count))
            }

            /// GPUs that the task holds; none by default. Parts of one are shared.
            pub fn num_gpus(self, count: f64) -> Self {
                Self(self.0.num_gpus(count))
            }

            /// Any other resource that the node was given by name.
            pub fn resource(self, name: &str, amount: f64) -> Self {
                Self(self.0.resource(name, amount))
            }

            /// Bytes of memory that the task holds; none by default. They are counted, not enforced.
            pub fn memory(self, bytes: usize) -> Self {
                Self(self.0.memory(bytes))
            }

            /// Runs it on what a placement group has set aside: in one bundle, which count from 0, or in
            /// any.
            pub fn placement_group(
                self,
                group: &$crate::PlacementGroup,
                bundle: ::core::option::Option<usize>,
            ) -> Self {
                Self(self.0.placement_group(group, bundle))
            }

            /// How often the task may be run again; 3 by default.
            pub fn max_retries(self, count: u32) -> Self {
                Self(self.0.max_retries(count))
            }

            /// Which failures of the function are worth another attempt; none by default.
            pub fn retry_on(
                self,
                when: impl ::core::ops::Fn(&$crate::TaskError) -> bool
                + ::core::marker::Send
                + ::core::marker::Sync
                + 'static,
            ) -> Self {
                Self(self.0.retry_on(when))
            }

            /// A name for messages, instead of the function's.
            pub fn name(self, name: &str) -> Self {
                Self(self.0.name(name))
            }

            /// How long the task may take from now on, waiting included. Tasks that it calls have no
            /// more.
            pub fn deadline(self, after: ::core::time::Duration) -> Self {
                Self(self.0.deadline(after))
            }

            /// Where it should run.
            pub fn strategy(self, strategy: $crate::Strategy) -> Self {
                Self(self.0.strategy(strategy))
            }

            /// How many items of a generator may wait to be taken; 1,000 by default.
            pub fn stream_buffer(self, items: usize) -> Self {
                Self(self.0.stream_buffer(items))
            }
        }
    };
}

/// The builder that `Type::options()` returns: the same methods for every actor.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor_options {
    ($name:ident) => {
        /// How an actor is to be made; `remote` makes it.
        #[derive(Clone)]
        #[must_use = "nothing is made before `remote`"]
        pub struct $name($crate::__private::ActorOptions);

        #[allow(dead_code, reason = "made for every actor alike")]
        impl $name {
            fn new(options: $crate::__private::ActorOptions) -> Self {
                Self(options)
            }

            fn into_inner(self) -> $crate::__private::ActorOptions {
                self.0
            }

            /// CPUs that the actor holds as long as it lives; none by default.
            pub fn num_cpus(self, count: f64) -> Self {
                Self(self.0.num_cpus(count))
            }

            /// GPUs that the actor holds as long as it lives; none by default.
            pub fn num_gpus(self, count: f64) -> Self {
                Self(self.0.num_gpus(count))
            }

            /// Any other resource that the actor holds as long as it lives.
            pub fn resource(self, name: &str, amount: f64) -> Self {
                Self(self.0.resource(name, amount))
            }

            /// Bytes of memory that the actor holds as long as it lives; none by default. They are
            /// counted, not enforced.
            pub fn memory(self, bytes: usize) -> Self {
                Self(self.0.memory(bytes))
            }

            /// Lives on what a placement group has set aside: in one bundle, which count from 0, or in
            /// any.
            pub fn placement_group(
                self,
                group: &$crate::PlacementGroup,
                bundle: ::core::option::Option<usize>,
            ) -> Self {
                Self(self.0.placement_group(group, bundle))
            }

            /// A name under which others find the actor.
            pub fn name(self, name: &str) -> Self {
                Self(self.0.name(name))
            }

            /// Takes the actor of this name, if there is one, instead of making it.
            pub fn get_if_exists(self) -> Self {
                Self(self.0.get_if_exists())
            }

            /// The actor lives on without handles, until it is killed or the session ends. It needs a
            /// name.
            pub fn detached(self) -> Self {
                Self(self.0.detached())
            }

            /// How many `&self` calls may run at once: by default 1, or 1,000 with async methods.
            pub fn max_concurrency(self, calls: usize) -> Self {
                Self(self.0.max_concurrency(calls))
            }

            /// How many calls may wait; a call beyond that fails at once. No bound by default.
            pub fn max_pending_calls(self, calls: usize) -> Self {
                Self(self.0.max_pending_calls(calls))
            }

            /// How often the actor begins anew when its worker process dies: with a new state, from its
            /// constructor. Never by default; [`FOREVER`]($crate::FOREVER) for as often as it takes.
            pub fn max_restarts(self, restarts: u32) -> Self {
                Self(self.0.max_restarts(restarts))
            }

            /// How often a call that was lost with the actor's worker process is made again, once the
            /// actor has begun anew. Never by default: it may have run, in part or whole.
            pub fn max_task_retries(self, retries: u32) -> Self {
                Self(self.0.max_task_retries(retries))
            }
        }
    };
}
