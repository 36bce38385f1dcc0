//! What a path in the task directory stands for, by its name alone.
//!
//! This module may not know: what is on the disk.

use std::{
    ffi::OsStr,
    path::{Component, Path},
};

use crate::task::{Area, FileName, Location, QueueName};

/// The task directory, relative to the data directory.
pub(super) const TASKS: &str = Area::Tasks.dir();

/// What a path relative to the data directory stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The task directory itself.
    Root,
    /// Something right in the task directory: a file of the default queue or a queue's folder.
    Entry(&'a OsStr),
    /// Something in a folder of the task directory.
    Inside {
        /// The folder's name.
        folder: &'a OsStr,
        /// Its name there.
        name: &'a OsStr,
    },
    /// Anything else in the data directory.
    Elsewhere,
}

/// What `path`, relative to the data directory, stands for.
pub(super) fn place(path: &Path) -> Place<'_> {
    let mut parts = path.components().map(|part| match part {
        Component::Normal(name) => name,
        other => other.as_os_str(),
    });
    if parts.next() != Some(OsStr::new(TASKS)) {
        return Place::Elsewhere;
    }
    match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => Place::Root,
        (Some(name), None, _) => Place::Entry(name),
        (Some(folder), Some(name), None) => Place::Inside { folder, name },
        _ => Place::Elsewhere,
    }
}

/// The queue that a folder's name names, if it is a queue's name.
pub(super) fn queue_of(folder: &OsStr) -> Option<QueueName> {
    QueueName::parse(folder.to_str()?).ok()
}

/// The location, if `path` is a canonical name in its canonical folder. `tasks/default/` is not one: the default queue's
/// files lie right in the task directory.
#[must_use]
pub fn location(path: &Path) -> Option<Location> {
    let (queue, name) = match place(path) {
        Place::Entry(name) => (QueueName::default(), name),
        Place::Inside { folder, name } => {
            (queue_of(folder).filter(|queue| !queue.is_default())?, name)
        }
        Place::Root | Place::Elsewhere => return None,
    };
    Some(Location {
        area: Area::Tasks,
        queue,
        name: FileName::parse(name.to_str()?)?,
    })
}

/// The queue whose files lie where `path` does, whatever its own name.
#[must_use]
pub fn queue_at(path: &Path) -> Option<QueueName> {
    match place(path) {
        Place::Entry(_) => Some(QueueName::default()),
        Place::Inside { folder, .. } => queue_of(folder),
        Place::Root | Place::Elsewhere => None,
    }
}

/// Whether a name asks to be left alone, be it a file's or a folder's.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a file's name says that it is still being written. A folder may be called so: it is a queue's name.
pub(super) fn is_unfinished(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    [&b".tmp"[..], b".part", b".swp", b"~"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// How a dropped file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object.
    Json,
    /// The payload as it is.
    Text,
    /// Not at all.
    Unknown,
}

/// How a file of this name is to be read.
pub(super) fn form(name: &OsStr) -> Form {
    let name = name.as_encoded_bytes();
    if name.ends_with(b".json") {
        Form::Json
    } else if name.ends_with(b".txt") {
        Form::Text
    } else {
        Form::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-000000000001.json";

    #[test]
    fn a_path_stands_for_one_thing() {
        let seen = |path| place(Path::new(path));
        assert_eq!(seen("tasks"), Place::Root);
        assert_eq!(seen("tasks/a"), Place::Entry(OsStr::new("a")));
        let (folder, name) = (OsStr::new("a"), OsStr::new("b"));
        assert_eq!(seen("tasks/a/b"), Place::Inside { folder, name });
        for path in ["", "lock", "dead/a", "tasks/a/b/c"] {
            assert_eq!(seen(path), Place::Elsewhere, "{path}");
        }
    }

    #[test]
    fn a_canonical_name_has_one_canonical_folder() {
        let found = |folder: &str| location(Path::new(&format!("tasks/{folder}{NAME}")));
        assert!(found("").is_some_and(|at| at.queue.is_default()));
        assert!(found("emails/").is_some_and(|at| at.queue.as_str() == "emails"));
        assert_eq!(found("default/"), None);
        assert_eq!(found("No Queue/"), None);
        assert_eq!(location(Path::new("tasks/a.json")), None);
    }

    #[test]
    fn names_tell_what_is_unfinished_and_how_to_read_the_rest() {
        for name in ["a.tmp", "a.json.part", ".a.swp", "a.txt~", "~"] {
            assert!(is_unfinished(OsStr::new(name)), "{name}");
        }
        assert!(is_hidden(OsStr::new(".a.json")) && !is_unfinished(OsStr::new("a.json")));
        assert_eq!(form(OsStr::new("a.json")), Form::Json);
        assert_eq!(form(OsStr::new("a.b.txt")), Form::Text);
        assert_eq!(form(OsStr::new("a.JSON")), Form::Unknown);
    }
}
