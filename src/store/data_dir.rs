//! The data directory and the directories in it: made where they are missing, checked where they are there.
//!
//! This module may not know: what lies in those directories, or who runs the daemon. It runs once, before anything is
//! open, so it speaks to the kernel itself and not through [`Disk`](super::Disk).

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, AtFlags, CWD};

use super::shown;

/// The directories that every data directory has. `done/` comes into being with the first file that is kept there.
const DIRECTORIES: [&str; 4] = ["tasks", "dead", "rejected", "journal"];

/// Owner and group may do all, the umask decides about others: group members may drop files.
const MODE: u32 = 0o777;

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Something else is where a directory should be.
    #[error("{} is {what}, not a directory", shown(path))]
    NotADirectory {
        /// Where.
        path: PathBuf,
        /// What is there ("a file").
        what: &'static str,
    },
    /// The daemon's user may not make it, or not read and write in it.
    #[error("no permission to {what} {}", shown(path))]
    NoPermission {
        /// Where.
        path: PathBuf,
        /// To do what ("make the directory").
        what: &'static str,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
    /// Anything else.
    #[error("can't {what} {}: {cause}", shown(path))]
    Other {
        /// Where.
        path: PathBuf,
        /// What could not be done ("make the directory").
        what: &'static str,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

impl DataDirError {
    fn new(what: &'static str, path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::PermissionDenied => Self::NoPermission { path, what, cause },
            _ => Self::Other { path, what, cause },
        }
    }
}

/// Makes the data directory `root`, its missing parents, and the directories in it; checks that the daemon may read and
/// write in each. The modes of directories that are there already are left alone.
pub fn prepare(root: &Path) -> Result<(), DataDirError> {
    make(root)?;
    check_access(root)?;
    for name in DIRECTORIES {
        let path = root.join(name);
        // The store never follows a link below the data directory, so one that is to be a directory is found out here.
        if path.is_symlink() {
            let what = "a symbolic link";
            return Err(DataDirError::NotADirectory { path, what });
        }
        make(&path)?;
        check_access(&path)?;
    }
    Ok(())
}

fn make(path: &Path) -> Result<(), DataDirError> {
    let what = "make the directory";
    match DirBuilder::new().mode(MODE).create(path) {
        Ok(()) => Ok(()),
        Err(cause) => match cause.kind() {
            io::ErrorKind::AlreadyExists => check_directory(path),
            io::ErrorKind::NotFound => match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => {
                    make(parent)?;
                    let made = DirBuilder::new().mode(MODE).create(path);
                    made.or_else(|cause| match cause.kind() {
                        // Somebody else has made it since.
                        io::ErrorKind::AlreadyExists => check_directory(path),
                        _ => Err(DataDirError::new(what, path, cause)),
                    })
                }
                _ => Err(DataDirError::new(what, path, cause)),
            },
            io::ErrorKind::NotADirectory => {
                // One of its parents is the culprit: name that one.
                path.parent().map_or(Ok(()), check_directory)?;
                Err(DataDirError::new(what, path, cause))
            }
            _ if path.is_dir() => Ok(()),
            _ => Err(DataDirError::new(what, path, cause)),
        },
    }
}

fn check_directory(path: &Path) -> Result<(), DataDirError> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) => {
            let what = if found.is_file() {
                "a file"
            } else {
                "a special file"
            };
            let path = path.to_owned();
            Err(DataDirError::NotADirectory { path, what })
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let (path, what) = (path.to_owned(), "a symbolic link to nothing");
            Err(DataDirError::NotADirectory { path, what })
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {
            path.parent().map_or(Ok(()), check_directory)?;
            Err(DataDirError::new("look at", path, cause))
        }
        Err(cause) => Err(DataDirError::new("look at", path, cause)),
    }
}

fn check_access(path: &Path) -> Result<(), DataDirError> {
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, path, all, AtFlags::EACCESS)
        .map_err(|errno| DataDirError::new("read and write in", path, errno.into()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn everything_missing_is_made_and_a_second_time_changes_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("a/b/data");
        prepare(&root).unwrap();
        let tasks = root.join("tasks");
        fs::set_permissions(&tasks, fs::Permissions::from_mode(0o2770)).unwrap();
        prepare(&root).unwrap();
        let mode = fs::metadata(&tasks).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o2770);
        let mut names: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["dead", "journal", "rejected", "tasks"]);
    }

    #[test]
    fn a_file_in_the_way_is_named_wherever_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        for root in [file.clone(), file.join("data"), file.join("deeper/data")] {
            match prepare(&root) {
                Err(DataDirError::NotADirectory { path, what }) => {
                    assert_eq!((path, what), (file.clone(), "a file"));
                }
                other => panic!("{other:?}"),
            }
        }
        let root = scratch.path().join("data");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("journal"), "").unwrap();
        let text = prepare(&root).unwrap_err().to_string();
        assert!(
            text.ends_with("journal is a file, not a directory"),
            "{text}"
        );
    }

    #[test]
    fn a_linked_data_directory_is_fine_and_a_linked_task_directory_is_not() {
        let scratch = tempfile::tempdir().unwrap();
        let (real, link) = (scratch.path().join("real"), scratch.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        prepare(&link).unwrap();
        fs::remove_dir(real.join("tasks")).unwrap();
        symlink(real.join("dead"), real.join("tasks")).unwrap();
        let text = prepare(&link).unwrap_err().to_string();
        assert!(
            text.ends_with("tasks is a symbolic link, not a directory"),
            "{text}"
        );
        symlink("nowhere", scratch.path().join("broken")).unwrap();
        let broken = prepare(&scratch.path().join("broken"));
        assert!(
            matches!(broken, Err(DataDirError::NotADirectory { .. })),
            "{broken:?}"
        );
    }

    #[test]
    fn a_directory_of_others_is_no_permission() {
        if rustix::process::geteuid().is_root() {
            // Root may everything; /proc is where even root may not make a directory, told as another error.
            let refused = prepare(Path::new("/proc/workqueue-data"));
            assert!(
                matches!(refused, Err(DataDirError::Other { .. })),
                "{refused:?}"
            );
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o500)).unwrap();
        let refused = prepare(&scratch.path().join("data"));
        assert!(
            matches!(refused, Err(DataDirError::NoPermission { .. })),
            "{refused:?}"
        );
    }
}
