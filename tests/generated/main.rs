//! Man pages and completions in `packaging/` are those that the code makes. `UPDATE=1 cargo test --test generated` makes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod overview;
mod settings;

use std::{env, fs, path::Path};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

/// A program, its page's section, and what to read next.
struct Program {
    command: Command,
    section: &'static str,
    see_also: &'static str,
}

fn programs() -> [Program; 3] {
    [
        Program {
            command: workqueue::config::command(),
            section: "8",
            see_also: "workqueuectl(1), workqueued.toml(5), workqueue(7), workqueue\\-worker(8), systemd.service(5)",
        },
        Program {
            command: workqueue::ctl::command(),
            section: "1",
            see_also: "workqueue(7), workqueued(8), workqueue\\-worker(8)",
        },
        Program {
            command: workqueue::worker::Args::command(),
            section: "8",
            see_also: "workqueuectl(1), workqueue\\-worker.toml(5), workqueue(7), workqueued(8), systemd.service(5)",
        },
    ]
}

/// Holds `made` against the committed file, or writes it there.
fn hold(name: &str, made: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("packaging")
        .join(name);
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, made).unwrap();
    }
    let committed = fs::read(&path).unwrap_or_default();
    assert!(
        committed == made,
        "packaging/{name} is not what the code makes; run: UPDATE=1 cargo test --test generated"
    );
}

#[test]
fn the_journals_catalog_is_current() {
    hold(
        "catalog/workqueue.catalog",
        workqueue::systemd::catalog::text().as_bytes(),
    );
}

fn page(program: &Program) -> Vec<u8> {
    let mut command = program.command.clone();
    command.build();
    let name = command.get_name().to_owned();
    let man = Man::new(command.clone())
        .section(program.section)
        .manual("workqueue");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let verbs: Vec<&Command> = command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
        .collect();
    if !verbs.is_empty() {
        page.extend(b".SH VERBS\n");
    }
    for verb in verbs {
        page.extend(verb_section(verb));
    }
    let mut extra = Vec::new();
    man.render_extra_section(&mut extra).unwrap();
    page.extend(
        String::from_utf8(extra)
            .unwrap()
            .replace(".SH EXTRA", ".SH \"EXIT STATUS AND ENVIRONMENT\"")
            .bytes(),
    );
    page.extend(
        format!(
            ".SH FILES\n{}.SH \"SEE ALSO\"\n{}\n",
            files(&name),
            program.see_also
        )
        .bytes(),
    );
    page
}

/// One verb on the program's own page: a page for each would hide them.
fn verb_section(verb: &Command) -> Vec<u8> {
    let own = verb.clone().mut_args(|arg| {
        // The program's options are told once.
        let global = arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
        arg.hide(global)
    });
    let man = Man::new(own.disable_help_flag(true));
    let (mut synopsis, mut options) = (Vec::new(), Vec::new());
    man.render_synopsis_section(&mut synopsis).unwrap();
    man.render_options_section(&mut options).unwrap();
    let body = |section: Vec<u8>| -> String {
        let text = String::from_utf8(section).unwrap();
        let lines = text.lines().filter(|line| {
            !line.starts_with(".SH") && !line.starts_with(".ie") && !line.starts_with(".el")
        });
        lines.flat_map(|line| [line, "\n"]).collect()
    };
    let about = verb
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    format!(
        ".SS {}\n{}.PP\n{about}.\n{}",
        verb.get_name(),
        body(synopsis),
        body(options)
    )
    .into_bytes()
}

fn files(name: &str) -> &'static str {
    if name == "workqueued" {
        ".TP\n/etc/workqueue/workqueued.toml\nSettings; the example that comes with the program explains each.\n\
         .TP\n/var/lib/workqueue\nTasks: one file each below tasks/, beside them dead/, done/, rejected/ and journal/.\n\
         .TP\n/run/workqueue/admin.sock\nThe admin API, for root and the group workqueue.\n"
    } else {
        ".TP\n/run/workqueue/admin.sock\nThe admin socket of the system's daemon, tried first.\n\
         .TP\n$XDG_RUNTIME_DIR/workqueue/admin.sock\nThat of a daemon of the user's own.\n"
    }
}

#[test]
fn man_pages_are_those_of_the_code() {
    for program in programs() {
        let name = program.command.get_name().to_owned();
        hold(&format!("man/{name}.{}", program.section), &page(&program));
    }
}

#[test]
fn pages_about_settings_are_those_of_the_examples() {
    for program in ["workqueued", "workqueue-worker"] {
        let name = format!("{program}.toml");
        let example = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("packaging")
            .join(&name);
        let example = fs::read_to_string(example).unwrap();
        let page = settings::page(&name, program, &example);
        hold(&format!("man/{name}.5"), page.as_bytes());
    }
}

#[test]
fn the_overview_is_that_of_the_code() {
    let page = overview::page(include_str!("workqueue.7"));
    hold("man/workqueue.7", page.as_bytes());
    for state in workqueue::task::State::ALL {
        assert!(
            page.contains(&format!("\n.B {}\n", state.as_str())),
            "{state}"
        );
    }
}

/// Text as it is written in a page: nothing in it is taken for a request.
fn roff(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq");
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}

#[test]
fn completions_are_those_of_the_code() {
    for program in programs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut command = program.command.clone();
            let name = command.get_name().to_owned();
            let made = if name == "workqueuectl" {
                // It completes by itself: names and ids come from the running daemon.
                workqueue::ctl::completions(&shell.to_string()).unwrap()
            } else {
                let mut made = Vec::new();
                clap_complete::generate(shell, &mut command, name.clone(), &mut made);
                made
            };
            let file = match shell {
                Shell::Zsh => format!("_{name}"),
                Shell::Fish => format!("{name}.fish"),
                _ => name,
            };
            hold(&format!("completions/{shell}/{file}"), &made);
        }
    }
}
