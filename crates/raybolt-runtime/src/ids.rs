//! Ids as users see them: `task-1f`, `object-2a.3`, `actor-5`, `group-1`, `get-7`.
//!
//! A key of the machines is a place and how often that place was used before. Both are written in hex;
//! the second only where it is not zero.

use std::fmt;
use std::str::FromStr;

use raybolt_core::calls::owner::{ActorKey, ObjectKey, TaskKey};
use raybolt_core::calls::scheduler::GroupKey;
use slotmap::{Key, KeyData};

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Id {
    Task(TaskKey),
    Object(ObjectKey),
    Actor(ActorKey),
    /// An object by the number that a worker process gave it.
    Named(u64),
    /// A placement group.
    Group(GroupKey),
    /// A thread or task that waits in a `get`.
    Get(u64),
}

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAnId;

/// Set in the numbers that worker processes give to objects; see [`upstream`](crate::processes::upstream).
const NAMED: u64 = 1 << 63;

impl Id {
    /// What users see of an object that all processes know by this number.
    pub(crate) fn object(number: u64) -> Self {
        match number & NAMED {
            0 => Id::Object(KeyData::from_ffi(number).into()),
            _ => Id::Named(number),
        }
    }

    /// What users see of a task that another process numbers so.
    pub(crate) fn task(key: u64) -> Option<String> {
        let key: TaskKey = KeyData::from_ffi(key).into();
        (!key.is_null()).then(|| Id::Task(key).to_string())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Task(key) => write_key(f, "task", key.data()),
            Id::Object(key) => write_key(f, "object", key.data()),
            Id::Actor(key) => write_key(f, "actor", key.data()),
            Id::Group(key) => write_key(f, "group", key.data()),
            Id::Named(number) => write!(f, "object-w{:x}", number & !NAMED),
            Id::Get(number) => write!(f, "get-{number:x}"),
        }
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (kind, number) = text.trim().split_once('-').ok_or(NotAnId)?;
        match kind {
            "task" => Ok(Id::Task(parse_key(number)?.into())),
            "object" if number.starts_with('w') => Ok(Id::Named(parse_hex(&number[1..])? | NAMED)),
            "object" => Ok(Id::Object(parse_key(number)?.into())),
            "actor" => Ok(Id::Actor(parse_key(number)?.into())),
            "group" => Ok(Id::Group(parse_key(number)?.into())),
            "get" => Ok(Id::Get(parse_hex(number)?)),
            _ => Err(NotAnId),
        }
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, kind: &str, key: KeyData) -> fmt::Result {
    let key = key.as_ffi();
    let (place, version) = (key as u32, key >> 32);
    // Versions of keys are odd.
    match version / 2 {
        0 => write!(f, "{kind}-{place:x}"),
        again => write!(f, "{kind}-{place:x}.{again:x}"),
    }
}

fn parse_key(text: &str) -> Result<KeyData, NotAnId> {
    let (place, again) = text.split_once('.').unwrap_or((text, "0"));
    let (place, again) = (parse_hex(place)?, parse_hex(again)?);
    if place > u64::from(u32::MAX) || again > u64::from(u32::MAX) / 2 {
        return Err(NotAnId);
    }
    Ok(KeyData::from_ffi((again * 2 + 1) << 32 | place))
}

fn parse_hex(text: &str) -> Result<u64, NotAnId> {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().ok_or(NotAnId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    #[test]
    fn what_is_written_is_read_back() {
        let mut keys = SlotMap::<TaskKey, ()>::with_key();
        let first = keys.insert(());
        keys.remove(first);
        let second = keys.insert(());
        assert_eq!(Id::Task(first).to_string(), "task-1");
        assert_eq!(Id::Task(second).to_string(), "task-1.1");
        let group = Id::Group(KeyData::from_ffi(1 << 32 | 3).into());
        for id in [Id::Task(first), Id::Task(second), Id::Get(31), group] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        let object: ObjectKey = KeyData::from_ffi(u64::MAX).into();
        assert_eq!(Id::Object(object).to_string().parse(), Ok(Id::Object(object)));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "task", "task-", "task-x", "task-1.", "task-+1", "task-100000000", "job-1"]
        {
            assert_eq!(text.parse::<Id>(), Err(NotAnId), "{text}");
        }
    }
}
