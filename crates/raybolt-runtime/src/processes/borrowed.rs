//! Actors as code in a worker sees them: made, found, called and killed by way of the driver.
//!
//! # Invariants
//! - **BORROW-1 (counted).** A handle here is a reference to the object that stands for the actor's life
//!   at the driver: it goes and comes like all references to objects, and counts like them.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use raybolt_core::calls::owner::ObjectKey;
use raybolt_core::calls::queue::CallerId;
use raybolt_wire::work::{CallActor, CreateActor, ToDriver};
use slotmap::KeyData;

use crate::args::{Arguments, Form};
use crate::context;
use crate::error::Result;
use crate::handle::ActorHandle;
use crate::method::Method;
use crate::object::{AnyObject, Hold, ObjectRef};
use crate::options::TaskOptions;
use crate::output::{Cells, Output};
use crate::processes::parcel::{self, Packed};
use crate::processes::remote_call::code_of;
use crate::processes::upstream::Upstream;
use crate::session::Session;

/// What all clones of a handle share, in a worker.
pub(crate) struct Borrowed {
    pub(crate) session: Arc<Session>,
    hold: Hold,
    /// The actor, as the driver numbers it.
    pub(crate) actor: u64,
    pub(crate) name: Arc<str>,
}

impl Borrowed {
    pub(crate) fn new(session: &Arc<Session>, id: u64, actor: u64, name: &str) -> Arc<Self> {
        let hold = Hold::new(session.epoch);
        hold.set_id(id);
        Arc::new(Borrowed { session: session.clone(), hold, actor, name: name.into() })
    }
}

impl Upstream {
    /// Makes an actor, or takes the one of its name.
    pub(crate) fn create_actor<A: Send + Sync + 'static>(
        &self,
        session: &Arc<Session>,
        create: CreateActor,
        args: &[u8],
    ) -> Result<ActorHandle<A>> {
        self.ask_for(
            session,
            |answer| ToDriver::CreateActor(CreateActor { answer, ..create }),
            args,
        )
    }

    /// The actor of a name.
    pub(crate) fn find_actor<A: Send + Sync + 'static>(
        &self,
        session: &Arc<Session>,
        name: &str,
        class: &str,
        kind: u64,
    ) -> Result<ActorHandle<A>> {
        let (name, class) = (name.to_owned(), class.to_owned());
        self.ask_for(session, |answer| ToDriver::FindActor { name, class, kind, answer }, &[])
    }

    pub(crate) fn kill_actor(&self, actor: &Borrowed) {
        self.send(&ToDriver::KillActor { actor: actor.id() }, &[]);
    }

    /// Calls an actor; what it returns will come into `cells`.
    pub(crate) fn call_actor<A, X, O>(
        &self,
        actor: &Borrowed,
        method: &Method<A, X::Held, O>,
        options: &TaskOptions,
        args: &X,
        cells: &O::Cells,
    ) -> Result<()>
    where
        A: Send + Sync + 'static,
        X: Arguments,
        X::Held: Send,
        O: Output,
    {
        let code = code_of::<A, X, O>(method)?;
        let name = options.settings().and_then(|set| set.name.as_deref());
        let mut body = Vec::new();
        let (packed, Packed { refs, guards, .. }) =
            parcel::packing(|| args.pack(name.unwrap_or(method.name), Form::References, &mut body));
        packed?;
        let returns = self.expect(cells);
        let itself = context::caller_of_actor(KeyData::from_ffi(actor.actor).into());
        if context::current_actor() == Some(itself) {
            self.come_from_itself(&returns, actor.actor);
        }
        self.reads(cells, &returns);
        self.send(
            &ToDriver::CallActor(CallActor {
                actor: actor.id(),
                caller: self.caller().0,
                method: code,
                name: name.map(str::to_owned),
                deadline_us: options.until().map(|(until, after)| {
                    let left = until.saturating_duration_since(Instant::now());
                    (left.as_micros() as u64, after.as_micros() as u64)
                }),
                returns,
                refs: refs.iter().map(|object| object.id()).collect(),
                stream: cells.room(),
            }),
            &body,
        );
        drop(guards);
        Ok(())
    }

    /// Sends a message to which the driver answers with a handle, and waits for it.
    fn ask_for<A: Send + Sync + 'static>(
        &self,
        session: &Arc<Session>,
        message: impl FnOnce(u64) -> ToDriver,
        body: &[u8],
    ) -> Result<ActorHandle<A>> {
        let answer: ObjectRef<ActorHandle<A>> = self.expected(session.epoch);
        self.send(&message(answer.id()), body);
        crate::call::get(answer)
    }

    /// Who calls, for the driver: its own threads, and those of other workers, have numbers too.
    fn caller(&self) -> CallerId {
        let caller = context::caller();
        if context::is_thread(caller) { CallerId(caller.0 | self.process << 40) } else { caller }
    }
}

impl AnyObject for Borrowed {
    fn key(&self) -> ObjectKey {
        self.hold.key()
    }

    fn id(&self) -> u64 {
        self.hold.id()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
