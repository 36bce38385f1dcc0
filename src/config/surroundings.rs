//! [`Surroundings`]: what the process was started into, as values, so that a test can bring its own.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use super::{ConfigError, Origin};

type Lookup = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// The environment's variables and the user: all that a default may depend on.
pub struct Surroundings {
    lookup: Lookup,
    uid: u32,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("uid", &self.uid)
            .finish_non_exhaustive()
    }
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::new(
            |name| std::env::var_os(name),
            rustix::process::geteuid().as_raw(),
        )
    }

    /// Given ones.
    #[must_use]
    pub fn new(
        lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
        uid: u32,
    ) -> Self {
        Self {
            lookup: Box::new(lookup),
            uid,
        }
    }

    /// Those of a test: these variables, and nothing of the machine's.
    #[cfg(test)]
    pub(crate) fn of_test(uid: u32, vars: &[(&str, &str)]) -> Self {
        let vars: std::collections::HashMap<String, OsString> = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
            .collect();
        // The machine's own file must not decide a test.
        let elsewhere = |name: &str| (name == "CONFIGURATION_DIRECTORY").then(|| "/nowhere".into());
        Self::new(
            move |name| vars.get(name).cloned().or_else(|| elsewhere(name)),
            uid,
        )
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<OsString> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// Whether the paths of the system are this user's: root, an account below the first person's (login.defs(5)), or one
    /// that systemd made for the time of the service (`DynamicUser=`, 61184 to 65519).
    #[must_use]
    pub fn is_system_user(&self) -> bool {
        self.uid < 1000 || (61_184..=65_519).contains(&self.uid)
    }

    /// The file that is read when none is named.
    pub fn config_file(&self) -> Result<PathBuf, ConfigError> {
        if let Some(dir) = self.systemd_dir("CONFIGURATION_DIRECTORY") {
            return Ok(dir.join("workqueued.toml"));
        }
        if self.is_system_user() {
            return Ok(PathBuf::from("/etc/workqueue/workqueued.toml"));
        }
        Ok(self
            .base("XDG_CONFIG_HOME", ".config")?
            .join("workqueue/workqueued.toml"))
    }

    /// Where tasks are kept when nothing else is said.
    pub fn data_dir(&self) -> Result<(PathBuf, Origin), ConfigError> {
        if let Some(path) = self.systemd_dir("STATE_DIRECTORY") {
            return Ok((path, Origin::Environment("STATE_DIRECTORY".to_owned())));
        }
        let path = if self.is_system_user() {
            PathBuf::from("/var/lib/workqueue")
        } else {
            self.base("XDG_STATE_HOME", ".local/state")?
                .join("workqueue")
        };
        Ok((path, Origin::Default))
    }

    /// Where the admin socket is when nothing else is said; beside the tasks where the user has no runtime directory.
    #[must_use]
    pub fn admin_socket(&self, data_dir: &Path) -> (PathBuf, Origin) {
        if let Some(path) = self.systemd_dir("RUNTIME_DIRECTORY") {
            let origin = Origin::Environment("RUNTIME_DIRECTORY".to_owned());
            return (path.join("admin.sock"), origin);
        }
        let path = if self.is_system_user() {
            PathBuf::from("/run/workqueue/admin.sock")
        } else {
            self.user_socket()
                .unwrap_or_else(|| data_dir.join("admin.sock"))
        };
        (path, Origin::Default)
    }

    /// The admin socket of a daemon that an ordinary user runs, where the user has a runtime directory.
    #[must_use]
    pub fn user_socket(&self) -> Option<PathBuf> {
        self.absolute("XDG_RUNTIME_DIR")
            .map(|dir| dir.join("workqueue/admin.sock"))
    }

    /// systemd.exec(5): several directories are separated by colons; the unit's own is the first.
    fn systemd_dir(&self, name: &str) -> Option<PathBuf> {
        let value = self.var(name)?;
        let first = value.to_str()?.split(':').next()?;
        Some(PathBuf::from(first)).filter(|path| path.is_absolute())
    }

    /// The XDG base directory specification: relative paths are to be ignored.
    fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.var(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }

    fn base(&self, variable: &str, below_home: &str) -> Result<PathBuf, ConfigError> {
        self.absolute(variable)
            .or_else(|| self.absolute("HOME").map(|home| home.join(below_home)))
            .ok_or(ConfigError::NoHome)
    }
}
