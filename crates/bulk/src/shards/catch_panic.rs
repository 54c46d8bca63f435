//! Turns panics into errors of the shard that is read or written.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Calls a function that reads a shard. The library for Parquet panics on some broken files, which
/// must not end the run.
///
/// # Errors
/// The function has panicked.
pub(super) fn catch_panic<T>(read: impl FnOnce() -> T) -> io::Result<T> {
    // After a panic, only counters and channels of the function are used. They are always valid.
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|panic| io::Error::other(format!("the file is broken: {}", message(panic.as_ref()))))
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_is_an_error_with_its_message() {
        let size = -1;
        let error = catch_panic(|| assert!(size >= 0, "size {size} is negative")).unwrap_err();
        assert_eq!(error.to_string(), "the file is broken: size -1 is negative");
        let error = catch_panic(|| -> u8 { panic!("no size") }).unwrap_err();
        assert_eq!(error.to_string(), "the file is broken: no size");
        assert_eq!(catch_panic(|| 1).unwrap(), 1);
    }
}
