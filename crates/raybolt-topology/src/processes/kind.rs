//! The kinds of bolts that can run in a worker, and what drives each there.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use raybolt_wire::Value;

use crate::async_bolt::{AsyncBolt, AsyncOperator};
use crate::bolt::Bolt;
use crate::builder::{Async, async_streams, declared};
use crate::factory::{BoltFactory, Factory};
use crate::instance::{Operator, Plain};
use crate::processes::Proxy;
use crate::tuple::Tuple;
use crate::wiring::StreamSpec;

/// What can run in worker processes: a [`Bolt`], or an [`AsyncBolt`] (for which [`Async`] stands), that travels
/// by `serde`. It is so by itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run in worker processes",
    label = "not a bolt that can travel",
    note = "add `#[derive(Clone, serde::Serialize, serde::Deserialize)]` to the bolt, and `#[serde(skip)]` to what belongs to one process"
)]
pub trait Portable {
    /// What makes its instances there, in place of what makes them here.
    #[doc(hidden)]
    fn elsewhere(here: &dyn Any) -> Option<Elsewhere>;
}

#[diagnostic::do_not_recommend]
impl<B: Bolt + Value> Portable for B {
    fn elsewhere(here: &dyn Any) -> Option<Elsewhere> {
        proxies::<OfBolt<B>>(here)
    }
}

#[diagnostic::do_not_recommend]
impl<B: AsyncBolt + Value> Portable for Async<B> {
    fn elsewhere(here: &dyn Any) -> Option<Elsewhere> {
        proxies::<OfAsyncBolt<B>>(here)
    }
}

/// Makes instances that have their work done in workers.
#[doc(hidden)]
pub struct Elsewhere(pub(crate) Arc<dyn Factory>);

/// Nothing if they are such already.
fn proxies<K: Kind>(here: &dyn Any) -> Option<Elsewhere> {
    let here = here.downcast_ref::<BoltFactory<K::Operator>>()?;
    Some(Elsewhere(BoltFactory::new(Proxy::<K>::new(K::bolt(here.prototype())))))
}

/// A kind of bolt.
pub(crate) trait Kind: 'static {
    type Bolt: Value;
    type In: Tuple;
    type Out: Tuple;
    type Operator: Operator<In = Self::In, Out = Self::Out>;

    fn operator(bolt: Self::Bolt) -> Self::Operator;
    fn bolt(operator: Self::Operator) -> Self::Bolt;
    fn streams(bolt: &Self::Bolt) -> Vec<StreamSpec>;
}

/// Of a [`Bolt`].
pub(super) struct OfBolt<B>(PhantomData<fn(B)>);

impl<B: Bolt + Value> Kind for OfBolt<B> {
    type Bolt = B;
    type In = B::In;
    type Out = B::Out;
    type Operator = Plain<B>;

    fn operator(bolt: B) -> Plain<B> {
        Plain(bolt)
    }

    fn bolt(operator: Plain<B>) -> B {
        operator.0
    }

    fn streams(bolt: &B) -> Vec<StreamSpec> {
        declared(bolt)
    }
}

/// Of an [`AsyncBolt`].
pub(super) struct OfAsyncBolt<B>(PhantomData<fn(B)>);

impl<B: AsyncBolt + Value> Kind for OfAsyncBolt<B> {
    type Bolt = B;
    type In = B::In;
    type Out = B::Out;
    type Operator = AsyncOperator<B>;

    fn operator(bolt: B) -> AsyncOperator<B> {
        AsyncOperator::new(bolt)
    }

    fn bolt(operator: AsyncOperator<B>) -> B {
        operator.bolt()
    }

    fn streams(bolt: &B) -> Vec<StreamSpec> {
        async_streams(bolt)
    }
}
