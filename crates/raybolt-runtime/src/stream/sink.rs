//! The generator's side of a stream.

use std::marker::PhantomData;
use std::sync::Arc;

use raybolt_wire::Value;

use crate::awaited::What;
use crate::error::{Error, Kind};
use crate::job::Failure;
use crate::object::{AnyObject, ObjectRef};
use crate::processes::outlet::Outlet;
use crate::session::{self, Session};

use super::channel::Channel;
use super::stalled::ended;
use super::{Items, StreamCell};

/// Takes a generator's items.
pub struct Sink<'a, T> {
    channel: &'a Arc<Channel<T>>,
    task: &'a str,
    /// So many items are still to come that were made by earlier attempts.
    skip: u64,
    /// The number of the next item.
    index: u64,
    /// Serves for each item that goes to another process.
    buffer: Vec<u8>,
}

/// Whether a generator has to go on.
enum Flow {
    Go,
    Stop,
}

impl<'a, T: Value> Sink<'a, T> {
    /// A sink for the items of the given task.
    pub fn new(task: &'a str, cell: &'a StreamCell<T>) -> Self {
        let skip = cell.0.made();
        Sink { channel: &cell.0, task, skip, index: skip, buffer: Vec::new() }
    }

    /// Takes all items, until nobody wants more.
    ///
    /// # Errors
    /// Never; the type is that of [`try_drain`](Self::try_drain).
    pub fn drain(&mut self, items: impl IntoIterator<Item = T>) -> Result<Items<T>, Failure> {
        for item in items {
            if let Flow::Stop = self.push(item) {
                break;
            }
        }
        Ok(Items(PhantomData))
    }

    /// Takes all items, until one is an error or nobody wants more.
    ///
    /// # Errors
    /// The first error among the items.
    pub fn try_drain<E>(
        &mut self,
        items: impl IntoIterator<Item = Result<T, E>>,
    ) -> Result<Items<T>, Failure>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        for item in items {
            if let Flow::Stop = self.push(item.map_err(Failure::new)?) {
                break;
            }
        }
        Ok(Items(PhantomData))
    }

    fn push(&mut self, item: T) -> Flow {
        if self.skip > 0 {
            self.skip -= 1;
            return Flow::Go;
        }
        let index = self.index;
        self.index += 1;
        if let Some(outlet) = self.channel.outlet.get() {
            return self.send(outlet, index, &item);
        }
        let bytes = match raybolt_wire::value::check(&item) {
            Ok(bytes) => bytes,
            Err(refused) => {
                let (task, because) = (self.task.to_owned(), refused.to_string());
                self.channel.fail(Error::new(Kind::Encode { task, because }));
                return Flow::Stop;
            }
        };
        let pushed = session::with(|session| {
            self.wait_for_room(session);
            if self.channel.is_stopped() {
                return Flow::Stop;
            }
            match ObjectRef::stored(session, item, bytes, |_| Ok(())) {
                Ok(item) => self.channel.push(item),
                Err(error) => {
                    self.channel.fail(error);
                    return Flow::Stop;
                }
            }
            Flow::Go
        });
        pushed.unwrap_or_else(|_| {
            ended(&**self.channel); // Or it would look as if there were no more items.
            Flow::Stop
        })
    }

    fn wait_for_room(&self, session: &Arc<Session>) {
        if self.channel.is_full() {
            // STREAM-3: a session that ends looks for those who stand here.
            let stalled = session.stalled.enter(self.channel.clone());
            let sleeper = session.awaited.enter_for(What::Reader(self.channel.hold.id()), false);
            session.blocking(|| self.channel.wait_for_room());
            drop(sleeper);
            drop(stalled);
        }
    }

    /// The stream is in another process.
    fn send(&mut self, outlet: &Outlet, index: u64, item: &T) -> Flow {
        match outlet.send(self.task, index, item, &mut self.buffer) {
            Ok(true) => Flow::Go,
            Ok(false) => Flow::Stop,
            Err(error) => {
                self.channel.fail(error);
                Flow::Stop
            }
        }
    }
}
