//! Files of tokens that are none, links to them, and a token that can't be shown.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, symlink},
    path::Path,
};

use super::*;

/// An output that takes nothing.
struct Full(io::ErrorKind);

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

async fn new(name: &str, file: &Path) -> server::Ran {
    let args = [
        "token",
        "new",
        name,
        "--scope",
        "work",
        "--file",
        file.to_str().unwrap(),
    ];
    run_plain(&args, "", false).await
}

#[tokio::test]
async fn what_is_no_regular_file_is_no_file_of_tokens_and_stays_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fifo(&at("pipe"));
    fs::create_dir(at("folder")).unwrap();
    symlink("pipe", at("link")).unwrap();
    for name in ["pipe", "folder", "link"] {
        let path = at(name);
        let file = path.to_str().unwrap();
        for args in [
            &["token", "new", "a", "--scope", "work", "--file", file][..],
            &["token", "revoke", "a", "--file", file],
            &["token", "list", "--file", file],
        ] {
            let ran = run_plain(args, "", false).await;
            assert_eq!((ran.code, &*ran.out), (74, ""), "{args:?}: {}", ran.err);
            assert!(
                ran.err.contains("it is no regular file"),
                "{args:?}: {}",
                ran.err
            );
        }
    }
    assert!(at("pipe").metadata().unwrap().file_type().is_fifo());
    assert!(at("link").is_symlink() && at("folder").is_dir());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[tokio::test]
async fn a_link_whose_file_is_not_there_yet_leads_to_where_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("inner")).unwrap();
    symlink("inner/second", at("first")).unwrap();
    symlink("../tokens.toml", at("inner/second")).unwrap();
    let ran = new("a", &at("first")).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(at("first").is_symlink() && at("inner/second").is_symlink());
    let text = fs::read_to_string(at("tokens.toml")).unwrap();
    assert!(text.contains("\"a\""), "{text}");

    symlink("nowhere/tokens.toml", at("astray")).unwrap();
    symlink("round", at("round")).unwrap();
    for name in ["astray", "round"] {
        let ran = new("a", &at(name)).await;
        assert_eq!((ran.code, &*ran.out), (74, ""), "{}", ran.err);
        assert!(at(name).is_symlink());
    }
}

/// Nobody has it, and its name would be taken.
#[tokio::test]
async fn a_token_that_can_not_be_shown_is_not_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.toml");
    assert_eq!(new("a", &file).await.code, 0);
    let before = fs::read_to_string(&file).unwrap();
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::BrokenPipe] {
        let err = Written::default();
        let mut console = console(Full(kind), &err);
        let args = ["workqueuectl", "token", "new", "b", "--scope", "work"];
        let place = ["--file".into(), file.clone().into_os_string()];
        let args = args.into_iter().map(OsString::from).chain(place);
        let code = run(args, &mut console).await;
        assert_eq!(code, 74, "{}", err.text());
        assert!(err.text().contains("can't be shown"), "{}", err.text());
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// It would be waited for without an end.
#[tokio::test]
async fn a_token_is_not_waited_for_at_a_pipe_that_nobody_writes_into() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    fifo(&pipe);
    let args = ["--token-file", pipe.to_str().unwrap(), "queues"];
    let ran = run_plain(&args, "", false).await;
    assert_eq!(ran.code, 74, "{}", ran.err);
    assert!(
        ran.err.contains(pipe.to_str().unwrap()) && ran.err.contains("nobody writes into"),
        "{}",
        ran.err
    );
}
