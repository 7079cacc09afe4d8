//! The real clients that the tests talk to. A test whose client is not on this machine is skipped,
//! by name; `tests/your_tree/machine.rs` says at the end which were, and how to install what they want.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::process::{Process, built};

/// What some tests need and not every machine has.
pub struct Need {
    pub name: &'static str,
    /// The package of Debian and Ubuntu that has it, if one has.
    pub package: Option<&'static str>,
    /// Returns the program, if it does what the tests ask of it.
    find: fn() -> Option<OsString>,
    found: OnceLock<Option<OsString>>,
    /// What it is always given first.
    args: &'static [&'static str],
}

pub static NC: Need = Need::new("nc as OpenBSD has it", Some("netcat-openbsd"), nc);
pub static SOCAT: Need = Need::new("socat", Some("socat"), socat);
/// Whatever its configuration says, and whichever proxies the environment has.
pub static CURL: Need =
    Need::new("curl with https", Some("curl"), curl).first(&["-q", "--noproxy", "*"]);
pub static OPENSSL: Need = Need::new("OpenSSL 3", Some("openssl"), openssl);
pub static PYTHON: Need = Need::new("Python 3.7", Some("python3"), python);
pub static WEBSOCKETS: Need =
    Need::new("Python with websockets 10.1", Some("python3-websockets"), websockets);
/// beanstalkd's clients: `pip install greenstalk`, `npm install fivebeans`.
pub static GREENSTALK: Need = Need::new("Python with greenstalk 2", None, greenstalk);
pub static FIVEBEANS: Need = Need::new("Node with fivebeans 1", None, fivebeans);
/// It starts a program with signals blocked or ignored.
pub static ENV: Need = Need::new("env of coreutils 8.31", Some("coreutils"), env);
/// It gives a program a mount of its own, where the kernel lets it.
pub static UNSHARE: Need = Need::new("unshare(1) that may mount", Some("util-linux"), unshare)
    .first(&["--map-root-user", "--mount"]);
pub static IPV6: Need = Need::new("an IPv6 loopback", None, ipv6);
pub static REDIS_SERVER: Need = Need::new("redis-server 7", Some("redis-server"), redis_server);
pub static REDIS_CLI: Need = Need::new("redis-cli 7", Some("redis-tools"), redis_cli);
pub static REDIS_BENCHMARK: Need =
    Need::new("redis-benchmark 7", Some("redis-tools"), redis_benchmark);
pub static REDIS_PY: Need = Need::new("Python with redis 8 (pip install redis)", None, redis_py);
pub static IOREDIS: Need =
    Need::new("Node with ioredis (npm install ioredis, and its NODE_PATH)", None, ioredis);
pub static STATSD: Need = Need::new("Python with statsd 4 (pip install statsd)", None, statsd);
/// Of the package only this program is wanted, which needs nothing else of it.
pub static PROMTOOL: Need = Need::new("promtool 2", Some("prometheus"), promtool);
pub static VSCODE_JSONRPC: Need = Need::new(
    "Node with vscode-jsonrpc 8 (npm install vscode-jsonrpc, and its NODE_PATH)",
    None,
    vscode_jsonrpc,
);
pub static MOSQUITTO_PUB: Need =
    Need::new("mosquitto_pub 2", Some("mosquitto-clients"), mosquitto_pub);
pub static MOSQUITTO_SUB: Need =
    Need::new("mosquitto_sub 2", Some("mosquitto-clients"), mosquitto_sub);
pub static MOSQUITTO: Need = Need::new("mosquitto 2", Some("mosquitto"), mosquitto_broker);
pub static CURL_MQTT: Need =
    Need::new("curl with mqtt", Some("curl"), curl_mqtt).first(&["-q", "--noproxy", "*"]);
pub static PAHO: Need = Need::new("Python with paho-mqtt 2 (pip install paho-mqtt)", None, paho);
pub static MQTT_JS: Need =
    Need::new("Node with mqtt (npm install mqtt, and its NODE_PATH)", None, mqtt_js);
pub static LOGGER: Need = Need::new("logger of util-linux 2.26", Some("bsdutils"), logger);
pub static RSYSLOGD: Need = Need::new("rsyslogd 8", Some("rsyslog"), rsyslogd);
/// It gives a program another clock, also a fast one.
pub static FAKETIME: Need = Need::new("faketime", Some("faketime"), faketime);
#[rustfmt::skip]
pub static ALL: &[&Need] = &[
    &NC,
    &SOCAT,
    &CURL,
    &OPENSSL,
    &PYTHON,
    &WEBSOCKETS,
    &ENV,
    &UNSHARE,
    &IPV6,
    &REDIS_SERVER,
    &REDIS_CLI,
    &REDIS_BENCHMARK,
    &REDIS_PY,
    &IOREDIS,
    &GREENSTALK,
    &FIVEBEANS,
    &STATSD,
    &PROMTOOL,
    &VSCODE_JSONRPC,
    &MOSQUITTO,
    &MOSQUITTO_PUB,
    &MOSQUITTO_SUB,
    &CURL_MQTT,
    &PAHO,
    &MQTT_JS,
    &LOGGER,
    &RSYSLOGD,
    &FAKETIME,
];

/// Set to `required`, it makes a failure of each test that would be skipped.
const VARIABLE: &str = "WATERWHEEL_CLIENTS";

thread_local! {
    /// What the test on this thread has asked for.
    static ASKED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Ends the test here, skipped, where one of these is missing. For the first line of a test.
#[macro_export]
macro_rules! skip_without {
    ($($need:ident),+) => {{
        fn here() {}
        let test = std::any::type_name_of_val(&here).trim_end_matches("::here");
        if !$crate::clients::are_here(test, &[$(&$crate::clients::$need),+]) {
            return;
        }
    }};
}
pub use skip_without;

/// Returns true if this machine has all of them. Else the test is noted as skipped.
pub fn are_here(test: &str, needs: &[&'static Need]) -> bool {
    if std::env::var_os(crate::ALONE).is_some() {
        return true; // Our own child, which one of them has started.
    }
    ASKED.with_borrow_mut(|asked| asked.extend(needs.iter().map(|need| need.name)));
    let missing: Vec<&Need> = needs.iter().copied().filter(|need| !need.is_here()).collect();
    for need in &missing {
        let is_required = std::env::var_os(VARIABLE).is_some_and(|value| value == "required");
        assert!(!is_required, "{} is missing, and {VARIABLE}=required", need.name);
        note(test, need);
    }
    missing.is_empty()
}

/// Where a test that is skipped leaves its name. Nobody clears it before a run: the program
/// `your_tree`, which runs last, does afterwards.
pub fn notes() -> PathBuf {
    built().join("skipped")
}

fn note(test: &str, need: &Need) {
    // Not by a macro, whose output is captured: this is not to be overlooked.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: no {}", need.name);
    let notes = notes();
    fs::create_dir_all(notes.parent().expect("a folder")).expect("target/ can be written to");
    let file = OpenOptions::new().create(true).append(true).open(notes);
    // In one call, as other programs may append at the same time.
    let line = format!("{}\t{test}\n", need.name);
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("target/ can be written to");
}

impl Need {
    const fn new(
        name: &'static str,
        package: Option<&'static str>,
        find: fn() -> Option<OsString>,
    ) -> Need {
        Need { name, package, find, found: OnceLock::new(), args: &[] }
    }

    const fn first(mut self, args: &'static [&'static str]) -> Need {
        self.args = args;
        self
    }

    pub fn is_here(&self) -> bool {
        self.found.get_or_init(self.find).is_some()
    }

    /// The client, ready to be given arguments. Only for a test that begins with
    /// [`skip_without!`], and on its thread: one that does not would fail where this is missing.
    pub fn command(&'static self) -> Command {
        let is_asked = ASKED.with_borrow(|asked| asked.contains(&self.name));
        assert!(is_asked, "the test does not begin with skip_without!, for {}", self.name);
        let program = self.found.get_or_init(self.find).as_ref();
        let mut command = Command::new(program.expect("the test went on, so it is here"));
        command.args(self.args);
        command
    }
}

/// What a program prints when it is run with these arguments; nothing if it is not there.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let Output { stdout, stderr, .. } = Command::new(program).args(args).output().ok()?;
    Some(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// There are several programs of that name. `-N` (send FIN at the end of stdin), Unix sockets, and
/// a port that the system chooses and `-v` tells are OpenBSD's.
fn nc() -> Option<OsString> {
    let help = said("nc", &["-h"])?;
    let options = help.split_once("[-")?.1.split_once(']')?.0;
    let has_options = "NUluv".chars().all(|option| options.contains(option));
    let listen = || {
        let mut sh = Command::new("sh");
        let mut nc = Process::start(sh.args(["-c", "exec nc -v -N -l 127.0.0.1 0 2>&1"]));
        let line = nc.try_line()?;
        let port = line.strip_prefix("Listening on ")?.rsplit(' ').next()?.parse::<u16>().ok()?;
        (port > 0).then(|| "nc".into())
    };
    if has_options { listen() } else { None }
}

fn socat() -> Option<OsString> {
    said("socat", &["-V"])?.contains("socat version 1.").then(|| "socat".into())
}

fn curl() -> Option<OsString> {
    curl_with("https")
}

fn curl_mqtt() -> Option<OsString> {
    curl_with("mqtt")
}

fn curl_with(wanted: &str) -> Option<OsString> {
    let version = said("curl", &["--version"])?;
    let protocols = version.lines().find_map(|line| line.strip_prefix("Protocols: "))?;
    protocols.split(' ').any(|protocol| protocol == wanted).then(|| "curl".into())
}

/// Some systems call LibreSSL so, whose options differ.
fn openssl() -> Option<OsString> {
    let version = said("openssl", &["version"])?;
    let major = version.strip_prefix("OpenSSL ")?.split('.').next()?;
    (major.parse::<u32>().ok()? >= 3).then(|| "openssl".into())
}

fn python() -> Option<OsString> {
    python_with("import asyncio, ssl, http.server; http.server.ThreadingHTTPServer")
}

fn websockets() -> Option<OsString> {
    python_with(
        "import asyncio, ssl, websockets\n\
         from websockets.version import version\n\
         assert [int(part) for part in version.split('.')[:2]] >= [10, 1]\n\
         websockets.connect, websockets.serve",
    )
}

fn greenstalk() -> Option<OsString> {
    python_with("import greenstalk\nassert greenstalk.__version__.startswith('2.')")
}

fn fivebeans() -> Option<OsString> {
    node_with("fivebeans")
}

/// The Python that `WATERWHEEL_PYTHON` names; else the first on the PATH, or the system's, which is
/// the one that a package reaches.
fn python_with(script: &str) -> Option<OsString> {
    let named = std::env::var_os("WATERWHEEL_PYTHON");
    let usual = || vec!["python3".into(), "/usr/bin/python3".into()];
    named.map_or_else(usual, |named| vec![named]).into_iter().find(|python| {
        let output = Command::new(python).args(["-c", script]).output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// A program of which `--version` says that it is of at least this major version.
fn of_version(program: &str, major: u32) -> Option<OsString> {
    let said = said(program, &["--version"])?;
    let mut numbers = said.split(|char: char| !char.is_ascii_digit() && char != '.');
    let version = numbers.find(|number| number.contains('.'))?;
    (version.split('.').next()?.parse::<u32>().ok()? >= major).then(|| program.into())
}

fn redis_server() -> Option<OsString> {
    of_version("redis-server", 7)
}

fn redis_cli() -> Option<OsString> {
    of_version("redis-cli", 7)
}

fn redis_benchmark() -> Option<OsString> {
    of_version("redis-benchmark", 7)
}

fn redis_py() -> Option<OsString> {
    python_with("import redis; assert int(redis.__version__.split('.')[0]) >= 8")
}

/// Node, if it finds this package: `NODE_PATH` names the folder of those that were installed.
fn node_with(package: &str) -> Option<OsString> {
    let script = format!("require('{package}'); console.log('fine')");
    (said("node", &["-e", &script])?.trim_end() == "fine").then(|| "node".into())
}

fn ioredis() -> Option<OsString> {
    node_with("ioredis")
}

fn vscode_jsonrpc() -> Option<OsString> {
    node_with("vscode-jsonrpc/node")
}

fn statsd() -> Option<OsString> {
    python_with("import statsd; statsd.StatsClient(ipv6=False).pipeline")
}

/// The first on the PATH, or the one that `WATERWHEEL_PROMTOOL` names.
fn promtool() -> Option<OsString> {
    let named = std::env::var("WATERWHEEL_PROMTOOL").unwrap_or_else(|_| "promtool".into());
    of_version(&named, 2)
}

/// `--help` says the version, as "mosquitto_pub version 2.0.11 running on …". The broker is where only
/// the PATH of root looks.
fn mosquitto(program: &str) -> Option<OsString> {
    let said = said(program, &["--help"])?;
    let version = said.split_once(" version ")?.1.split('.').next()?.parse::<u32>().ok()?;
    (version >= 2).then(|| program.into())
}

/// That of inetutils has other options.
fn logger() -> Option<OsString> {
    said("logger", &["--help"])?.contains("--octet-count").then(|| "logger".into())
}

/// Where only the PATH of root looks.
fn rsyslogd() -> Option<OsString> {
    let is_right =
        |name: &&str| said(name, &["-v"]).is_some_and(|said| said.starts_with("rsyslogd  8"));
    ["rsyslogd", "/usr/sbin/rsyslogd"].iter().find(|name| is_right(name)).map(OsString::from)
}

fn mosquitto_broker() -> Option<OsString> {
    mosquitto("mosquitto").or_else(|| mosquitto("/usr/sbin/mosquitto"))
}

fn mosquitto_pub() -> Option<OsString> {
    mosquitto("mosquitto_pub")
}

fn mosquitto_sub() -> Option<OsString> {
    mosquitto("mosquitto_sub")
}

fn paho() -> Option<OsString> {
    python_with("import paho.mqtt; assert int(paho.mqtt.__version__.split('.')[0]) >= 2")
}

fn mqtt_js() -> Option<OsString> {
    node_with("mqtt")
}

fn env() -> Option<OsString> {
    let said = said("env", &["--block-signal=USR1", "echo", "fine"])?;
    (said.trim_end() == "fine").then(|| "env".into())
}

fn faketime() -> Option<OsString> {
    let said = said("faketime", &["-f", "@2026-03-29 00:59:59", "date", "+%F"])?;
    (said.trim_end() == "2026-03-29").then(|| "faketime".into())
}

fn unshare() -> Option<OsString> {
    let mount = "mount --bind /dev/null /etc/hosts && echo fine";
    let said = said("unshare", &["--map-root-user", "--mount", "sh", "-c", mount])?;
    (said.trim_end() == "fine").then(|| "unshare".into())
}

fn ipv6() -> Option<OsString> {
    TcpListener::bind("[::1]:0").ok().map(|_| OsString::new())
}
