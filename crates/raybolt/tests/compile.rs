//! What the compiler says about values that cannot travel. The macros' own messages are tested beside
//! the macros, where that takes no time.

#[test]
fn what_cannot_travel_is_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
