//! Clients that submit without pause and keep account: what was answered, and every error.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What became of a load.
#[derive(Debug, Default)]
pub struct Account {
    /// Ids of tasks whose submit was answered with 201.
    pub ids: Vec<String>,
    /// Everything else that clients saw.
    pub errors: Vec<String>,
}

/// Runs `clients` against `address` while `meanwhile` runs. Every second one keeps its connection as HTTP has it: it goes on
/// until an answer says that the connection ends. The others make one for each request.
pub fn submit_while<T>(
    clients: usize,
    address: &str,
    meanwhile: impl FnOnce(&AtomicU64) -> T,
) -> (Account, T) {
    let stop = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let account = Mutex::new(Account::default());
    let done = std::thread::scope(|scope| {
        for client in 0..clients {
            let (stop, answered, account) = (&stop, &answered, &account);
            scope.spawn(move || {
                let mine = client_of(client, address, stop, answered);
                let mut all = account.lock().unwrap_or_else(PoisonError::into_inner);
                all.ids.extend(mine.ids);
                all.errors.extend(mine.errors);
            });
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| meanwhile(&answered)));
        stop.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let account = account.into_inner().unwrap_or_else(PoisonError::into_inner);
    (account, done)
}

fn client_of(client: usize, address: &str, stop: &AtomicBool, answered: &AtomicU64) -> Account {
    let mut account = Account::default();
    let mut kept: Option<BufReader<TcpStream>> = None;
    let keeps = client.is_multiple_of(2);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let body = format!(r#"{{"payload":"{client}-{number}"}}"#);
        match ask(address, &mut kept, keeps, &body) {
            Ok((201, text)) => {
                let id = text
                    .split(r#""id":""#)
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .expect("an id");
                account.ids.push(id.to_owned());
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok((status, text)) => account.errors.push(format!("{status}: {text}")),
            Err(error) => {
                let how = if keeps { "kept" } else { "new" };
                account.errors.push(format!("a {how} connection: {error}"));
                kept = None;
            }
        }
    }
    account
}

fn ask(
    address: &str,
    kept: &mut Option<BufReader<TcpStream>>,
    keeps: bool,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = if let Some(stream) = kept.take() {
        stream
    } else {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        BufReader::new(stream)
    };
    let connection = if keeps { "keep-alive" } else { "close" };
    let length = body.len();
    stream.get_mut().write_all(
        format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    )?;
    let (mut status, mut length, mut ends) = (0, 0, !keeps);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::Error::other("closed without an answer"));
        }
        let low = line.trim_end().to_ascii_lowercase();
        if low.is_empty() {
            break;
        } else if let Some(rest) = low.strip_prefix("http/1.1 ") {
            status = rest
                .split(' ')
                .next()
                .and_then(|code| code.parse().ok())
                .unwrap_or(0);
        } else if let Some(rest) = low.strip_prefix("content-length:") {
            length = rest.trim().parse().unwrap_or(0);
        } else if low == "connection: close" {
            ends = true;
        }
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    if !ends {
        *kept = Some(stream);
    }
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}
