//! The job queue, with beanstalkd's clients.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::clients::{FIVEBEANS, GREENSTALK, NC, UNSHARE, skip_without};
use support::process::{Client, Process, example, output};
use support::{Rng, ceiling};

#[allow(dead_code)] // The program uses the rest.
#[path = "../../examples/mq"]
pub mod program {
    pub mod commands;
    #[path = "../journal/mod.rs"]
    pub mod journal;
    pub mod moves;
    pub mod protocol;
    pub mod queue;
    pub mod server;
    pub mod stats;
    pub mod store;
    #[cfg(test)]
    mod tests;
}

fn serve(options: &[&str]) -> (Process, SocketAddr) {
    Process::listening(example("mq").args(options).arg("127.0.0.1:0"))
}

/// A file for a journal, with nothing beside it.
fn journal(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mq").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder.join("jobs")
}

fn with_log(path: &Path) -> (Process, SocketAddr) {
    serve(&["--log", path.to_str().unwrap()])
}

/// Sends a command, and answers the first line of what comes back.
fn ask(client: &mut Client, command: impl AsRef<[u8]>) -> String {
    client.send(command);
    client.send("\r\n");
    answer(client)
}

fn answer(client: &mut Client) -> String {
    client.line().trim_end_matches('\r').to_owned()
}

/// A put of a body; answers the first line.
fn put(client: &mut Client, body: &[u8]) -> String {
    client.send(format!("put 0 0 60 {}\r\n", body.len()));
    client.send(body);
    client.send("\r\n");
    answer(client)
}

/// The bytes behind an answer that announces them.
fn body(client: &mut Client, line: &str) -> Vec<u8> {
    let length: usize = line.rsplit(' ').next().unwrap().parse().expect("a length");
    let mut bytes = vec![0; length + 2];
    client.0.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes.split_off(length), b"\r\n");
    bytes
}

fn stat(client: &mut Client, command: &str, key: &str) -> String {
    let line = ask(client, command);
    let text = String::from_utf8(body(client, &line)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
}

/// What a script of a client prints when it is run against a server.
fn run(command: &mut Command, addr: SocketAddr) -> String {
    let done = command.env("ADDR", addr.to_string()).output().expect("it starts");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn greenstalk_does_all_it_can_with_a_journal_and_without() {
    skip_without!(GREENSTALK);
    let script = "
import os, time, greenstalk as g
host, port = os.environ['ADDR'].split(':')
address = (host, int(port))
def raises(error, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except error:
        return
    raise AssertionError(error)
with g.Client(address, use='mails', watch=['mails', 'urgent']) as c, g.Client(address, encoding=None) as other:
    assert c.using() == 'mails' and c.watching() == ['mails', 'urgent']
    assert sorted(c.tubes()) == ['default', 'mails', 'urgent']
    first = c.put('Grüße', priority=5)
    soon = c.put('soon', delay=1)
    assert c.peek(first).body == 'Grüße' and c.peek_ready().id == first and c.peek_delayed().id == soon
    raises(g.NotFoundError, c.peek_buried)
    job = c.reserve()
    assert (job.id, job.body) == (first, 'Grüße')
    raises(g.NotFoundError, other.delete, first)
    raises(g.TimedOutError, c.reserve, timeout=0)
    begun = time.monotonic()
    later = c.reserve(timeout=10)
    assert later.id == soon and time.monotonic() - begun < 5
    stats = c.stats_job(first)
    assert stats['state'] == 'reserved' and stats['pri'] == 5 and stats['tube'] == 'mails'
    c.touch(job)
    c.release(job, priority=1)
    c.release(later, delay=60)
    later = c.reserve_job(soon)
    c.bury(later)
    assert c.peek_buried().id == soon
    assert c.kick(10) == 1
    raises(g.NotFoundError, c.kick_job, soon)
    c.delete(soon)
    c.pause_tube('mails', 60)
    raises(g.TimedOutError, c.reserve, timeout=0)
    assert c.stats_tube('mails')['pause'] == 60
    c.pause_tube('mails', 0)
    assert c.reserve(timeout=10).id == first
    c.delete(first)
    raises(g.JobTooBigError, c.put, 'x' * 65536)
    raises(g.NotIgnoredError, other.ignore, 'default')
    raises(g.BadFormatError, c.use, 'n' * 201)
    everything = bytes(range(256)) * 255
    assert other.peek(other.put(everything)).body == everything
    short = c.put('short', ttr=1)
    assert c.reserve().id == short
    raises(g.DeadlineSoonError, c.reserve)
    other.watch('mails'); other.ignore('default')
    assert other.reserve(timeout=10).id == short, 'its time was up'
    stats = c.stats()
    assert stats['total-jobs'] == 4 and stats['job-timeouts'] == 1 and stats['cmd-put'] == 4 and stats['draining'] == 'false'
    assert stats['current-connections'] == 2 and stats['max-job-size'] == 65535
print('done')
";
    let path = journal("greenstalk");
    for (_server, addr) in [serve(&[]), with_log(&path)] {
        assert_eq!(run(GREENSTALK.command().args(["-c", script]), addr), "done\n");
    }
}

#[test]
fn fivebeans_puts_reserves_and_reads_statistics() {
    skip_without!(FIVEBEANS);
    let script = "
const { client } = require('fivebeans');
const [host, port] = process.env.ADDR.split(':');
const c = new client(host, port);
const call = (what, ...args) => new Promise((done, fail) =>
    c[what](...args, (error, ...results) => error ? fail(new Error(error)) : done(results)));
c.on('connect', async () => {
    await call('use', 'mails');
    await call('watch', 'mails');
    const [id] = await call('put', 0, 0, 60, 'hello');
    const [got, body] = await call('reserve');
    if (got !== id || body.toString() !== 'hello') throw new Error(got + body);
    const [stats] = await call('stats_tube', 'mails');
    if (stats['current-jobs-reserved'] !== 1 || stats.name !== 'mails') throw new Error(JSON.stringify(stats));
    if ((await call('stats'))[0]['total-jobs'] !== 1) throw new Error('stats');
    if ((await call('stats_job', id))[0].state !== 'reserved') throw new Error('stats_job');
    if (!(await call('list_tubes'))[0].includes('mails')) throw new Error('list_tubes');
    await call('bury', id, 3);
    if ((await call('peek_buried'))[0] !== id) throw new Error('peek_buried');
    await call('kick_job', id);
    await call('destroy', id);
    const failed = await call('peek', id).catch(error => error.message);
    if (failed !== 'NOT_FOUND') throw new Error(failed);
    console.log('done');
    c.quit(() => {});
    c.on('close', () => process.exit(0));
});
process.on('unhandledRejection', error => { console.error(error); process.exit(1); });
c.connect();
";
    let (_server, addr) = serve(&[]);
    assert_eq!(run(FIVEBEANS.command().args(["-e", script]), addr), "done\n");
}

/// As the header says: and the end of its input is not the end of the answers.
#[test]
fn nc_gets_all_answers_though_it_has_finished_and_the_job_survives_a_kill() {
    skip_without!(NC);
    let path = journal("nc");
    let (server, addr) = with_log(&path);
    let (host, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut nc = Process::start(NC.command().args(["-N", &host, &port]));
    nc.type_in("put 0 0 60 5\r\nhello\r\nreserve\r\npeek 1\r\nreserve\r\nreserve\r\npeek 1\r\n");
    let (said, _) = nc.finish();
    let job = "1 5\r\nhello\r\n";
    let waited = "TIMED_OUT\r\nTIMED_OUT\r\n";
    let expected = format!("INSERTED 1\r\nRESERVED {job}FOUND {job}{waited}FOUND {job}");
    assert_eq!(String::from_utf8(said).unwrap(), expected);
    drop(server); // By SIGKILL.
    let (_server, addr) = with_log(&path);
    let mut client = Client::connect(addr);
    assert_eq!(ask(&mut client, "reserve"), "RESERVED 1 5");
    assert_eq!(body(&mut client, "5"), b"hello");
    assert_eq!(ask(&mut client, "delete 1"), "DELETED");
    assert_eq!(put(&mut client, b""), "INSERTED 2", "a number is used once");
}

/// All at once, with a journal, too: a command sees what those before it have done.
#[test]
fn commands_that_come_at_once_are_done_in_order() {
    let path = journal("order");
    for (_server, addr) in [serve(&[]), with_log(&path)] {
        let mut client = Client::connect(addr);
        let puts = "put 0 0 60 1\r\nj\r\n".repeat(3);
        client.send(format!(
            "{puts}delete 2\r\nuse x\r\nwatch x\r\nreserve-with-timeout 0\r\nkick 1\r\nrelease 1 9 0\r\n\
             reserve\r\ndelete 3\r\nput 0 0 60 1\r\nj\r\npeek-ready\r\nquit\r\npeek 1\r\n"
        ));
        let expected = "INSERTED 1\r\nINSERTED 2\r\nINSERTED 3\r\nDELETED\r\nUSING x\r\nWATCHING 2\r\n\
             RESERVED 1 1\r\nj\r\nKICKED 0\r\nRELEASED\r\nRESERVED 3 1\r\nj\r\nDELETED\r\n\
             INSERTED 4\r\nFOUND 4 1\r\nj\r\n";
        assert_eq!(client.rest(), expected);
    }
}

/// More than is kept while it waits for a job: the rest waits in the network.
#[test]
fn what_a_client_sends_ahead_while_it_waits_is_done_when_it_has_its_job() {
    let path = journal("ahead");
    for (_server, addr) in [serve(&[]), with_log(&path)] {
        let [mut client, mut other] = [(); 2].map(|()| Client::connect(addr));
        let stream = client.0.get_ref().try_clone().unwrap();
        let ahead = format!("put 0 0 60 50000\r\n{}\r\n", "x".repeat(50_000)).repeat(100);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                (&stream).write_all(b"reserve\r\n").unwrap();
                (&stream).write_all(ahead.as_bytes()).unwrap();
            });
            while stat(&mut other, "stats", "current-waiting") != "1" {}
            assert_eq!(put(&mut other, b"j"), "INSERTED 1");
            assert_eq!(answer(&mut client), "RESERVED 1 1");
            assert_eq!(body(&mut client, "1"), b"j");
            for id in 2..102 {
                assert_eq!(answer(&mut client), format!("INSERTED {id}"));
            }
        });
    }
}

#[test]
fn hostile_commands_get_the_word_for_them_and_the_next_is_served() {
    let (_server, addr) = serve(&[]);
    let mut client = Client::connect(addr);
    assert_eq!(ask(&mut client, "put 0 0 1 4294967296"), "BAD_FORMAT");
    assert_eq!(ask(&mut client, format!("use {}", "n".repeat(201))), "BAD_FORMAT");
    assert_eq!(ask(&mut client, vec![b'x'; 1 << 20]), "BAD_FORMAT");
    assert_eq!(ask(&mut client, "put 0 0 1 4\r\nfive5"), "EXPECTED_CRLF");
    assert_eq!(ask(&mut client, "put 0 0 1 4\r\nfive more"), "EXPECTED_CRLF");
    assert_eq!(answer(&mut client), "UNKNOWN_COMMAND");
    assert_eq!(ask(&mut client, b"\0\0\xff"), "UNKNOWN_COMMAND");
    assert_eq!(ask(&mut client, "hello"), "UNKNOWN_COMMAND");
    assert_eq!(put(&mut client, &[b'x'; 65_535]), "INSERTED 1");
    assert_eq!(put(&mut client, &[b'x'; 65_536]), "JOB_TOO_BIG");
    assert_eq!(ask(&mut client, "peek 1"), "FOUND 1 65535");
}

/// The length of its body is a lie that nobody believes before it comes.
#[test]
#[cfg(target_os = "linux")]
fn a_body_of_four_gigabytes_is_swallowed_in_little_memory_while_others_are_served() {
    let (server, addr) = serve(&[]);
    let mut other = Client::connect(addr);
    assert_eq!(put(&mut other, b"j"), "INSERTED 1");
    let before = server.resident_kib_max();
    let mut client = Client::connect(addr);
    client.send("put 0 0 1 4294967295\r\n");
    for _ in 0..200 {
        client.send([b'x'; 1 << 20]);
        assert_eq!(ask(&mut other, "peek-buried"), "NOT_FOUND");
    }
    let grown = server.resident_kib_max() - before;
    assert!(grown < 4096, "{grown} KiB");
}

/// A client that asks for much and reads nothing; 8 bytes of its are 64 KiB of ours.
#[test]
#[cfg(target_os = "linux")]
fn answers_that_nobody_reads_are_not_made() {
    let path = journal("unread");
    for (server, addr) in [serve(&[]), with_log(&path)] {
        let mut other = Client::connect(addr);
        assert_eq!(put(&mut other, &[b'x'; 65_535]), "INSERTED 1");
        let before = server.resident_kib_max();
        let client = Client::connect(addr);
        client.0.get_ref().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let peeks = "peek 1\r\n".repeat(10_000);
        while (&mut client.0.get_ref()).write_all(peeks.as_bytes()).is_ok() {}
        assert_eq!(ask(&mut other, "peek-buried"), "NOT_FOUND");
        let grown = server.resident_kib_max() - before;
        assert!(grown < 8192, "{grown} KiB");
        // And when it reads, they come.
        let mut client = Client::over(client.0.into_inner());
        for _ in 0..300 {
            assert_eq!(answer(&mut client), "FOUND 1 65535");
            assert_eq!(body(&mut client, "65535").len(), 65_535);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_thousand_tubes_need_no_more_memory_than_there_may_be() {
    let (server, addr) = serve(&[]);
    let mut client = Client::connect(addr);
    let before = server.resident_kib_max();
    let mut refused = 0;
    for thousand in 0..100 {
        let uses: String = (0..1000).map(|at| format!("use {thousand}-{at:0>190}\r\n")).collect();
        client.send(uses + &format!("watch {thousand}\r\n"));
        for _ in 0..1000 {
            assert!(
                ["USING", "OUT_OF_MEMORY"]
                    .contains(&answer(&mut client).split(' ').next().unwrap())
            );
        }
        let watching = answer(&mut client);
        assert!(watching.starts_with("WATCHING ") || watching == "OUT_OF_MEMORY");
        // And with a job in each they stay, until there are too many.
        for at in 0..150 {
            client.send(format!("use {thousand}-{at:0>190}\r\nput 0 0 60 1\r\nj\r\n"));
            refused += usize::from(answer(&mut client) == "OUT_OF_MEMORY");
            assert!(answer(&mut client).starts_with("INSERTED "));
        }
    }
    let count: usize = stat(&mut client, "stats", "current-tubes").parse().unwrap();
    assert!(refused > 4000 && count == program::queue::TUBES_MAX, "{refused} {count}");
    let grown = server.resident_kib_max() - before;
    assert!(grown < 32 * 1024, "{grown} KiB");
    assert_eq!(put(&mut Client::connect(addr), b"j").split(' ').next(), Some("INSERTED"));
}

#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_may_wait_and_are_served_in_order() {
    let _ceiling = ceiling(Duration::from_secs(120));
    support::raise_open_files();
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let count = most.map_or(10_000, |most| 10_000.min(most.saturating_sub(1000) as usize));
    let (server, addr) = serve(&[]);
    let mut put_client = Client::connect(addr);
    let mut waiting: Vec<TcpStream> = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"reserve\r\n").unwrap();
        waiting.push(stream);
    }
    while stat(&mut put_client, "stats", "current-waiting") != count.to_string() {}
    for at in 0..100 {
        assert_eq!(put(&mut put_client, b"j"), format!("INSERTED {}", at + 1));
    }
    let mut served = BTreeSet::new();
    for (at, stream) in waiting.drain(..).take(100).enumerate() {
        let mut client = Client::over(stream);
        assert!(answer(&mut client).starts_with("RESERVED "), "number {at}");
        served.insert(at);
    }
    assert_eq!(served.len(), 100);
    println!("{count} wait: {} KiB", server.resident_kib_max());
    assert!(server.resident_kib_max() < 64 * 1024, "{} KiB", server.resident_kib_max());
}

#[test]
#[cfg(unix)]
fn a_drain_takes_no_jobs_and_lets_those_that_are_reserved_be_finished() {
    use rustix::process::{Pid, Signal, kill_process};
    let path = journal("drain");
    let (mut server, addr) = with_log(&path);
    let [mut worker, mut idle] = [(); 2].map(|()| Client::connect(addr));
    assert_eq!(put(&mut worker, b"j"), "INSERTED 1");
    assert_eq!(ask(&mut worker, "reserve"), "RESERVED 1 1");
    assert_eq!(body(&mut worker, "1"), b"j");
    worker.send("reserve\r\n");
    idle.send("reserve\r\n");
    while stat(&mut Client::connect(addr), "stats", "current-waiting") != "2" {}
    kill_process(Pid::from_raw(server.id() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(server.line().starts_with("SIGTERM: no new clients, waiting up to 5 s for "));
    assert_eq!(answer(&mut worker), "DEADLINE_SOON", "it is to finish what it has");
    assert_eq!(idle.rest(), "");
    assert_eq!(put(&mut worker, b"j"), "DRAINING");
    assert_eq!(ask(&mut worker, "delete 1"), "DELETED");
    assert_eq!(worker.rest(), "");
    let (said, code) = server.rest();
    assert!(String::from_utf8(said).unwrap().contains(" 0 aborted)"));
    assert_eq!(code, Some(0));
    let (_server, addr) = with_log(&path);
    assert_eq!(ask(&mut Client::connect(addr), "peek 1"), "NOT_FOUND");
}

#[test]
fn help_and_bad_arguments() {
    let help = output("mq", &["--help"]).stdout;
    assert!(help.starts_with(b"Usage: mq [OPTIONS] [ADDR]"));
    for (args, because) in [
        (&["nonsense"][..], "cannot listen on nonsense: "),
        (&["--fsync-ms", "60001"], "--fsync-ms wants 60000 at most"),
        (&["--bytes", "many"], "--bytes wants a whole number"),
        (&["--nonsense"], "'--nonsense'; try --help"),
    ] {
        let refused = output("mq", args);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.starts_with("error: ") && said.contains(because), "{said}");
    }
}

#[test]
fn a_journal_that_is_in_use_or_none_is_an_error_in_one_line() {
    let path = journal("in-use");
    let _server = with_log(&path);
    let text = path.to_str().unwrap();
    fs::write(path.with_extension("txt"), "nothing of ours").unwrap();
    let other = path.with_extension("txt");
    for (path, because) in [
        (text, "another program has it"),
        (other.to_str().unwrap(), "it is no journal"),
        ("/nowhere/jobs", "No such file or directory"),
    ] {
        let refused = output("mq", &["--log", path, "127.0.0.1:0"]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.starts_with(&format!("error: cannot open {path}: {because}")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_record_that_is_half_there_is_cut_off_and_said() {
    let path = journal("half");
    {
        let (_server, addr) = with_log(&path);
        let mut client = Client::connect(addr);
        assert_eq!(put(&mut client, b"whole"), "INSERTED 1");
        assert_eq!(put(&mut client, b"half"), "INSERTED 2");
    }
    let all = fs::read(&path).unwrap();
    fs::write(&path, &all[..all.len() - 3]).unwrap();
    let mut command = example("mq");
    command.args(["--log", path.to_str().unwrap(), "127.0.0.1:0"]).stderr(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = [0; 200];
    let count = child.stderr.take().unwrap().read(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..count]).into_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("bytes of an unfinished write are cut off"), "{said}");
    let (_server, addr) = with_log(&path);
    let mut client = Client::connect(addr);
    assert_eq!(ask(&mut client, "peek 1"), "FOUND 1 5");
    assert_eq!(body(&mut client, "5"), b"whole");
    assert_eq!(ask(&mut client, "peek 2"), "NOT_FOUND");
}

fn long(number: usize) -> Vec<u8> {
    format!("{number} ").repeat(2000).into_bytes()
}

/// Puts until the disk is full, makes room and puts again. Returns how many jobs there are, of which
/// the first is deleted and the last is short, and the number of the last.
fn fill(
    server: &mut Process,
    addr: SocketAddr,
    error: &str,
    make_room: impl FnOnce(),
) -> (usize, String) {
    let mut client = Client::connect(addr);
    let mut stored = 0;
    let refusal = loop {
        match put(&mut client, &long(stored + 1)) {
            line if line == format!("INSERTED {}", stored + 1) => stored += 1,
            line => break line,
        }
    };
    assert_eq!(refusal, "OUT_OF_MEMORY");
    assert!(stored > 5, "{stored}");
    let line = server.line();
    assert!(line.starts_with(&format!("cannot store, so no change is taken: {error}")), "{line}");
    // Reading goes on. What is refused has not happened.
    for _ in 0..10 {
        assert_eq!(put(&mut client, &long(stored + 1)), "OUT_OF_MEMORY");
    }
    assert_eq!(stat(&mut client, "stats", "current-jobs-ready"), stored.to_string());
    let large = format!("put 0 0 60 8000\r\n{}\r\n", "x".repeat(8000));
    client.send(format!("{large}{large}list-tube-used\r\n"));
    let answers = [(); 3].map(|()| answer(&mut client));
    assert_eq!(answers, ["OUT_OF_MEMORY", "OUT_OF_MEMORY", "USING default"]);
    make_room();
    let id = put(&mut client, b"there is room").split_off("INSERTED ".len());
    assert_eq!(server.line(), "the disk stores again");
    assert_eq!(ask(&mut client, "delete 1"), "DELETED");
    (stored, id)
}

/// A file system that is full, and then is not.
#[test]
#[cfg(target_os = "linux")]
fn on_a_full_file_system_it_goes_on_when_there_is_room() {
    skip_without!(UNSHARE);
    let folder = journal("tmpfs").parent().unwrap().to_owned();
    let script = "mount -t tmpfs -o size=300k none \"$0\" && head -c 100000 /dev/zero > \"$0/filler\" \
        && exec \"$@\"";
    let mut command = UNSHARE.command();
    command.args(["sh", "-c", script]).arg(&folder).arg(example("mq").get_program());
    command.arg("--log").arg(folder.join("jobs")).arg("127.0.0.1:0");
    let (mut server, addr) = Process::listening(&mut command);
    let root = PathBuf::from(format!("/proc/{}/root", server.id()));
    let filler = root.join(folder.strip_prefix("/").unwrap()).join("filler");
    fill(&mut server, addr, "No space left on device", || fs::remove_file(filler).unwrap());
}

/// The limit on the size of a file is a disk that is full, and then is not.
#[test]
#[cfg(target_os = "linux")]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_stored_and_it_goes_on_when_there_is_room() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let path = journal("full");
    let program = example("mq").get_program().to_owned();
    let script = "trap '' XFSZ; ulimit -S -f 400; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(program).arg("--log").arg(&path).arg("127.0.0.1:0");
    let (mut server, addr) = Process::listening(&mut command);
    let pid = Pid::from_raw(server.id() as i32);
    let (stored, id) = fill(&mut server, addr, "File too large", || {
        prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    });
    drop(server);
    let (_server, addr) = with_log(&path);
    let mut client = Client::connect(addr);
    assert_eq!(stat(&mut client, "stats", "current-jobs-ready"), stored.to_string());
    for number in 2..=stored {
        let line = ask(&mut client, format!("peek {number}"));
        assert_eq!(body(&mut client, &line), long(number));
    }
    assert_eq!(ask(&mut client, format!("peek {id}")), format!("FOUND {id} 13"));
}

/// How many of the newest jobs are looked at after each kill, beside those that must be there.
const WINDOW: u64 = 500;

/// What a client knows of its jobs, whatever becomes of the server.
#[derive(Default)]
struct Known {
    /// Acknowledged, and not deleted.
    there: BTreeMap<u64, Vec<u8>>,
    gone: BTreeSet<u64>,
    /// Deletes and puts without an answer: they may have happened.
    deleting: BTreeSet<u64>,
    putting: Vec<Vec<u8>>,
}

enum Asked {
    Put(Vec<u8>),
    Delete(u64),
}

impl Known {
    /// Puts and deletes, many at a time, and reads so many answers.
    fn load(&mut self, client: &mut Client, rng: &mut Rng, answers: u64) {
        let (mut asked, mut left) = (std::collections::VecDeque::new(), answers);
        while left > 0 {
            let mut text = Vec::new();
            for _ in 0..1 + rng.below(20) {
                let candidates: Vec<u64> = self.there.keys().copied().collect();
                let is_put = candidates.len() < 10 || rng.below(100) < 52;
                if is_put {
                    let longest = if rng.below(20) == 0 { 60_000 } else { 300 };
                    let length = rng.below(longest) as usize;
                    let body: Vec<u8> = (0..length).map(|_| rng.below(256) as u8).collect();
                    text.extend(format!("put 0 0 60 {length}\r\n").bytes());
                    text.extend(body.iter().chain(b"\r\n"));
                    asked.push_back(Asked::Put(body));
                } else {
                    let id = candidates[rng.below(candidates.len() as u64) as usize];
                    text.extend(format!("delete {id}\r\n").bytes());
                    if let Some(body) = self.there.remove(&id) {
                        self.putting.push(body); // Should it come back.
                        self.deleting.insert(id);
                    }
                    asked.push_back(Asked::Delete(id));
                }
            }
            client.send(&text);
            for _ in 0..asked.len().min(left as usize).min(1 + rng.below(20) as usize) {
                left -= 1;
                let line = answer(client);
                match asked.pop_front().expect("it was asked") {
                    Asked::Put(body) => {
                        let id = line.strip_prefix("INSERTED ").unwrap_or_else(|| panic!("{line}"));
                        self.there.insert(id.parse().unwrap(), body);
                    }
                    Asked::Delete(id) => {
                        assert_eq!(line, "DELETED");
                        self.deleting.remove(&id);
                        self.gone.insert(id);
                    }
                }
            }
        }
        self.putting.extend(asked.into_iter().filter_map(|asked| match asked {
            Asked::Put(body) => Some(body),
            Asked::Delete(_) => None,
        }));
    }

    /// Looks at every job that there may be, and from then on knows.
    fn check(&mut self, client: &mut Client) {
        let next: u64 = put(client, b"").split_off("INSERTED ".len()).parse().unwrap();
        let first = next.saturating_sub(WINDOW).max(1);
        let ids: BTreeSet<u64> = (first..next).chain(self.there.keys().copied()).collect();
        for ids in ids.into_iter().collect::<Vec<_>>().chunks(500) {
            client.send(ids.iter().map(|id| format!("peek {id}\r\n")).collect::<String>());
            for id in ids {
                let line = answer(client);
                if line == "NOT_FOUND" {
                    assert!(!self.there.contains_key(id), "{id} was acknowledged, and is lost");
                    continue;
                }
                let found = body(client, &line);
                assert!(!self.gone.contains(id), "{id} was deleted, and is back");
                match self.there.get(id) {
                    Some(body) => assert!(*body == found, "{id} is another one"),
                    None => {
                        assert!(self.putting.contains(&found), "{id} is nobody's: {found:?}");
                        self.there.insert(*id, found);
                    }
                }
            }
        }
        assert_eq!(ask(client, format!("delete {next}")), "DELETED");
        self.gone.insert(next);
        self.gone.retain(|id| *id + WINDOW > next);
        self.deleting.clear();
        self.putting.clear();
    }
}

#[test]
fn killed_at_a_hundred_points_it_has_lost_nothing_that_was_acknowledged() {
    let _ceiling = ceiling(Duration::from_secs(300));
    let path = journal("killed");
    let (mut rng, mut known, mut largest) = (Rng::new(), Known::default(), 0);
    for round in 0..100 {
        let (server, addr) = with_log(&path);
        let mut client = Client::connect(addr);
        known.check(&mut client);
        let answers = rng.below(200);
        known.load(&mut client, &mut rng, answers);
        drop(server); // SIGKILL, with answers under way.
        let length = fs::metadata(&path).unwrap().len();
        largest = largest.max(length);
        if round % 3 == 0 {
            // Half of a write that the power cut off.
            let torn: Vec<u8> = (0..rng.below(60)).map(|_| rng.below(256) as u8).collect();
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(&torn).unwrap();
        }
    }
    let length = fs::metadata(&path).unwrap().len();
    println!("at the end {} jobs in {length} bytes; at most {largest}", known.there.len());
}

/// Pipelined and never read: the records wait in bounded memory, and so does the client.
#[test]
#[cfg(target_os = "linux")]
fn puts_that_come_faster_than_the_disk_takes_them_wait() {
    let path = journal("fast");
    let (server, addr) = serve(&["--log", path.to_str().unwrap(), "--fsync-ms", "20"]);
    let client = Client::connect(addr);
    let before = server.resident_kib_max();
    let put = [b"put 0 0 60 60000\r\n", &[b'x'; 60_000][..], b"\r\n"].concat();
    let count = 500;
    std::thread::scope(|scope| {
        let mut stream = client.0.get_ref();
        scope.spawn(move || (0..count).for_each(|_| stream.write_all(&put).unwrap()));
        let mut client = Client::over(client.0.get_ref().try_clone().unwrap());
        for id in 1..=count {
            assert_eq!(answer(&mut client), format!("INSERTED {id}"));
        }
    });
    client.0.get_ref().shutdown(Shutdown::Both).unwrap();
    // 30 MB of jobs, and records of some megabytes, twice.
    let grown = (server.resident_kib_max() - before) / 1024;
    assert!(grown < 30 + 24, "{grown} MiB");
}
