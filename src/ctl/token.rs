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
use crate::{
    access::{Secret, Tokens, entry},
    config::{exit, text},
};

/// How many links are followed to a file that is not there yet: as many as the kernel follows (`path_resolution(7)`).
const MOST_LINKS: usize = 40;
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
    let turn = Turn::take(path).map_err(|cause| file(path, cause))?;
    let before = match text::read_tokens(&turn.path) {
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
    let draft = turn.draft(&text).map_err(|cause| file(&turn.path, cause))?;
    let shown = Shown {
        name: new.name.clone(),
        token: Some(secret.reveal().to_owned()),
        scopes,
        queues: (!new.queues.is_empty()).then(|| new.queues.clone()),
    };
    // Only then the file: an entry whose token nobody saw would be there for ever, and its name be taken.
    let is_told = show(&secret, &shown, shape, console).map_err(|error| CtlError::Ended {
        text: format!(
            "{} has no token {}: it can't be shown: {error}",
            path.display(),
            new.name
        ),
        code: exit::IOERR,
    })?;
    draft.keep().map_err(|cause| file(&turn.path, cause))?;
    if !is_told {
        console.note(&format!(
            "It is not shown again. {} holds its hash; workqueuectl reload has the daemon read it.",
            path.display()
        ))?;
    }
    Ok(())
}

/// Shows a token that was just made. Gives whether that was for a program.
fn show(
    secret: &Secret,
    shown: &Shown,
    shape: &Shape,
    console: &mut Console,
) -> Result<bool, CtlError> {
    let is_told = shape.tell(shown, console)?;
    if !is_told {
        writeln!(console.out, "{}", secret.reveal())?;
    }
    console.out.flush()?;
    Ok(is_told)
}

fn list(path: &Path, shape: &Shape, console: &mut Console) -> Result<(), CtlError> {
    let text = text::read_tokens(path).map_err(|cause| file(path, cause))?;
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
    let turn = Turn::take(path).map_err(|cause| file(path, cause))?;
    let text = text::read_tokens(&turn.path).map_err(|cause| file(path, cause))?;
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
    turn.draft(&without)
        .and_then(Draft::keep)
        .map_err(|cause| file(&turn.path, cause))?;
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

/// Where the file is, or is to be: where links lead, also one whose file is not there yet. None of them is replaced.
fn place(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        match fs::read_link(&path) {
            Ok(to) => path = folder(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The right to change the file: nobody else changes it from what it held before as long as this lives. The lock is the folder's: the
/// file itself is replaced.
struct Turn {
    path: PathBuf,
    folder: fs::File,
}

impl Turn {
    /// Waits for it.
    fn take(path: &Path) -> io::Result<Self> {
        let path = place(path)?;
        let folder = fs::File::open(folder(&path))?;
        folder.lock()?;
        Ok(Self { path, folder })
    }

    /// Writes what the file is to be beside it, with the file's owner and rights.
    fn draft(&self, text: &str) -> io::Result<Draft<'_>> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = folder(&self.path).join(name);
        // What has that name was left by one that was killed.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut out = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&new)?;
        let draft = Draft { new, turn: self };
        if let Ok(before) = fs::metadata(&self.path) {
            std::os::unix::fs::fchown(&out, Some(before.uid()), Some(before.gid()))?;
            out.set_permissions(fs::Permissions::from_mode(before.mode() & 0o777))?;
        }
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        Ok(draft)
    }
}

/// What the file is to be; it goes when it is dropped.
struct Draft<'a> {
    new: PathBuf,
    turn: &'a Turn,
}

impl Draft<'_> {
    /// Replaces the file as a whole: a daemon that reads meanwhile sees the old one or the new one.
    fn keep(self) -> io::Result<()> {
        fs::rename(&self.new, &self.turn.path)?;
        self.turn.folder.sync_all()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After it was kept there is none.
        drop(fs::remove_file(&self.new));
    }
}
