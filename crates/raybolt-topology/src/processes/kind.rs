//! The kinds of bolts that can run in a worker, and what drives each there.

use std::marker::PhantomData;

use raybolt_wire::Value;

use crate::async_bolt::{AsyncBolt, AsyncOperator};
use crate::bolt::Bolt;
use crate::builder::{async_streams, declared};
use crate::instance::{Operator, Plain};
use crate::tuple::Tuple;
use crate::wiring::StreamSpec;

/// A kind of bolt.
pub(crate) trait Kind: 'static {
    type Bolt: Value;
    type In: Tuple;
    type Out: Tuple;
    type Operator: Operator<In = Self::In, Out = Self::Out>;

    fn operator(bolt: Self::Bolt) -> Self::Operator;
    fn streams(bolt: &Self::Bolt) -> Vec<StreamSpec>;
}

/// Of a [`Bolt`].
pub(crate) struct OfBolt<B>(PhantomData<fn(B)>);

impl<B: Bolt + Value> Kind for OfBolt<B> {
    type Bolt = B;
    type In = B::In;
    type Out = B::Out;
    type Operator = Plain<B>;

    fn operator(bolt: B) -> Plain<B> {
        Plain(bolt)
    }

    fn streams(bolt: &B) -> Vec<StreamSpec> {
        declared(bolt)
    }
}

/// Of an [`AsyncBolt`].
pub(crate) struct OfAsyncBolt<B>(PhantomData<fn(B)>);

impl<B: AsyncBolt + Value> Kind for OfAsyncBolt<B> {
    type Bolt = B;
    type In = B::In;
    type Out = B::Out;
    type Operator = AsyncOperator<B>;

    fn operator(bolt: B) -> AsyncOperator<B> {
        AsyncOperator::new(bolt)
    }

    fn streams(bolt: &B) -> Vec<StreamSpec> {
        async_streams(bolt)
    }
}
