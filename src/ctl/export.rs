//! `export` and `import`: all tasks into a file, and back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    error::CtlError,
    progress::Progress,
    session::Session,
    submit::{self, Stream},
};
use crate::client::Export;

/// Writes an export to a file, or to standard output.
pub(super) async fn export(file: Option<&Path>, session: &mut Session<'_>) -> Result<(), CtlError> {
    let mut export = session.client.export().await?;
    let progress = Progress::new(session.console.watched, None);
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        pour(&mut export, &mut session.console.out, progress).await?;
        session.console.out.flush()?;
        return whole(&export, None, session);
    };
    // A device or a FIFO is written to, and a link leads to what is written: no file takes the place of either.
    let is_special = fs::metadata(path).is_ok_and(|about| !about.is_file());
    let linked = (path.is_symlink() && !is_special).then(|| fs::canonicalize(path));
    let target = linked.and_then(Result::ok);
    let path = target.as_deref().unwrap_or(path);
    // Under another name until it is whole: what has the name that was asked for can be relied on.
    let beside = if is_special {
        path.to_owned()
    } else {
        beside(path)
    };
    let failed = |cause| CtlError::File {
        path: beside.clone(),
        cause,
    };
    let mut out = fs::File::options()
        .write(true)
        .create(!is_special)
        .truncate(!is_special)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    pour(&mut export, &mut out, progress)
        .await
        .map_err(|error| match error {
            CtlError::Io(cause) => failed(cause),
            other => other,
        })?;
    if !is_special {
        out.sync_all().map_err(failed)?;
    }
    if export.end().is_ok() && !is_special {
        fs::rename(&beside, path).map_err(failed)?;
    }
    whole(&export, Some((path, &beside)), session)
}

async fn pour(
    export: &mut Export,
    out: &mut (dyn Write + Send),
    mut progress: Progress,
) -> Result<(), CtlError> {
    while let Some(bytes) = export.next().await? {
        out.write_all(&bytes)?;
        progress.add(&bytes)?;
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Tells what the export has, or that it is not whole.
fn whole(
    export: &Export,
    file: Option<(&Path, &Path)>,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    match export.end() {
        Ok(counts) => {
            let plural = if counts.tasks == 1 { "task" } else { "tasks" };
            if let Some((path, _)) = file {
                let text = format!("{} {plural} exported to {}", counts.tasks, path.display());
                session.console.line(&text)?;
            }
            if counts.left_out > 0 {
                let text = format!(
                    "{} left out: their files can't be read, or were removed meanwhile",
                    counts.left_out
                );
                session.console.note(&text)?;
            }
            Ok(())
        }
        Err(why) => {
            let left = file.map_or(String::new(), |(_, beside)| {
                format!("; what came is in {}", beside.display())
            });
            Err(CtlError::NotWell(format!(
                "the export is not whole: {why}{left}"
            )))
        }
    }
}

/// Takes an export back.
pub(super) async fn import(file: &Path, session: &mut Session<'_>) -> Result<(), CtlError> {
    submit::stream(file, Stream::Export, session).await
}
