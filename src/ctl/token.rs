//! `token`: makes, lists and revokes tokens in the file that the daemon reads.
//!
//! Works on the file, without a daemon; a token is shown once and only its hash is kept.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    cli::{NewToken, TokenVerb},
    console::Console,
    error::CtlError,
    shape::{self, Shape},
    table::{Side, Table},
};
use crate::access::{Secret, Tokens, entry};

/// What the file begins with when it is made here.
const HEAD: &str = "# Tokens of workqueued: hashes only, so it may be read by all. workqueuectl token makes and revokes them;\n\
                    # `workqueuectl reload` has the daemon read it again.\n";

/// A token that was made, listed or revoked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shown {
    name: String,
    /// Only when it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    scopes: Vec<String>,
    queues: Option<Vec<String>>,
}

/// The fields of what is shown.
pub(super) fn fields() -> Vec<String> {
    shape::fields::<Shown>()
}

pub(super) fn run(verb: TokenVerb, shape: &Shape, console: &mut Console) -> Result<(), CtlError> {
    match verb {
        TokenVerb::New(new) => make(&new, shape, console),
        TokenVerb::List(place) => list(&place.file, shape, console),
        TokenVerb::Revoke(revoke) => remove(&revoke.name, &revoke.place.file, shape, console),
    }
}

fn make(new: &NewToken, shape: &Shape, console: &mut Console) -> Result<(), CtlError> {
    let path = &new.place.file;
    let _turn = turn(path).map_err(|cause| file(path, cause))?;
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => HEAD.to_owned(),
        Err(cause) => return Err(file(path, cause)),
    };
    let secret = Secret::new().map_err(io::Error::other)?;
    let scopes: Vec<_> = new
        .scopes
        .iter()
        .map(|one| one.as_str().to_owned())
        .collect();
    let entry =
        entry(&new.name, &secret.fingerprint(), &scopes, &new.queues).map_err(CtlError::Usage)?;
    let gap = if before.ends_with('\n') { "\n" } else { "\n\n" };
    let text = format!("{before}{gap}{entry}");
    parse(path, &before)?;
    if let Err(error) = Tokens::parse(&text) {
        return Err(CtlError::Usage(format!("{}: {error}", path.display())));
    }
    write(path, &text).map_err(|cause| file(path, cause))?;
    let shown = Shown {
        name: new.name.clone(),
        token: Some(secret.reveal().to_owned()),
        scopes,
        queues: (!new.queues.is_empty()).then(|| new.queues.clone()),
    };
    if !shape.tell(&shown, console)? {
        writeln!(console.out, "{}", secret.reveal())?;
        console.note(&format!(
            "It is not shown again. {} holds its hash; workqueuectl reload has the daemon read it.",
            path.display()
        ))?;
    }
    Ok(())
}

fn list(path: &Path, shape: &Shape, console: &mut Console) -> Result<(), CtlError> {
    let text = fs::read_to_string(path).map_err(|cause| file(path, cause))?;
    let tokens = parse(path, &text)?;
    let rows: Vec<_> = tokens
        .grants()
        .map(|grant| Shown {
            name: grant.name.to_string(),
            token: None,
            scopes: grant.scopes.names().map(str::to_owned).collect(),
            queues: grant
                .queues
                .as_ref()
                .map(|queues| queues.iter().map(ToString::to_string).collect()),
        })
        .collect();
    if let Shape::People = shape {
        let mut table = Table::new([
            ("NAME", Side::Left),
            ("SCOPES", Side::Left),
            ("QUEUES", Side::Left),
        ]);
        for row in rows {
            let queues = row
                .queues
                .map_or_else(|| "all".to_owned(), |all| all.join(", "));
            table.row([row.name.into(), row.scopes.join(", ").into(), queues.into()]);
        }
        let text = table.render(console.colour);
        return Ok(write!(console.out, "{text}")?);
    }
    for row in &rows {
        shape.tell(row, console)?;
    }
    Ok(())
}

fn remove(name: &str, path: &Path, shape: &Shape, console: &mut Console) -> Result<(), CtlError> {
    let _turn = turn(path).map_err(|cause| file(path, cause))?;
    let text = fs::read_to_string(path).map_err(|cause| file(path, cause))?;
    let tokens = parse(path, &text)?;
    let Some(grant) = tokens.named(name) else {
        return Err(CtlError::NotWell(format!(
            "{}: there is no token of the name {name}",
            path.display()
        )));
    };
    let shown = Shown {
        name: grant.name.to_string(),
        token: None,
        scopes: grant.scopes.names().map(str::to_owned).collect(),
        queues: None,
    };
    let without = tokens.without(&text, name);
    // What people wrote by hand may be written in ways that are not understood here.
    let is_right = Tokens::parse(&without)
        .is_ok_and(|left| left.len() + 1 == tokens.len() && left.named(name).is_none());
    if !is_right {
        return Err(CtlError::NotWell(format!(
            "{}: the table of {name} can't be told from the others: remove it by hand",
            path.display()
        )));
    }
    write(path, &without).map_err(|cause| file(path, cause))?;
    if !shape.tell(&shown, console)? {
        console.note(&format!(
            "{name} is revoked when the daemon has read its tokens again: workqueuectl reload"
        ))?;
    }
    Ok(())
}

fn parse(path: &Path, text: &str) -> Result<Tokens, CtlError> {
    Tokens::parse(text).map_err(|error| CtlError::NotWell(format!("{}: {error}", path.display())))
}

fn file(path: &Path, cause: io::Error) -> CtlError {
    CtlError::File {
        path: path.to_owned(),
        cause,
    }
}

/// Where the file is, and its folder.
fn place(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((path, folder))
}

/// Waits until nobody else changes the file from what it held before, and has others wait as long as what is given lives. The
/// lock is the folder's: the file itself is replaced.
fn turn(path: &Path) -> io::Result<fs::File> {
    let (_, folder) = place(path)?;
    let folder = fs::File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

/// Replaces the file as a whole: a daemon that reads meanwhile sees the old one or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let (path, folder) = place(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new: PathBuf = folder.join(name);
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&new)?;
    let written = (|| {
        if let Ok(before) = fs::metadata(&path) {
            std::os::unix::fs::fchown(&out, Some(before.uid()), Some(before.gid()))?;
            out.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
        }
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        drop(fs::remove_file(&new));
    }
    written
}
