//! The database: keys and values in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::encoding::Problem;

type Entries = BTreeMap<String, Arc<[u8]>>;

/// All keys and their values. Workers use it at the same time: readers don't wait for each other.
///
/// A tree and not a hash map, for [`list`](Self::list). What is done under the lock is short; nothing is encoded, sent
/// or waited for there.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: RwLock<Entries>,
}

impl Store {
    pub(crate) fn get(&self, key: &str) -> Option<Arc<[u8]>> {
        self.read().get(key).cloned()
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) {
        // Made before the lock is taken. The value that was there is dropped after it is given back.
        let (key, value) = (key.to_owned(), value.into());
        let _before = self.write().insert(key, value);
    }

    /// Whether there was such a key.
    pub(crate) fn delete(&self, key: &str) -> bool {
        let before = self.write().remove(key);
        before.is_some()
    }

    /// At most `limit` keys that begin with `prefix` and are greater than `after`, and whether there are more.
    pub(crate) fn list(&self, prefix: &str, after: &str, limit: usize) -> (Vec<String>, bool) {
        let start = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let entries = self.read();
        let mut matching = entries
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix));
        let keys = matching.by_ref().take(limit).cloned().collect();
        (keys, matching.next().is_some())
    }

    /// Adds `amount` to the number under `key` and returns the sum. One step: no other change comes in between.
    pub(crate) fn add(&self, key: &str, amount: i64) -> Result<i64, Problem> {
        let mut entries = self.write();
        let number = entries.get(key).map_or(Ok(0), |value| number(value))?;
        let sum = number.checked_add(amount).ok_or(Problem::OutOfRange)?;
        // As digits, so that `get` shows a number, and `set` makes one that can be added to.
        entries.insert(key.to_owned(), sum.to_string().into_bytes().into());
        Ok(sum)
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }

    /// A thread that panicked under the lock would leave whole entries behind: every change is one call of the map.
    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(value: &[u8]) -> Result<i64, Problem> {
    str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).ok_or(Problem::NotANumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_order_and_come_in_pieces() {
        let store = Store::default();
        for key in ["b", "a:3", "a:1", "a:2", "a", "ab"] {
            store.set(key, b"");
        }
        let list = |prefix, after, limit| {
            let (keys, more) = store.list(prefix, after, limit);
            (keys.join(" "), more)
        };
        assert_eq!(list("", "", 9), ("a a:1 a:2 a:3 ab b".to_owned(), false));
        assert_eq!(list("a:", "", 2), ("a:1 a:2".to_owned(), true));
        assert_eq!(list("a:", "a:2", 1), ("a:3".to_owned(), false));
        assert_eq!(list("a:", "b", 9), (String::new(), false));
        assert_eq!(list("c", "", 9), (String::new(), false));
    }

    #[test]
    fn only_numbers_are_added_to_and_only_if_the_sum_fits() {
        let store = Store::default();
        assert_eq!(store.add("n", -2), Ok(-2));
        assert_eq!(store.get("n").as_deref(), Some(b"-2".as_slice()));
        assert_eq!(store.add("n", i64::MIN), Err(Problem::OutOfRange));
        assert_eq!(store.add("n", i64::MAX), Ok(i64::MAX - 2));
        store.set("n", b"many");
        assert_eq!(store.add("n", 1), Err(Problem::NotANumber));
        assert_eq!(store.get("n").as_deref(), Some(b"many".as_slice()));
    }
}
