#!/usr/bin/env python3
"""logs beside rsyslogd: CPU of the server for each line over TCP into a file; and lines under kill -9.

Wants: rsyslogd 8 (apt-get install rsyslog), the one in /usr/sbin or on the PATH; builds the example. Takes about
three minutes; with `--quick` (one round, fewer lines) half a minute. `--kill` is the other run: LINES lines (10^6)
from a sender through a forwarder to a collector, each of which is killed twenty times; none may be lost or doubled.

Both servers run in turn, one warm-up and then ROUNDS rounds; the figure is the median of the rounds' ratios. The
peer beside itself says how much of a ratio is noise. CPU is that of all threads, from /proc/PID/task/*/schedstat. The
file is on the disk at the end for ours; rsyslogd leaves that to the kernel unless it is asked (the third row).
"""
import glob, os, random, shutil, socket, statistics, subprocess, sys, tempfile, threading, time

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUICK = "--quick" in sys.argv
ROUNDS, LINES = (1, 48_000) if QUICK else (5, 300_000)
RSYSLOGD = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
LOGS = f"{HOME}/target/measure/examples/logs"
LIMIT = 120  # Seconds that one load may take.


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def cpu_ns(pid):
    # Threads that have ended are not among these; neither server ends one under load.
    return sum(int(open(path).read().split()[0]) for path in glob.glob(f"/proc/{pid}/task/*/schedstat"))


def ours(folder, port):
    return [LOGS, "--output", f"{folder}/all", str(port)]


def peer(folder, port, sync=""):
    open(f"{folder}/conf", "w").write(
        f'global(workDirectory="{folder}")\nmodule(load="imtcp")\ninput(type="imtcp" port="{port}" address="127.0.0.1")\n'
        f'template(name="T" type="string" string="%rawmsg%\\n")\n'
        f'action(type="omfile" file="{folder}/all" template="T" asyncWriting="off" {sync})\n')
    return [RSYSLOGD, "-n", "-f", f"{folder}/conf", "-i", f"{folder}/pid"]


def peer_sync(folder, port):
    return peer(folder, port, 'sync="on" flushOnTXEnd="on"')


def wait(what, limit=LIMIT):
    begun = time.monotonic()
    while not what():
        if time.monotonic() - begun > limit:
            raise SystemExit("it takes too long")
        time.sleep(0.01)


def connect(port):
    try:
        return socket.create_connection(("127.0.0.1", port))
    except OSError:
        return None


def load(command, lines):
    """CPU in us for each line, over four connections."""
    folder, port = tempfile.mkdtemp(dir=os.environ.get("LOGS_DISK")), free_port()
    process = subprocess.Popen(command(folder, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(lambda: connect(port) is not None)
    text = b"".join(b"<%d>1 2026-10-11T22:14:15.003Z host app%d %d - - request %d took %d ms, and the answer was 200 for "
                    b"GET /some/path/of/a/page\n" % (8 + n % 8, n % 7, n % 900, n, n % 100) for n in range(1000))
    size = len(text) * lines // 1000
    before = cpu_ns(process.pid)

    def send():
        with socket.create_connection(("127.0.0.1", port)) as conn:
            for _ in range(lines // 4000):
                conn.sendall(text)

    threads = [threading.Thread(target=send) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    wait(lambda: os.path.exists(f"{folder}/all") and os.path.getsize(f"{folder}/all") >= size)
    used = cpu_ns(process.pid) - before
    process.terminate()
    process.wait()
    found = os.path.getsize(f"{folder}/all")
    assert found == size, (command.__name__, found, size)
    shutil.rmtree(folder)
    return used / 1000 / lines


def compare(one, other):
    pairs = []
    for round in range(ROUNDS + 1):
        order = (one, other) if round % 2 else (other, one)
        got = [load(command, LINES) for command in order]
        pairs.append(got if round % 2 else got[::-1])
    pairs = pairs[1:]
    mine, theirs = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
    ratios = [a / b for a, b in pairs]
    print(f"{one.__name__} {mine:.2f}, {other.__name__} {theirs:.2f} us/line; ratio {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f}-{max(ratios):.2f})", flush=True)


def kill(lines):
    """A sender with ids, a forwarder with a spool, a collector: both killed twenty times."""
    folder, ports = tempfile.mkdtemp(dir=os.environ.get("LOGS_DISK")), [free_port(), free_port()]
    commands = [[LOGS, "--output", f"{folder}/all", str(ports[0])],
                [LOGS, "--forward", f"127.0.0.1:{ports[0]}", "--spool", f"{folder}/spool", str(ports[1])]]
    start = lambda which: subprocess.Popen(commands[which], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    both, acknowledged, dice = [start(0), start(1)], [0], random.Random(int(os.environ.get("SEED", "1")))

    def send():
        while acknowledged[0] < lines:
            conn = connect(ports[1])
            if conn is None:
                continue
            try:
                answers = conn.makefile("rb")
                for first in range(acknowledged[0], lines, 500):
                    ids = range(first, min(first + 500, lines))
                    conn.sendall(b"".join(b'<13>1 - sender - - - [ww@32473 id="%d"] line %d end\n' % (n, n) for n in ids))
                    for n in ids:
                        if answers.readline() != b"ack %d\n" % n:
                            raise OSError
                        acknowledged[0] = n + 1
            except OSError:
                pass

    sender = threading.Thread(target=send)
    sender.start()
    begun = time.monotonic()
    for number in range(40):
        at = number * lines // 40 + dice.randrange(lines // 40)
        wait(lambda: acknowledged[0] >= at, 1200)
        both[number % 2].kill()
        both[number % 2].wait()
        both[number % 2] = start(number % 2)
    sender.join()
    count = lambda: sum(chunk.count(b"\n") for chunk in iter(lambda: all.read(1 << 20), b""))
    all, total = open(f"{folder}/all", "rb"), [0]

    def has_all():
        total[0] += count()
        return total[0] >= lines

    wait(has_all, 1200)
    [process.terminate() for process in both]
    [process.wait() for process in both]
    ids = [int(line.rsplit(b" ", 2)[1]) for line in open(f"{folder}/all", "rb")]
    print(f"{lines} lines, both killed 20 times, {time.monotonic() - begun:.0f} s: {lines - len(set(ids))} lost, "
          f"{len(ids) - len(set(ids))} doubled")
    shutil.rmtree(folder)


subprocess.run(["cargo", "build", "--locked", "--profile", "measure", "--features", "tls", "--example", "logs"], cwd=HOME,
               check=True)
if "--kill" in sys.argv:
    kill(100_000 if QUICK else 1_000_000)
elif not os.access(RSYSLOGD, os.X_OK):
    raise SystemExit("rsyslogd is missing: apt-get install rsyslog")
else:
    compare(ours, peer)
    compare(ours, peer_sync)
    if not QUICK:
        compare(peer, peer)
