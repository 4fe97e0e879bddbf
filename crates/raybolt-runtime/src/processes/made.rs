//! Makes actors that live in workers: for this process's own code, and in the name of workers.

use std::sync::Arc;

use raybolt_core::calls::owner::{ActorKey, ObjectKey, Returns, Submit, Target};
use raybolt_core::calls::scheduler::Demand;

use crate::actor::AnyActor;
use crate::creation::lease_class;
use crate::error::{Error, Kind, Result};
use crate::failures;
use crate::group::Membership;
use crate::processes::remote_actor::{Construct, Life, Remote, Settings};
use crate::session::Session;

/// An actor to be made.
pub(crate) struct Making {
    pub(crate) name: Arc<str>,
    pub(crate) settings: Settings,
    pub(crate) demand: Demand,
    pub(crate) group: Option<Membership>,
    pub(crate) construct: Box<dyn Construct>,
    /// Objects among the constructor's arguments.
    pub(crate) needs: Vec<ObjectKey>,
    /// How many values its arguments are.
    pub(crate) copies: u64,
}

impl Making {
    /// Makes it; a worker takes it as soon as it may.
    pub(crate) fn make(self, session: &Arc<Session>) -> Result<Arc<Life>> {
        self.construct.code()?;
        let mut making = Some(self);
        let made = session.act(|hub| {
            let Making { name, settings, demand, group, .. } =
                making.as_ref().expect("it is there until it is made");
            if hub.ended {
                let what = format!("actor `{name}`");
                return Err(Error::new(Kind::SessionEnded { what }));
            }
            let (class, member) = (&settings.class, group.as_ref());
            let lease_class = lease_class(session, hub, class, name, demand, member)?;
            let making = making.take().expect("it is there until it is made");
            let Making { name, settings, group, construct, needs, copies, .. } = making;
            hub.copies += copies;
            let mut made = None;
            let key: ActorKey = hub.actors.insert_with_key(|key| {
                let waits = lease_class.is_some();
                let session = session.clone();
                let actor = Arc::new(Remote::new(session, key, name, settings, waits, construct));
                let erased: Arc<dyn AnyActor> = actor.clone();
                made = Some(actor);
                Arc::downgrade(&erased)
            });
            let actor = made.expect("made a line ago");
            if let Some(member) = group {
                hub.groups.enlist_actor(member.key(), hub.actors[key].clone());
            }
            if !needs.is_empty() {
                let (target, returns) = (Target::Actor(key), Returns::Many(Box::default()));
                let needs = needs.into_boxed_slice();
                let submit = Submit { target, job: None, needs, returns, retries: 0 };
                let (task, waits) = hub.owner.submit(submit);
                if waits {
                    actor.waits_for_arguments(task);
                } else {
                    hub.owner.finished(task, 0, true);
                }
            }
            if let Some(lease_class) = lease_class {
                hub.place(lease_class, actor.clone());
            }
            Ok(Arc::new(Life::new(actor, session.epoch, hub.owner.put())))
        });
        if let Err(error) = &made {
            failures::record_error(error);
        }
        drop(making); // SESS-1: one that was refused holds arguments, which go without the hub's lock.
        let life = made?;
        life.remote.settle_down();
        Ok(life)
    }
}
