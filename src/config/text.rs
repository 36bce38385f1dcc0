//! The text of a small file that a person names: settings, a token, tokens.
//!
//! What is named may be anything: a pipe that nobody writes into would be waited for, and a device read for ever.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// The most bytes of a file of settings, or of one that holds a token.
const MAX_FILE: u64 = 1 << 20;
/// The most bytes of a file of tokens: thousands of them.
pub const MAX_TOKENS: u64 = 4 << 20;

/// The text of a file, or of a pipe that somebody writes into (`<(pass show token)`).
pub fn read(path: &Path) -> io::Result<String> {
    let (file, about) = open(path)?;
    let text = text(file, MAX_FILE)?;
    if about.file_type().is_fifo() && text.is_empty() {
        return Err(io::Error::other("it is a pipe that nobody writes into"));
    }
    Ok(text)
}

/// The text of a file of tokens, which is written as well: so it has to be a regular file.
pub fn read_tokens(path: &Path) -> io::Result<String> {
    let (file, about) = open(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    text(file, MAX_TOKENS)
}

fn open(path: &Path) -> io::Result<(fs::File, fs::Metadata)> {
    let waits = OFlags::NONBLOCK;
    let file = fs::File::options()
        .read(true)
        .custom_flags(waits.bits().cast_signed())
        .open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - waits)?;
    let about = file.metadata()?;
    Ok((file, about))
}

fn text(file: fs::File, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is not UTF-8 in line {line}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"one\ntwo \xff\n").unwrap();
        for read in [read, read_tokens] {
            let error = read(&path).unwrap_err();
            assert_eq!(error.to_string(), "it is not UTF-8 in line 2");
        }
    }

    #[test]
    fn tokens_are_read_from_nothing_but_a_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, large) = (dir.path().join("pipe"), dir.path().join("large"));
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        fs::write(&large, vec![b'#'; MAX_TOKENS as usize + 1]).unwrap();
        for (path, words) in [
            (&*pipe, "no regular file"),
            (dir.path(), "no regular file"),
            (Path::new("/dev/zero"), "no regular file"),
            (&*large, "larger than 4194304 bytes"),
        ] {
            let error = read_tokens(path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
