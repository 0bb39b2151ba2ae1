//! The rows of docs/proof.md that need other processes, root, or file systems of their own.
//!
//! `faults [--long] [--row N] [--seed S]`; `faults --again 'words'` makes one trial again, as a failure has named it.
fn main() {
    jlog_tests::real::trouble::go_apart();
    jlog_tests::real::parts::play_if_told();
    let words = std::env::args().nth(2).unwrap();
    let field = jlog_tests::real::trouble::Field::in_memory();
    println!("{:?}", jlog_tests::real::rows::trial(&field, &words));
}
