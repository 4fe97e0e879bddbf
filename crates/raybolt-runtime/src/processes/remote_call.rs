//! A call of an actor in another process, as the driver keeps it.
//!
//! Its arguments become bytes once, on the thread that makes the call or that brings its last argument:
//! never under a lock, and in the same way if it has to be sent again.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use raybolt_wire::work::MethodCode;

use crate::args::{Arguments, Form};
use crate::error::{Error, Kind, Result};
use crate::job::{Ended, fail, refuse_late, settle};
use crate::method::{Method, call_name};
use crate::object::AnyObject;
use crate::options::TaskOptions;
use crate::output::{Cells, Output};
use crate::panics;
use crate::processes::code::{self, Foreign};
use crate::processes::hosted::{CallShell, call_shell};
use crate::processes::inlet::Inlet;
use crate::processes::parcel;

/// A call whose types are not known here.
pub(crate) trait RemoteCall: Send + Sync {
    /// What it runs.
    fn method(&self) -> MethodCode;
    /// The method's name.
    fn method_name(&self) -> &'static str;
    /// Its name for messages.
    fn name(&self) -> &str;
    /// What names the call to those who read messages, if it is not its method.
    fn own_name(&self) -> Option<&str>;
    fn deadline(&self) -> Option<Instant>;
    /// Makes its arguments bytes, once they are there.
    fn pack(&self) -> Result<()>;
    /// Its arguments, once packed.
    fn packed(&self) -> &Packed;
    /// Where items go that come one by one.
    fn inlet(&self) -> Option<Arc<dyn Inlet>>;
    /// It will not run: delivers `error`, or else that of the argument that failed.
    fn fail(&self, error: Option<Error>);
    /// The actor has answered: `Ok` with the values, or else the error.
    /// `keeps` are the objects that the values refer to.
    fn answered(&self, answer: Result<&[u8]>, keeps: Vec<Arc<dyn AnyObject>>) -> Ended;
}

/// Arguments on their way.
#[derive(Default)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    /// What they refer to, and what keeps it where it is.
    pub(crate) needs: parcel::Packed,
}

/// A call with its types.
pub(crate) struct SentCall<X: Arguments, O: Output> {
    method: MethodCode,
    name: &'static str,
    args: X,
    packed: OnceLock<Packed>,
    cells: O::Cells,
    options: TaskOptions,
}

impl<X: Arguments, O: Output> SentCall<X, O> {
    /// A call of a method of class `A`.
    pub(crate) fn new<A>(
        method: &Method<A, X::Held, O>,
        args: X,
        cells: O::Cells,
        options: TaskOptions,
    ) -> Result<Self>
    where
        A: Send + Sync + 'static,
        X::Held: Send,
    {
        let name = method.name;
        let method = code_of::<A, X, O>(method)?;
        Ok(SentCall { method, name, args, packed: OnceLock::new(), cells, options })
    }
}

/// What names a method to another process of this executable.
pub(crate) fn code_of<A, X, O>(method: &Method<A, X::Held, O>) -> Result<MethodCode>
where
    A: Send + Sync + 'static,
    X: Arguments,
    X::Held: Send,
    O: Output,
{
    let named = || {
        let shell: CallShell = call_shell::<A, X, O>;
        let (kind, body) = method.body.named()?;
        let (name, name_bytes) = code::offset_of_text(method.name)?;
        let group = u16::try_from(method.group).map_err(|_| Foreign)?;
        let shell = code::offset_of(shell as *const () as usize)?;
        Ok(MethodCode { shell, body, kind, group, name, name_bytes })
    };
    named().map_err(|foreign: Foreign| {
        let name = method.name;
        Error::new(Kind::Invalid(format!("`{name}` cannot run in a worker: {foreign}")))
    })
}

impl<X: Arguments, O: Output> RemoteCall for SentCall<X, O> {
    fn method(&self) -> MethodCode {
        self.method
    }

    fn method_name(&self) -> &'static str {
        self.name
    }

    fn name(&self) -> &str {
        call_name(self.name, &self.options)
    }

    fn own_name(&self) -> Option<&str> {
        self.options.settings().and_then(|set| set.name.as_deref())
    }

    fn deadline(&self) -> Option<Instant> {
        self.options.until().map(|(until, _)| until)
    }

    fn pack(&self) -> Result<()> {
        let mut bytes = Vec::new();
        let pack = || self.args.pack(self.name(), Form::Values, &mut bytes);
        let (packed, needs) = parcel::packing(|| panics::catch(self.name(), 0, pack));
        packed.map_err(|panicked| Error::new(Kind::Task(*panicked)))??;
        self.cells.announce(&mut bytes);
        self.packed.get_or_init(|| Packed { bytes, needs });
        Ok(())
    }

    fn inlet(&self) -> Option<Arc<dyn Inlet>> {
        self.cells.inlet()
    }

    fn packed(&self) -> &Packed {
        self.packed.get().expect("a call is packed before it may be sent")
    }

    fn fail(&self, error: Option<Error>) {
        let error = error.or_else(|| self.args.error()).unwrap_or_else(|| {
            Error::new(Kind::Invalid(format!("an argument of `{}` failed", self.name())))
        });
        self.cells.fail(&error);
    }

    fn answered(&self, answer: Result<&[u8]>, keeps: Vec<Arc<dyn AnyObject>>) -> Ended {
        let name = self.name();
        let delivered = answer.and_then(|mut bytes| {
            refuse_late(name, &self.options, &self.cells);
            self.cells.arrived(name, &mut bytes, &keeps)
        });
        drop(keeps); // The values hold what they refer to themselves now.
        settle(name, 0, self.cells.clone(), |cells| match delivered {
            Ok(bytes) => Ended::Success(bytes),
            Err(error) => match error.task_error() {
                Some(failure) => fail(Box::new(failure.clone()), cells),
                None => {
                    cells.fail(&error);
                    Ended::Failed
                }
            },
        })
    }
}
