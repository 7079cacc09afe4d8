#!/usr/bin/env python3
"""scheduler beside cron: CPU for each minute in which nothing is due; a turn with 10^5 entries; a dead worker's runs.

Wants: cron, faketime and redis-server (apt-get install cron faketime redis-server), and root for the first part: cron gets
a folder of crontabs by a mount of its own. CRON names another cron. Builds the example. Takes about four minutes, with
`--quick` (one round) two.

1. Both have 10,000 entries, none of which is due, and a clock that is sixty times as fast. They run in turn, one warm-up
   and then ROUNDS rounds; the figure is the median of the rounds' ratios. (cron refuses a file of 100,000 lines.)
2. A client asks again and again for a page, of a scheduler with one entry and of one with 10^5. A turn that takes long is
   an answer that comes late; what both have in common is the machine's.
3. One of two workers is killed while it has a run; the other begins it again, no later than a lease after that.

That cron and we find the same minutes of a year is a test: tests/examples/scheduler_minutes.rs.
"""
import glob, os, shutil, socket, statistics, subprocess, sys, tempfile, time

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUICK = "--quick" in sys.argv
ROUNDS = 1 if QUICK else 5
CRON = os.environ.get("CRON") or shutil.which("cron") or "/usr/sbin/cron"
SPOOL = "/var/spool/cron/crontabs"
SCHEDULER = f"{HOME}/target/measure/examples/scheduler"
SPEED, MINUTES = 60, 10
LEASE_S = 2
LIMIT_S = 60  # That any of this may take.


def cpu_ns(pid):
    return sum(int(open(path).read().split()[0]) for path in glob.glob(f"/proc/{pid}/task/*/schedstat"))


def wait(what):
    begun = time.monotonic()
    while not (found := what()):
        if time.monotonic() - begun > LIMIT_S:
            raise SystemExit("it takes too long")
        time.sleep(0.005)
    return found


def tab(folder, name, lines):
    path = f"{folder}/{name}"
    open(path, "w").write("".join(f"{n % 60} {n % 24} 31 12 * true\n" for n in range(lines)))
    os.chmod(path, 0o600)
    return path


def start(path, *options, env=None):
    """A scheduler, and the port of its pages."""
    process = subprocess.Popen([SCHEDULER, path, "--http", "0", *options], stdout=subprocess.PIPE, env=env, text=True,
                               cwd=os.path.dirname(path))
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


def end(process):
    process.kill()
    process.wait()


def idle(folder, is_ours):
    """CPU in us for a minute in which nothing is due."""
    library = subprocess.run(["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True).stdout.strip()
    env = os.environ | {"LD_PRELOAD": library, "FAKETIME": f"+0 x{SPEED}"}
    path = tab(folder, "root", 10_000)
    if is_ours:
        process, _ = start(path, env=env)
    else:
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", f'mount --bind {folder} {SPOOL} && exec env '
                                    f'LD_PRELOAD="$1" FAKETIME="$2" {CRON} -f', "sh", library, env["FAKETIME"]])
    time.sleep(2 + 60 / SPEED)  # It reads its table.
    before = cpu_ns(process.pid)
    time.sleep(MINUTES * 60 / SPEED)
    used = cpu_ns(process.pid) - before
    end(process)
    return used / 1000 / MINUTES


def beside_cron(folder):
    if os.geteuid() != 0 or not os.access(CRON, os.X_OK) or not shutil.which("faketime"):
        return print("cron: skipped, it wants root, cron and faketime", flush=True)
    os.makedirs(SPOOL, exist_ok=True)
    pairs = []
    for round in range(ROUNDS + 1):
        order = (True, False) if round % 2 else (False, True)
        got = {is_ours: idle(folder, is_ours) for is_ours in order}
        pairs.append((got[True], got[False]))
    pairs = pairs[1:]
    mine, theirs = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
    ratios = [a / b for a, b in pairs]
    print(f"10,000 entries, nothing due: ours {mine:.0f}, cron {theirs:.0f} us CPU/minute; "
          f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f})", flush=True)


def answers(folder, entries):
    """Sorted times in ms in which a page was there: the answer to a run that is not known."""
    begun = time.monotonic()
    process, port = start(tab(folder, "answers", entries))
    conn = socket.create_connection(("127.0.0.1", port))
    lines, times = conn.makefile("rb"), []

    def ask():
        before = time.perf_counter()
        conn.sendall(b"GET /runs/none@1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        while not (line := lines.readline()).startswith(b"no such run"):
            assert line
        return 1000 * (time.perf_counter() - before)

    ask()
    loaded = time.monotonic() - begun
    while time.monotonic() < begun + loaded + 62:  # A whole minute, and so a look at the clock of each entry.
        times.append(ask())
        time.sleep(0.0005)
    memory = next(line for line in open(f"/proc/{process.pid}/status") if line.startswith("VmRSS"))
    end(process)
    print(f"{entries} entries: there after {loaded:.1f} s with {int(memory.split()[1]) // 1024} MiB; "
          + ", ".join(f"p{100 * at:g} {sorted(times)[int(at * len(times))]:.2f}" for at in (0.5, 0.99, 0.999)) + " ms an answer",
          flush=True)


def recovery(folder):
    if not shutil.which("redis-server"):
        return print("recovery: skipped, it wants redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    redis = subprocess.Popen(["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder],
                             stdout=subprocess.DEVNULL)
    path, began = f"{folder}/shared", f"{folder}/began"
    open(path, "w").write("#: name=it overlap=allow idempotent\n@yearly echo $RUN $ATTEMPT >>began; sleep 4\n")
    started = [0]

    def worker():
        started[0] += 1
        options = ["--redis", port, "--name", f"w{started[0]}", "--lease", str(LEASE_S)]
        return start(path, *options)

    def post(to):
        with socket.create_connection(("127.0.0.1", to)) as conn:
            conn.sendall(b"POST /tasks/it/run HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            answer = conn.makefile("rb").read().decode()
        return answer.split("/runs/")[1].split("\r")[0] if answer.startswith("HTTP/1.1 202") else None

    def has_begun(run, attempt):
        return os.path.exists(began) and f"{run} {attempt}\n" in open(began).read()

    took, one = [], worker()
    for _ in range(3 if QUICK else 10):
        run = wait(lambda: post(one[1]))
        wait(lambda: has_begun(run, 1))
        other = worker()
        time.sleep(LEASE_S)  # Now it may take over what others have left.
        killed = time.monotonic()
        end(one[0])
        wait(lambda: has_begun(run, 2))
        took.append(time.monotonic() - killed)
        one = other
    end(one[0])
    end(redis)
    print(f"lease {LEASE_S} s: a dead worker's run began again after {statistics.median(took):.2f} s, {max(took):.2f} s at most")


subprocess.run(["cargo", "build", "--locked", "--profile", "measure", "--features", "cron,http,process", "--example",
                "scheduler"], cwd=HOME, check=True)
here = tempfile.mkdtemp()
beside_cron(here)
answers(here, 1)
answers(here, 100_000)
recovery(here)
shutil.rmtree(here)
