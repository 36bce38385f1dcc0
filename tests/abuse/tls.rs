//! TLS: HTTP/2, certificates made for the test, reloads, clients with certificates and without, handshakes that never end.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::common::{Daemon, PATIENCE, Way, until};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// A certificate for `names`, and its key, in PEM.
fn issue(authority: &Authority, names: &[&str], expired: bool) -> (String, String) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("parameters");
    if expired {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// A daemon that speaks TLS, and the files that it was given.
pub(super) struct Site {
    pub(super) daemon: Daemon,
    authority: Authority,
    folder: PathBuf,
}

impl Site {
    /// For a client that trusts the site's authority and speaks `speech` (ALPN).
    pub(super) fn client_config(&self, speech: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_file(self.file("ca.pem")).expect("a certificate");
        roots.add(authority).expect("an authority");
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![speech.as_bytes().to_vec()];
        config
    }

    pub(super) fn start(extra: &[(&str, &str)]) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let folder = scratch.path().to_owned();
        let authority = authority("an authority");
        let put = |name: &str, text: &str| fs::write(folder.join(name), text).expect("write");
        put("ca.pem", &authority.pem());
        let (certificate, key) = issue(&authority, &["localhost", "127.0.0.1"], false);
        put("certificate.pem", &certificate);
        put("key.pem", &key);
        let path = |name: &str| folder.join(name).display().to_string();
        let mut environment = vec![
            (
                "WORKQUEUE_TLS_CERTIFICATE".to_owned(),
                path("certificate.pem"),
            ),
            ("WORKQUEUE_TLS_KEY".to_owned(), path("key.pem")),
            ("WORKQUEUE_TLS_CLIENT_CA".to_owned(), path("ca.pem")),
        ];
        environment.extend(
            extra
                .iter()
                .map(|(name, value)| (format!("WORKQUEUE_{name}"), (*value).to_owned())),
        );
        let way = Way {
            extra: ["--listen", "https://127.0.0.1:0"]
                .map(str::to_owned)
                .to_vec(),
            environment,
            ..Way::default()
        };
        let daemon = Daemon::start_so(scratch, way);
        Self {
            daemon,
            authority,
            folder,
        }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(super) fn secure(&self) -> &str {
        &self.daemon.address
    }

    /// A number in `/metrics`.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let url = format!("https://{}/metrics", self.secure());
        let text = text(&self.curl(&[&url]));
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.trim().parse().expect("a number")
    }

    fn curl(&self, more: &[&str]) -> Output {
        Command::new("curl")
            .args(["-sS", "--max-time", "20", "--cacert"])
            .arg(self.file("ca.pem"))
            .args(more)
            .output()
            .expect("curl runs")
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn both_versions_of_http_are_spoken_over_tls_and_tasks_pass() {
    let site = Site::start(&[]);
    let url = format!("https://{}/api/v1/tasks", site.secure());
    for (flag, version) in [("--http2", "2 201"), ("--http1.1", "1.1 201")] {
        let body = r#"{"payload":"over tls"}"#;
        let got = site.curl(&[
            flag,
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            "--json",
            body,
            &url,
        ]);
        assert_eq!(text(&got), version);
    }
    let url = format!("https://{}", site.secure());
    let ca = site.file("ca.pem");
    let ctl = |ca: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workqueuectl"));
        command.args(["--url", &url, "list"]);
        if let Some(ca) = ca {
            command.arg("--ca-file").arg(ca);
        }
        command.output().expect("it runs")
    };
    let got = ctl(Some(&ca));
    assert!(
        got.status.success() && text(&got).contains("over tls"),
        "{}",
        text(&got)
    );
    let got = ctl(None);
    assert!(
        !got.status.success(),
        "the machine does not know this authority: {}",
        text(&got)
    );
    let worked = Command::new(env!("CARGO_BIN_EXE_workqueue-worker"))
        .args(["--url", &url, "--until-empty", "--logfile"])
        .arg(site.file("out"))
        .arg("--ca-file")
        .arg(&ca)
        .output()
        .expect("it runs");
    assert!(worked.status.success(), "{}", text(&worked));
    let done = fs::read_to_string(site.file("out")).expect("its log");
    assert_eq!(done.matches("over tls").count(), 2, "{done}");
}

#[test]
fn a_reload_takes_a_new_certificate_and_refuses_a_pair_that_does_not_fit() {
    let site = Site::start(&[]);
    let url = format!("https://{}/healthz", site.secure());
    assert_eq!(text(&site.curl(&[&url])), "ok\n");
    let (_, other_key) = issue(&site.authority, &["localhost"], false);
    let old_key = fs::read(site.file("key.pem")).expect("read");
    fs::write(site.file("key.pem"), other_key).expect("write");
    let (status, problem) = site.daemon.admin("POST", "/reload", "");
    assert!(
        status >= 400 && problem.to_string().contains("tls.key"),
        "{status} {problem}"
    );
    assert_eq!(text(&site.curl(&[&url])), "ok\n", "the old pair stays");
    fs::write(site.file("key.pem"), old_key).expect("write");

    let (certificate, key) = issue(&site.authority, &["localhost", "127.0.0.1"], true);
    fs::write(site.file("certificate.pem"), certificate).expect("write");
    fs::write(site.file("key.pem"), key).expect("write");
    let (status, _) = site.daemon.admin("POST", "/reload", "");
    assert!(status < 300, "{status}");
    let got = site.curl(&[&url]);
    assert!(
        !got.status.success() && text(&got).contains("expired"),
        "{}",
        text(&got)
    );
}

#[test]
fn a_client_may_show_a_certificate_of_the_authority_and_of_no_other() {
    let site = Site::start(&[]);
    let url = format!("https://{}/healthz", site.secure());
    for (authority, good) in [(&site.authority, true), (&authority("another"), false)] {
        let (certificate, key) = issue(authority, &["worker-1"], false);
        fs::write(site.file("client.pem"), certificate + &key).expect("write");
        let path = site.file("client.pem").display().to_string();
        let got = site.curl(&["--cert", &path, &url]);
        assert_eq!(got.status.success(), good, "{}", text(&got));
        let told = || site.daemon.logged().contains("a credential was refused");
        if good {
            assert!(!told(), "{}", site.daemon.logged());
        } else {
            until("the log tells of it", || told().then_some(()));
        }
    }
}

#[test]
fn the_command_line_and_the_worker_show_certificates_that_stand_for_tokens() {
    let tokens = tempfile::tempdir().expect("a directory");
    let file = tokens.path().join("tokens.toml").display().to_string();
    let of_token = [
        "token", "new", "worker-1", "--scope", "submit", "--scope", "work",
    ];
    let made = ctl(&[&of_token[..], &["--file", &file]].concat());
    assert!(made.status.success(), "{}", text(&made));
    let site = Site::start(&[("TOKENS", &file)]);
    let (certificate, key) = issue(&site.authority, &["worker-1"], false);
    fs::write(site.file("client.pem"), certificate).expect("write");
    fs::write(site.file("client.key"), key).expect("write");
    let url = format!("https://{}", site.secure());
    let path = |name: &str| site.file(name).display().to_string();
    let (ca, client, its_key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let trusting = ["--url", &url, "--ca-file", &ca];
    let showing = ["--certificate-file", &client, "--key-file", &its_key];
    let submit = ["submit", "by certificate"];

    let unknown = ctl(&[&submit[..], &trusting].concat());
    assert!(text(&unknown).contains("token"), "{}", text(&unknown));
    assert!(!unknown.status.success());
    let known = ctl(&[&submit[..], &trusting, &showing].concat());
    assert!(known.status.success(), "{}", text(&known));
    let worked = Command::new(env!("CARGO_BIN_EXE_workqueue-worker"))
        .args(trusting)
        .args(showing)
        .arg("--until-empty")
        .output()
        .expect("the worker runs");
    assert!(
        text(&worked).contains("by certificate"),
        "{}",
        text(&worked)
    );
    assert!(worked.status.success());

    // What is wrong with the files is told with their names.
    let alone = ctl(&[&submit[..], &trusting, &showing[..2]].concat());
    let said = text(&alone);
    assert!(
        said.contains("client.pem: a certificate and its key"),
        "{said}"
    );
    let foreign = ["--certificate-file", &ca, "--key-file", &its_key];
    let said = text(&ctl(&[&submit[..], &trusting, &foreign].concat()));
    assert!(said.contains("client.key: does not fit"), "{said}");
}

fn ctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_workqueuectl"))
        .args(args)
        .env_remove("WORKQUEUE_URL")
        .output()
        .expect("workqueuectl runs")
}

#[test]
fn handshakes_that_never_end_are_ended() {
    let site = Site::start(&[("TLS_HANDSHAKE_TIMEOUT", "1s")]);
    for start in [
        &b""[..],
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(site.secure()).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.write_all(start).expect("send");
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    // Not over TLS: a good handshake would have to be as quick.
    let metrics = site.daemon.metrics();
    assert!(
        metrics.contains("workqueue_tls_handshakes_failed_total 3"),
        "{metrics}"
    );
}

/// A connection that shows the certificate `client.pem`, and is kept.
struct Held {
    client: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Held {
    fn new(site: &Site) -> Self {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-no_ign_eof", "-connect"])
            .arg(site.secure())
            .arg("-cert")
            .arg(site.file("client.pem"))
            .arg("-key")
            .arg(site.file("client.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        Self {
            to: client.stdin.take().expect("its input"),
            from: BufReader::new(client.stdout.take().expect("its output")).lines(),
            client,
        }
    }

    /// The status of an answer.
    fn ask(&mut self, more: &str) -> String {
        let request = format!("GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        self.to.write_all(request.as_bytes()).expect("send");
        let status = self.from.find_map(|line| {
            let line = line.expect("a line");
            // A body ends without the end of a line, and the next answer follows.
            line.split_once("HTTP/1.1 ")
                .map(|(_, rest)| rest[..3].to_owned())
        });
        status.expect("a status")
    }

    /// Until its connection is closed by the daemon.
    fn wait(mut self) {
        self.client.wait().expect("it ends with its connection");
    }
}

#[test]
fn a_certificate_that_runs_out_is_good_for_nothing_more_on_a_connection_that_is_kept() {
    let tokens = tempfile::tempdir().expect("a directory");
    let file = tokens.path().join("tokens.toml").display().to_string();
    let of_token = ["token", "new", "reader", "--scope", "read", "--file", &file];
    assert!(ctl(&of_token).status.success());
    let site = Site::start(&[("TOKENS", &file)]);
    let mut params = CertificateParams::new(vec!["reader".to_owned()]).expect("parameters");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("now");
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + Duration::from_secs(6);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &site.authority).expect("signed");
    fs::write(
        site.file("client.pem"),
        certificate.pem() + &key.serialize_pem(),
    )
    .expect("write");
    let mut client = Held::new(&site);
    assert_eq!(client.ask(""), "200");
    until("the certificate to run out", || {
        (client.ask("") == "401").then_some(())
    });
    assert_eq!(client.ask("Connection: close\r\n"), "401");
    client.wait();
}

#[test]
fn a_reload_with_another_authority_ends_what_certificates_of_before_were_good_for() {
    let tokens = tempfile::tempdir().expect("a directory");
    let file = tokens.path().join("tokens.toml").display().to_string();
    let of_token = ["token", "new", "reader", "--scope", "read", "--file", &file];
    assert!(ctl(&of_token).status.success());
    let mut site = Site::start(&[("TOKENS", &file)]);
    let (certificate, key) = issue(&site.authority, &["reader"], false);
    fs::write(site.file("client.pem"), certificate + &key).expect("write");
    let ca = fs::read_to_string(site.file("ca.pem")).expect("read");
    let mut client = Held::new(&site);
    assert_eq!(client.ask(""), "200");
    // Others beside the one that it was good for change nothing, nor does a reload that changes nothing.
    let other = authority("another");
    fs::write(site.file("ca.pem"), ca + &other.pem()).expect("write");
    assert!(site.daemon.admin("POST", "/reload", "").0 < 300);
    assert_eq!(client.ask(""), "200");
    fs::write(site.file("ca.pem"), other.pem()).expect("write");
    assert!(site.daemon.admin("POST", "/reload", "").0 < 300);
    assert_eq!(client.ask("Connection: close\r\n"), "401");
    client.wait();
    assert!(site.daemon.stop().success());
    let log = site.daemon.logged();
    assert!(log.contains("a credential was refused"), "{log}");
}
