//! What `#[derive(Tuple)]` makes, seen from outside.

use std::hash::{DefaultHasher, Hasher};

use raybolt_topology::{
    Decoder, Encoder, Field, RequestId, Tuple, TupleError, Value, Values, values,
};

#[derive(Clone, Debug, PartialEq, raybolt_macros::Tuple)]
#[tuple(crate = "raybolt_topology")]
struct Follower {
    request: RequestId,
    follower: u32,
    r#type: String,
}

#[derive(Clone, Debug, PartialEq, raybolt_macros::Tuple)]
#[tuple(crate = "raybolt_topology")]
struct Word {
    word: String,
}

fn follower() -> Follower {
    Follower { request: RequestId(7), follower: 42, r#type: "fan".into() }
}

fn hash_of<T: Tuple>(tuple: &T, index: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    tuple.hash_field(index, &mut hasher);
    hasher.finish()
}

#[test]
fn fields_have_their_names_in_order() {
    assert_eq!(Follower::FIELDS, ["request", "follower", "type"]);
    assert_eq!(Word::FIELDS, ["word"]);
}

#[test]
fn the_request_is_the_first_field_if_that_is_one() {
    assert_eq!(follower().request_id(), Some(RequestId(7)));
    assert_eq!(Word { word: "bolt".into() }.request_id(), None);
}

#[test]
fn each_field_hashes_as_it_does_alone_and_in_a_dynamic_tuple() {
    let (typed, dynamic) = (follower(), follower().into_values());
    for index in 0..4 {
        assert_eq!(hash_of(&typed, index), hash_of(&dynamic, index));
    }
    let mut alone = DefaultHasher::new();
    Field::hash_into(&42_u32, &mut alone);
    assert_eq!(hash_of(&typed, 1), alone.finish());
}

#[test]
fn values_come_and_go() {
    let expected = Values(vec![Value::Request(RequestId(7)), Value::I64(42), "fan".into()]);
    assert_eq!(follower().into_values(), expected);
    assert_eq!(Follower::from_values(expected).unwrap(), follower());
}

#[test]
fn values_that_do_not_fit_are_refused_by_name() {
    let error = Word::from_values(values![1]).unwrap_err();
    assert!(matches!(error, TupleError::Kind { field, .. } if field == "word"));
    let error = Word::from_values(values!["a", "b"]).unwrap_err();
    assert!(matches!(error, TupleError::Arity { expected: 1, actual: 2, .. }));
}

#[test]
fn bytes_come_and_go() {
    let mut encoder = Encoder::default();
    follower().encode(&mut encoder).unwrap();
    let bytes = encoder.into_bytes();
    assert_eq!(Follower::decode(&mut Decoder::new(&bytes)).unwrap(), follower());
    assert!(Follower::decode(&mut Decoder::new(&bytes[..2])).is_err());
}

/// A struct that a macro makes has names of two kinds of hygiene.
macro_rules! tuple_of {
    ($name:ident { $($field:ident: $ty:ty),* }) => {
        #[derive(Clone, raybolt_macros::Tuple)]
        #[tuple(crate = "raybolt_topology")]
        struct $name {
            $($field: $ty,)*
            last: u8,
        }
    };
}

tuple_of!(Made { first: RequestId, second: Vec<u64> });

#[test]
fn a_struct_that_a_macro_makes_can_be_a_tuple() {
    let made = Made { first: RequestId(1), second: vec![2], last: 3 };
    assert_eq!(Made::FIELDS, ["first", "second", "last"]);
    assert_eq!(made.request_id(), Some(RequestId(1)));
    assert_eq!(made.into_values()[2], Value::I64(3));
}
