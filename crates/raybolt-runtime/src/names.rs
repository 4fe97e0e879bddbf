//! Names of actors: who is found under which.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use raybolt_core::suggest;

use crate::error::{Error, Kind, Result};
use crate::handle::{ActorHandle, Inner};
use crate::processes::remote_actor::Life;

/// The named actors of a session.
#[derive(Default)]
pub struct Names(Mutex<BTreeMap<Arc<str>, Named>>);

struct Named {
    class: String,
    actor: Found,
    /// Keeps a detached actor alive; held, never read.
    _detached: Option<Arc<dyn Any + Send + Sync>>,
}

/// The way to a named actor, which does not keep it alive.
enum Found {
    /// In this process.
    Here {
        /// A `Weak<Inner<A>>`.
        handle: Box<dyn Any + Send + Sync>,
        is_alive: fn(&(dyn Any + Send + Sync)) -> bool,
    },
    /// In a worker of this process.
    Worker(Weak<Life>),
}

impl Names {
    /// Finds the actor of this name, or makes it with `create`.
    pub(crate) fn claim<A: Send + Sync + 'static>(
        &self,
        name: &Arc<str>,
        class: &'static str,
        get_if_exists: bool,
        detached: bool,
        create: impl FnOnce() -> ActorHandle<A>,
    ) -> Result<ActorHandle<A>> {
        let mut names = self.lock();
        if let Some(named) = names.get(name)
            && named.is_alive()
        {
            if !get_if_exists {
                return Err(is_taken(name));
            }
            return named.typed(name, class);
        }
        let handle = create();
        let inner: &Arc<Inner<A>> = handle.inner();
        let actor = match handle.life() {
            Some(life) => Found::Worker(Arc::downgrade(life)),
            None => Found::Here {
                handle: Box::new(Arc::downgrade(inner)),
                is_alive: |handle| {
                    let handle = handle.downcast_ref::<Weak<Inner<A>>>();
                    handle.and_then(Weak::upgrade).is_some_and(|inner| inner.is_alive())
                },
            },
        };
        let detached = detached.then(|| inner.clone() as Arc<dyn Any + Send + Sync>);
        names.insert(name.clone(), Named { class: class.into(), actor, _detached: detached });
        Ok(handle)
    }

    pub(crate) fn find<A: Send + Sync + 'static>(
        &self,
        name: &str,
        class: &'static str,
    ) -> Result<ActorHandle<A>> {
        let names = self.lock();
        find(&names, name)?.typed(name, class)
    }

    /// The same for an actor whose type this process does not know.
    pub(crate) fn claim_life(
        &self,
        name: &Arc<str>,
        class: &str,
        kind: u64,
        get_if_exists: bool,
        detached: bool,
        create: impl FnOnce() -> Result<Arc<Life>>,
    ) -> Result<Arc<Life>> {
        let mut names = self.lock();
        if let Some(named) = names.get(name)
            && named.is_alive()
        {
            if !get_if_exists {
                return Err(is_taken(name));
            }
            return named.life(name, class, kind);
        }
        let life = create()?;
        let actor = Found::Worker(Arc::downgrade(&life));
        let detached = detached.then(|| life.clone() as Arc<dyn Any + Send + Sync>);
        names.insert(name.clone(), Named { class: class.into(), actor, _detached: detached });
        Ok(life)
    }

    /// The same for an actor whose type this process does not know.
    pub(crate) fn find_life(&self, name: &str, class: &str, kind: u64) -> Result<Arc<Life>> {
        let names = self.lock();
        find(&names, name)?.life(name, class, kind)
    }

    /// Lets a detached actor go, when it was killed.
    pub(crate) fn forget_dead(&self) {
        let mut names = self.lock();
        let dead = names.extract_if(.., |_, named| !named.is_alive());
        let dead: Vec<_> = dead.collect();
        drop(names);
        drop(dead);
    }

    pub(crate) fn clear(&self) {
        let names = std::mem::take(&mut *self.lock());
        drop(names); // Outside the lock: handles go with them.
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Named>> {
        self.0.lock().expect("no thread panics while it holds the names")
    }
}

fn is_taken(name: &str) -> Error {
    Error::new(Kind::ActorName(format!(
        "an actor named `{name}` exists already; choose another name, or take that one with `get_if_exists`"
    )))
}

fn find<'a>(names: &'a BTreeMap<Arc<str>, Named>, name: &str) -> Result<&'a Named> {
    names.get(name).filter(|named| named.is_alive()).ok_or_else(|| {
        let known = names.iter().filter(|(_, named)| named.is_alive()).map(|(known, _)| &**known);
        let hint = suggest::nearest(name, known)
            .map(|nearest| format!("; did you mean `{nearest}`?"))
            .unwrap_or_default();
        Error::new(Kind::ActorName(format!("no actor is named `{name}`{hint}")))
    })
}

impl Named {
    fn is_alive(&self) -> bool {
        match &self.actor {
            Found::Here { handle, is_alive } => is_alive(&**handle),
            Found::Worker(life) => life.upgrade().is_some_and(|life| life.remote.is_alive()),
        }
    }

    fn typed<A: Send + Sync + 'static>(
        &self,
        name: &str,
        class: &'static str,
    ) -> Result<ActorHandle<A>> {
        let handle = match &self.actor {
            Found::Here { handle, .. } => {
                let inner = handle.downcast_ref::<Weak<Inner<A>>>().and_then(Weak::upgrade);
                inner.map(ActorHandle::from_inner)
            }
            Found::Worker(life) => life.upgrade().and_then(ActorHandle::of_life),
        };
        handle.ok_or_else(|| self.is_another(name, class))
    }

    fn life(&self, name: &str, class: &str, kind: u64) -> Result<Arc<Life>> {
        let life = match &self.actor {
            Found::Here { .. } => None,
            Found::Worker(life) => life.upgrade(),
        };
        let right = life.filter(|life| life.remote.settings().kind == kind);
        right.ok_or_else(|| self.is_another(name, class))
    }

    fn is_another(&self, name: &str, class: &str) -> Error {
        let message = format!("actor `{name}` is a `{}`, not a `{class}`", self.class);
        Error::new(Kind::ActorName(message))
    }
}
