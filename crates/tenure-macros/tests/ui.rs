//! What the compiler says to whoever uses an attribute wrongly. `TRYBUILD=overwrite` writes it anew.

#[test]
fn mistakes_are_explained_where_they_were_made() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
