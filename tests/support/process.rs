//! Other programs: the examples, and the real clients that talk to them.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clients::PYTHON;
use crate::home;

/// What any of these programs, and any answer of theirs, may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A child process that does not outlive its test. One that takes longer than [`LIMIT`] is killed:
/// who reads from it then meets the end of its output, and fails.
pub struct Process {
    child: Arc<Mutex<Child>>,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    _running: Sender<()>,
}

impl Process {
    /// Starts a program whose stdin and stdout are ours.
    pub fn start(command: &mut Command) -> Process {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let child = Arc::new(Mutex::new(child));
        let (running, ended) = channel();
        let watched = child.clone();
        std::thread::spawn(move || kill_at_limit(&ended, &watched));
        Process { child, stdin, stdout, _running: running }
    }

    /// Starts an example that listens, on a port of the system's choice.
    pub fn serve(name: &str) -> (Process, SocketAddr) {
        Process::listening(example(name).arg("127.0.0.1:0"))
    }

    /// Starts a server and reads where it listens.
    pub fn listening(command: &mut Command) -> (Process, SocketAddr) {
        let mut server = Process::start(command);
        let line = server.line();
        let addr = line.strip_prefix("listening on ").expect("a server first says where");
        (server, addr.parse().expect("an address"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// The most memory it has had resident so far, as Linux counts it (proc_pid_status(5)).
    pub fn resident_kib_max(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The next line of its output, without the end; panics if there is none.
    pub fn line(&mut self) -> String {
        read_line(&mut self.stdout)
    }

    /// The next line of its output, or `None` if it has ended.
    pub fn try_line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a pipe can be read");
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// The next bytes of its output before this one, or `None` if it has ended.
    pub fn until(&mut self, end: u8) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stdout.read_until(end, &mut bytes).expect("a pipe can be read");
        (bytes.pop() == Some(end)).then_some(bytes)
    }

    /// Writes to its stdin.
    pub fn type_in(&mut self, text: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(text.as_ref()).expect("it reads its stdin");
    }

    /// Ends its stdin, reads the rest of its output and waits for its end; answers the exit code.
    pub fn finish(&mut self) -> (Vec<u8>, Option<i32>) {
        self.stdin = None;
        self.rest()
    }

    /// Reads the rest of its output and waits for its end, with its stdin open if it was; answers
    /// the exit code.
    pub fn rest(&mut self) -> (Vec<u8>, Option<i32>) {
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest).expect("a pipe can be read");
        let status = self.child.lock().unwrap().wait().expect("it is our child");
        (rest, status.code())
    }

    /// Gives `input` to its stdin while its output is read to the end.
    pub fn pass(&mut self, input: &[u8]) -> Vec<u8> {
        let mut stdin = self.stdin.take().expect("stdin is open");
        let mut output = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).expect("it reads its stdin"));
            self.stdout.read_to_end(&mut output).expect("a pipe can be read");
        });
        output
    }

    /// Gives `input` to its stdin, which stays open, while `count` bytes of its output are read.
    pub fn pass_some(&mut self, input: &[u8], count: usize) -> Vec<u8> {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        let mut output = vec![0; count];
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).expect("it reads its stdin"));
            self.stdout.read_exact(&mut output).expect("so many bytes");
        });
        output
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill(); // It may have ended already.
        let _ = child.wait();
    }
}

fn kill_at_limit(ended: &Receiver<()>, child: &Mutex<Child>) {
    if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
        let mut child = child.lock().unwrap();
        eprintln!("process {} still runs after {LIMIT:?}: killed", child.id());
        let _ = child.kill();
    }
}

/// Where Cargo builds what is built as this test is: target/PROFILE. No variable says where that is.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("target/PROFILE/deps/test").to_owned()
}

/// An example, ready to be started. `cargo test` builds them before it runs the tests.
pub fn example(name: &str) -> Command {
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let path = built().join("examples").join(file);
    let is_fresh = is_newer_than_its_sources(&path).unwrap_or(false);
    let build = "cargo build --all-features --examples";
    assert!(is_fresh, "missing or stale: {}; `{build}`", path.display());
    let mut command = Command::new(path);
    command.env_remove("RUST_LOG");
    command
}

/// Cargo writes next to a program what it was made from. `cargo test --test NAME` makes no examples
/// anew, and a test of yesterday's would be worth nothing.
fn is_newer_than_its_sources(program: &Path) -> io::Result<bool> {
    let made = program.metadata()?.modified()?;
    // As a line of a makefile: a space in a name has a backslash before it.
    let sources = fs::read_to_string(program.with_extension("d"))?.replace("\\ ", "\0");
    let names = sources.split_whitespace().skip(1).map(|name| name.replace('\0', " "));
    let times = names.map(|source| fs::metadata(source)?.modified());
    Ok(times.collect::<io::Result<Vec<_>>>()?.into_iter().all(|changed| changed <= made))
}

/// Runs an example to its end.
pub fn output(name: &str, args: &[&str]) -> Output {
    let output = example(name).args(args).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("cannot start {name}: {error}"))
}

/// A TCP client of lines, each with an end to its patience.
pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect(addr).expect("the server listens"))
    }

    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(LIMIT)).expect("not zero");
        stream.set_write_timeout(Some(LIMIT)).expect("not zero");
        Client(BufReader::new(stream))
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).expect("the server reads");
    }

    /// The next line, without the end.
    pub fn line(&mut self) -> String {
        read_line(&mut self.0)
    }

    /// All that comes until the server closes.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("an orderly end");
        rest
    }
}

fn read_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("a line");
    assert!(line.ends_with('\n'), "the output ended instead of a line: {line:?}");
    line.truncate(line.len() - 1);
    line
}

/// Python's own web server, over the folder of the library.
pub fn python_server() -> (Process, SocketAddr) {
    let code = "import http.server as h, functools\n\
        h.SimpleHTTPRequestHandler.protocol_version = 'HTTP/1.1'\n\
        server = h.ThreadingHTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n\
        print('listening on 127.0.0.1:%d' % server.server_port, flush=True)\n\
        server.serve_forever()";
    let mut python = PYTHON.command();
    Process::listening(python.args(["-c", code]).current_dir(home()).stderr(Stdio::null()))
}
