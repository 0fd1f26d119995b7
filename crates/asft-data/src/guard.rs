//! Panics of libraries on damaged input, turned into errors.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    sync::Once,
};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `parse`, which may panic where its input is damaged; `None` if it did, without a word on standard
/// error. Nothing that a panic may have left half-changed must be used afterwards.
pub fn guarded<T>(parse: impl FnOnce() -> T) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                loud(panic);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(parse)).ok();
    GUARDED.set(outer);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none_and_the_guard_is_lifted() {
        let index = |list: &[u8], at: usize| list[at];
        assert_eq!(guarded(|| index(&[1, 2], 1)), Some(2));
        assert_eq!(guarded(|| index(&[1, 2], 2)), None);
        assert!(!GUARDED.get());
    }
}
