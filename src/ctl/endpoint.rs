//! Which daemon is meant when none is named.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::error::CtlError;
use crate::{client::Endpoint, config::Surroundings};

const SYSTEM_SOCKET: &str = "/run/workqueue/admin.sock";

/// The endpoint that was named, or the first admin socket that can be used: the system's, the user's own, the one beside
/// the user's tasks.
pub(super) fn choose(
    url: Option<&str>,
    socket: Option<PathBuf>,
    surroundings: &Surroundings,
) -> Result<Endpoint, CtlError> {
    if let Some(path) = socket {
        return Ok(Endpoint::Unix(path));
    }
    let named = url.map(|url| ("--url", url.to_owned()));
    let variable = || {
        let url = surroundings.var("WORKQUEUE_URL")?;
        Some(("WORKQUEUE_URL", url.to_string_lossy().into_owned()))
    };
    if let Some((name, url)) = named.or_else(variable) {
        return Endpoint::parse(&url)
            .map_err(|reason| CtlError::Usage(format!("{name}: {reason}")));
    }
    if let Some(path) = surroundings.var("WORKQUEUE_ADMIN_SOCKET") {
        return Ok(Endpoint::Unix(path.into()));
    }
    Ok(Endpoint::Unix(first(&candidates(surroundings))))
}

fn candidates(surroundings: &Surroundings) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(SYSTEM_SOCKET)];
    if !surroundings.is_system_user() {
        paths.extend(surroundings.user_socket());
        // Without a home there is no such place to look at.
        paths.extend(
            surroundings
                .data_dir()
                .map(|(dir, _)| dir.join("admin.sock")),
        );
    }
    paths
}

/// One that may be used, else one that is there (its error says why it may not), else the system's.
fn first(paths: &[PathBuf]) -> PathBuf {
    let usable =
        |path: &&PathBuf| access(path.as_path(), Access::READ_OK | Access::WRITE_OK).is_ok();
    // A directory that may not be entered hides whether there is a socket: that counts as there.
    let there = |path: &&PathBuf| !matches!(path.try_exists(), Ok(false));
    paths
        .iter()
        .find(usable)
        .or_else(|| paths.iter().find(there))
        .cloned()
        .unwrap_or_else(|| Path::new(SYSTEM_SOCKET).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_named_is_taken() {
        let nothing = Surroundings::new(|_| None, 0);
        let socket = choose(None, Some("/q.sock".into()), &nothing).unwrap();
        assert_eq!(socket, Endpoint::Unix("/q.sock".into()));
        let url = choose(Some("unix:/r.sock"), None, &nothing).unwrap();
        assert_eq!(url, Endpoint::Unix("/r.sock".into()));
        let wrong = choose(Some("ftp://x"), None, &nothing).unwrap_err();
        assert_eq!(
            (wrong.exit_code(), wrong.to_string().contains("http://")),
            (2, true)
        );
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let set = Surroundings::new(
            |name| (name == "WORKQUEUE_URL").then(|| "http://127.0.0.1:9".into()),
            0,
        );
        let tcp = Endpoint::parse("http://127.0.0.1:9").unwrap();
        assert_eq!(choose(None, None, &set).unwrap(), tcp);
        let socket = Endpoint::Unix("/q.sock".into());
        assert_eq!(choose(None, Some("/q.sock".into()), &set).unwrap(), socket);
        assert_eq!(choose(Some("unix:/q.sock"), None, &set).unwrap(), socket);
    }

    #[test]
    fn a_socket_of_the_users_own_is_found_and_the_systems_named_when_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("admin.sock");
        let paths = || vec![dir.path().join("absent.sock"), own.clone()];
        assert_eq!(first(&paths()), Path::new(SYSTEM_SOCKET));
        fs::write(&own, "").unwrap();
        assert_eq!(first(&paths()), own);
    }

    #[test]
    fn an_ordinary_user_looks_at_three_places() {
        let ada = Surroundings::new(
            |name| match name {
                "HOME" => Some("/home/ada".into()),
                "XDG_RUNTIME_DIR" => Some("/run/user/1000".into()),
                _ => None,
            },
            1000,
        );
        let places: Vec<PathBuf> = [
            SYSTEM_SOCKET,
            "/run/user/1000/workqueue/admin.sock",
            "/home/ada/.local/state/workqueue/admin.sock",
        ]
        .map(PathBuf::from)
        .into();
        assert_eq!(candidates(&ada), places);
    }
}
