//! What a task returns, and the objects that it goes to.

use std::sync::{Arc, Weak};

use raybolt_core::calls::owner::{Owner, Returns};
use raybolt_wire::Value;

use crate::error::{Error, Kind, Result};
use crate::job::Job;
use crate::object::{AnyObject, Hold, Lazy, Object, ObjectRef, Stored};
use crate::options::TaskOptions;
use crate::processes::inlet::Inlet;
use crate::processes::layout::Source;
use crate::processes::outlet::Outlet;
use crate::processes::parcel::{self, Piece};
use crate::processes::plain;
use crate::processes::raw::Encoded;

/// What a task returns when it succeeds.
pub trait Output: Sized + Send + 'static {
    /// The places where the values go.
    type Cells: Cells;
    /// What the caller gets at once.
    type Refs: Send;
    /// Places and references for a task of session `epoch`.
    fn pending(epoch: u32) -> (Self::Cells, Self::Refs);
    /// References to nothing but an error.
    fn failed(error: Error) -> Self::Refs;
    /// Puts the values where they go; says how many bytes they are, about.
    fn deliver(self, task: &str, cells: &Self::Cells) -> Result<usize>;
}

/// The places where the values of one task go.
pub trait Cells: Clone + Send + Sync + 'static {
    /// Registers them with their owner.
    #[doc(hidden)]
    fn expect(&self, owner: &mut Owner<Box<dyn Job>>) -> Returns;
    /// Takes from the options what concerns the places.
    #[doc(hidden)]
    fn configure(&self, _options: &TaskOptions) {}
    /// Puts an error in place of each value that is not there yet.
    fn fail(&self, error: &Error);
    /// Whether somebody waits for one of them.
    fn is_watched(&self) -> bool;
    /// The places, without keeping them.
    #[doc(hidden)]
    fn weak(&self) -> Vec<Weak<dyn AnyObject>>;
    /// Appends the values that lie here, or says which error does.
    #[doc(hidden)]
    fn pack(&self, task: &str, out: &mut Vec<u8>) -> Result<()>;
    /// Puts what [`Cells::pack`] wrote in another process where it goes, with what the values refer to; says
    /// how many bytes they are.
    #[doc(hidden)]
    fn arrived(&self, task: &str, bytes: &mut &[u8], keeps: &[Arc<dyn AnyObject>])
    -> Result<usize>;
    /// Shows each place, in order.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "part of no API")]
    fn each(&self, see: &mut dyn FnMut(&Hold, Weak<dyn AnyObject>));
    /// Appends what a worker has to know of them, before it runs the task.
    #[doc(hidden)]
    fn announce(&self, _out: &mut Vec<u8>) {}
    /// Reads that back, in the worker.
    #[doc(hidden)]
    #[allow(private_interfaces, reason = "part of no API")]
    fn connect(
        &self,
        _bytes: &mut &[u8],
        _outlet: &dyn Fn(u64) -> Arc<Outlet>,
    ) -> std::result::Result<(), parcel::Unreadable> {
        Ok(())
    }
    /// Where items that come one by one go.
    #[doc(hidden)]
    fn inlet(&self) -> Option<Arc<dyn Inlet>> {
        None
    }
    /// How many of those there is room for.
    #[doc(hidden)]
    fn room(&self) -> Option<u64> {
        None
    }
}

/// The usual output: one value.
pub struct One<T>(pub T);

/// Several values, each an object of its own.
pub struct Several<T>(pub T);

impl<T: Value> Output for One<T> {
    type Cells = Cell<T>;
    type Refs = ObjectRef<T>;

    fn pending(epoch: u32) -> (Self::Cells, Self::Refs) {
        let object = ObjectRef::pending(epoch);
        (Cell(object.0.clone()), object)
    }

    fn failed(error: Error) -> Self::Refs {
        ObjectRef::settled(Err(error))
    }

    fn deliver(self, task: &str, cells: &Self::Cells) -> Result<usize> {
        cells.deliver(task, self.0)
    }
}

/// The place of one value.
pub struct Cell<T>(pub(crate) Arc<Object<T>>);

impl<T> Clone for Cell<T> {
    fn clone(&self) -> Self {
        Cell(self.0.clone())
    }
}

impl<T: Value> Cell<T> {
    fn deliver(&self, task: &str, value: T) -> Result<usize> {
        self.admit(task, &value).and_then(|()| self.put(value)).inspect_err(|_| self.withdraw())
    }

    /// Whether the value may be put here.
    fn admit(&self, task: &str, value: &T) -> Result<()> {
        let size = raybolt_wire::value::check(value).map_err(|error| {
            Error::new(Kind::Encode { task: task.into(), because: error.to_string() })
        })?;
        // Known before anyone can see the value, and let go of it.
        self.0.hold.set_size(size);
        match self.0.slot.get() {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Puts the value here, unless an error is here already: cancelled, or past its deadline.
    fn put(&self, value: T) -> Result<usize> {
        let size = self.0.hold.size();
        match self.0.slot.set(Ok(Lazy::Here(value))) {
            Ok(()) => Ok(size),
            Err(_) => Err(self.error()),
        }
    }

    fn error(&self) -> Error {
        let there = self.0.slot.get().and_then(|there| there.as_ref().err());
        there.cloned().expect("a value is delivered once, and only an error may come before")
    }

    /// The values of this task are not counted.
    fn withdraw(&self) {
        self.0.hold.set_size(0);
    }
}

impl<T: Value> Cells for Cell<T> {
    fn expect(&self, owner: &mut Owner<Box<dyn Job>>) -> Returns {
        let key = owner.expect();
        self.0.hold.set_key(key);
        Returns::One(key)
    }

    fn fail(&self, error: &Error) {
        self.0.fail(error.clone());
    }

    fn is_watched(&self) -> bool {
        self.0.slot.is_watched()
    }

    fn weak(&self) -> Vec<Weak<dyn AnyObject>> {
        let object: Arc<dyn AnyObject> = self.0.clone();
        vec![Arc::downgrade(&object)]
    }

    fn pack(&self, task: &str, out: &mut Vec<u8>) -> Result<()> {
        self.0.pack(out).map_err(|error| match error.kind() {
            Kind::Encode { because, .. } => {
                Error::new(Kind::Encode { task: task.into(), because: because.clone() })
            }
            _ => error,
        })
    }

    fn arrived(
        &self,
        task: &str,
        bytes: &mut &[u8],
        keeps: &[Arc<dyn AnyObject>],
    ) -> Result<usize> {
        let unreadable = |because| Error::new(Kind::Decode { task: task.into(), because });
        let piece = parcel::take_piece(bytes).map_err(|error| unreadable(error.to_string()))?;
        let value = match piece {
            Piece::Inline(own) => {
                let value = parcel::open_value(own, &Source::None);
                self.0.hold.set_size(own.len());
                Lazy::Here(value.map_err(|error| unreadable(error.to_string()))?)
            }
            Piece::LaidOut(all) if let Some(run) = plain::copy(all) => {
                self.0.hold.set_size(all.len());
                Lazy::Here(run)
            }
            _ => {
                let encoded = Encoded::of(piece, keeps.to_vec()).map_err(unreadable)?;
                self.0.hold.set_size(encoded.bytes());
                encoded.named(self.0.hold.id());
                T::decode(&encoded)?
            }
        };
        // Known before anyone can see the value, and let go of it.
        let size = self.0.hold.size();
        self.0.slot.set(Ok(value)).map(|()| size).map_err(|_| {
            self.withdraw();
            self.error()
        })
    }

    #[allow(private_interfaces, reason = "part of no API")]
    fn each(&self, see: &mut dyn FnMut(&Hold, Weak<dyn AnyObject>)) {
        let object: Arc<dyn AnyObject> = self.0.clone();
        see(&self.0.hold, Arc::downgrade(&object));
    }
}

macro_rules! several {
    ($($name:ident $cell:ident)+) => {
        impl<$($name: Value),+> Output for Several<($($name,)+)> {
            type Cells = ($(Cell<$name>,)+);
            type Refs = ($(ObjectRef<$name>,)+);

            #[allow(non_snake_case, reason = "one body for every length of tuple")]
            fn pending(epoch: u32) -> (Self::Cells, Self::Refs) {
                $(let $name = ObjectRef::pending(epoch);)+
                (($(Cell($name.0.clone()),)+), ($($name,)+))
            }

            fn failed(error: Error) -> Self::Refs {
                ($(ObjectRef::<$name>::settled(Err(error.clone())),)+)
            }

            #[allow(non_snake_case, reason = "one body for every length of tuple")]
            fn deliver(self, task: &str, cells: &Self::Cells) -> Result<usize> {
                let ($($name,)+) = self.0;
                let ($($cell,)+) = cells;
                let deliver = || {
                    $($cell.admit(task, &$name)?;)+ // All of them, or none.
                    Ok(0 $(+ $cell.put($name)?)+)
                };
                deliver().inspect_err(|_| {
                    $($cell.withdraw();)+
                })
            }
        }

        impl<$($name: Value),+> Cells for ($(Cell<$name>,)+) {
            fn expect(&self, owner: &mut Owner<Box<dyn Job>>) -> Returns {
                let ($($cell,)+) = self;
                let keys = [$({
                    let key = owner.expect();
                    $cell.0.hold.set_key(key);
                    key
                }),+];
                Returns::Many(keys.into())
            }

            fn fail(&self, error: &Error) {
                let ($($cell,)+) = self;
                $($cell.fail(error);)+
            }

            fn is_watched(&self) -> bool {
                let ($($cell,)+) = self;
                false $(|| $cell.is_watched())+
            }

            fn weak(&self) -> Vec<Weak<dyn AnyObject>> {
                let ($($cell,)+) = self;
                [$($cell.weak()),+].concat()
            }

            fn pack(&self, task: &str, out: &mut Vec<u8>) -> Result<()> {
                let ($($cell,)+) = self;
                $($cell.pack(task, out)?;)+
                Ok(())
            }

            fn arrived(
                &self,
                task: &str,
                bytes: &mut &[u8],
                keeps: &[Arc<dyn AnyObject>],
            ) -> Result<usize> {
                let ($($cell,)+) = self;
                Ok(0 $(+ $cell.arrived(task, bytes, keeps)?)+)
            }

            #[allow(private_interfaces, reason = "part of no API")]
            fn each(&self, see: &mut dyn FnMut(&Hold, Weak<dyn AnyObject>)) {
                let ($($cell,)+) = self;
                $($cell.each(see);)+
            }
        }
    };
}

several!(A a B b);
several!(A a B b C c);
several!(A a B b C c D d);
several!(A a B b C c D d E e);
several!(A a B b C c D d E e F f);
