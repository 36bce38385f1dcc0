//! File names: everything that the order of tasks needs, readable with `ls`, and exactly the original's.

use std::{fmt, path::PathBuf};

use super::{ExecTime, Priority, QueueName, TaskId};

/// `<exectime>_<priority>_<id>.json`: the exectime in UTC as `%Y-%m-%dT%H:%M:%S`, the priority with at least eight
/// characters, padded with zeros after its sign, as Python's `%08d` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// When the task is due.
    pub exectime: ExecTime,
    /// How urgent it is.
    pub priority: Priority,
    /// Which task it is.
    pub id: TaskId,
}

impl FileName {
    /// Reads a canonical name: `None` for any other, so that what is read is written back byte for byte. That is not held by
    /// writing it: a start reads a million of them.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let stem = text.strip_suffix(".json")?;
        let (exectime, rest) = stem.split_once('_')?;
        let (priority, id) = rest.split_once('_')?;
        if !is_padded(priority) || id.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        Some(Self {
            exectime: ExecTime::from_civil(exectime)?,
            priority: Priority::parse(priority).ok()?,
            id: TaskId::parse(id).ok()?,
        })
    }
}

/// Whether a whole number is written as `%08d` writes it: zeros only up to the eighth character, and no minus before zero.
fn is_padded(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number).as_bytes();
    let is_negative = digits.len() < number.len();
    digits.iter().all(u8::is_ascii_digit)
        && match number.len() {
            0..8 => false,
            8 => !is_negative || digits.iter().any(|digit| *digit != b'0'),
            _ => digits[0] != b'0',
        }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}_{:08}_{}.json",
            self.exectime.to_civil(),
            self.priority.get(),
            self.id
        )
    }
}

/// The directory that a task's file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Unfinished tasks: the watched task directory.
    Tasks,
    /// Tasks that are out of attempts.
    Dead,
    /// Completed tasks, where retention is on.
    Done,
}

impl Area {
    /// The directory's name below the data directory.
    #[must_use]
    pub const fn dir(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }

    /// The folder of a queue's files, relative to the data directory. The default queue has none: its files lie right in the
    /// directory.
    #[must_use]
    pub fn folder(self, queue: &QueueName) -> PathBuf {
        let dir = PathBuf::from(self.dir());
        if queue.is_default() {
            dir
        } else {
            dir.join(queue.as_str())
        }
    }
}

/// Where a task's file is, or should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Which directory.
    pub area: Area,
    /// Which folder of it; the default queue's files lie right in the directory.
    pub queue: QueueName,
    /// The file's name.
    pub name: FileName,
}

impl Location {
    /// The folder, relative to the data directory.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.area.folder(&self.queue)
    }

    /// The file, relative to the data directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder().join(self.name.to_string())
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> FileName {
        FileName::parse(text).unwrap_or_else(|| panic!("{text} is canonical"))
    }

    #[test]
    fn the_originals_names_are_read_and_written_exactly() {
        let known = [
            (
                "1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-000000000001.json",
                0,
                100,
            ),
            (
                "2026-11-24T20:10:48_00000005_b3f0c0de-1111-4222-8333-444455556666.json",
                1_795_551_048,
                5,
            ),
            (
                "1970-01-01T00:00:00_-0000005_b3f0c0de-1111-4222-8333-444455556666.json",
                0,
                -5,
            ),
            (
                "9999-12-31T23:59:59_2147483647_b3f0c0de-1111-4222-8333-444455556666.json",
                253_402_300_799,
                i32::MAX,
            ),
            (
                "1969-12-31T23:59:59_-2147483648_b3f0c0de-1111-4222-8333-444455556666.json",
                -1,
                i32::MIN,
            ),
            (
                "0001-01-01T00:00:00_00000000_b3f0c0de-1111-4222-8333-444455556666.json",
                -62_135_596_800,
                0,
            ),
        ];
        for (text, exectime, priority) in known {
            let read = name(text);
            assert_eq!(
                (read.exectime.get(), read.priority.get()),
                (exectime, priority),
                "{text}"
            );
            assert_eq!(read.to_string(), text);
        }
    }

    #[test]
    fn what_would_not_be_written_back_the_same_is_not_canonical() {
        for text in [
            "",
            ".json",
            "task.json",
            "1970-01-01T00:00:00_100_b3f0c0de-1111-4222-8333-444455556666.json",
            "1970-01-01T00:00:00_+0000100_b3f0c0de-1111-4222-8333-444455556666.json",
            "1970-01-01T00:00:00_00000100_B3F0C0DE-1111-4222-8333-444455556666.json",
            "1970-01-01T00:00:60_00000100_b3f0c0de-1111-4222-8333-444455556666.json",
            "1970-02-30T00:00:00_00000100_b3f0c0de-1111-4222-8333-444455556666.json",
            "1970-01-01T00:00:00_00000100_b3f0c0de-1111-4222-8333-444455556666.json.json",
            "1970-01-01T00:00:00_99999999999_b3f0c0de-1111-4222-8333-444455556666.json",
            "0000-01-01T00:00:00_00000100_b3f0c0de-1111-4222-8333-444455556666.json",
            "١970-01-01T00:00:00_00000100_b3f0c0de-1111-4222-8333-444455556666.json",
        ] {
            assert_eq!(FileName::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(exectime in ExecTime::MIN.get()..=ExecTime::MAX.get(), priority: i32, id: [u8; 16]) {
            let name = FileName { exectime: ExecTime::new(exectime).unwrap(), priority: Priority::new(priority), id: TaskId::from_bytes(id) };
            prop_assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn a_name_with_another_character_is_read_as_what_it_is_or_not_at_all(priority in -200_000_000..200_000_000_i32, id: [u8; 16], at in 0_usize..72, other in "[-+0-9A-Fa-fT:_. ]?") {
            let name = FileName { exectime: ExecTime::new(1_795_551_048).unwrap(), priority: Priority::new(priority), id: TaskId::from_bytes(id) };
            let mut text = name.to_string();
            let at = at.min(text.len() - 1);
            text.replace_range(at..=at, &other);
            if let Some(name) = FileName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn a_priority_is_canonical_if_it_is_what_is_written(text in "-?0{0,9}[0-9]{0,11}") {
            let is_written = text.parse::<i32>().is_ok_and(|number| format!("{number:08}") == text);
            let fits = text.parse::<i32>().is_ok();
            prop_assert_eq!(is_padded(&text) && fits, is_written);
        }

        #[test]
        fn no_text_is_read_as_what_it_is_not(text in "[0-9T:_.a-f-]{0,80}(\\.json)?") {
            if let Some(name) = FileName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }

    #[test]
    fn a_queues_files_have_a_folder_and_the_default_queues_have_none() {
        let name = name("1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-000000000001.json");
        let place = |area, queue| {
            Location {
                area,
                queue: QueueName::parse(queue).unwrap(),
                name,
            }
            .path()
            .display()
            .to_string()
        };
        assert_eq!(place(Area::Tasks, "default"), format!("tasks/{name}"));
        assert_eq!(place(Area::Dead, "emails"), format!("dead/emails/{name}"));
    }
}
