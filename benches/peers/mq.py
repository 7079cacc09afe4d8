#!/usr/bin/env python3
"""mq beside beanstalkd: CPU of the server for each put, and for each reserve and delete.

Wants: beanstalkd (apt-get install beanstalkd); builds the example and `bench-mq`. Takes about five minutes, with
`--quick` (one round) one. MQ_DISK names the folder for the journals, on the disk that is to be measured.

Both servers run in turn, one warm-up and then ROUNDS rounds; the figure is the median of the rounds' ratios. The
peer beside itself says how much of a ratio is noise. CPU is that of all threads, from /proc/PID/task/*/schedstat.
"""
import glob, os, shutil, socket, statistics, subprocess, sys, tempfile, time

ROUNDS = 5
HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 60  # Seconds that one load may take.


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def cpu_ns(pid):
    # What a thread has used that has ended is not among these: neither server ends one.
    return sum(int(open(path).read().split()[0]) for path in glob.glob(f"/proc/{pid}/task/*/schedstat"))


class Server:
    def __init__(self, name, command, durable):
        self.name, self.folder, self.port = name, tempfile.mkdtemp(dir=os.environ.get("MQ_DISK")), free_port()
        self.process = subprocess.Popen(command(self.port, self.folder, durable), stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.01)
        raise SystemExit(f"{name} does not listen")

    def load(self, what, count, connections, depth, size=100):
        """CPU in us for each operation, and operations per second."""
        before = cpu_ns(self.process.pid)
        args = [f"127.0.0.1:{self.port}", what, count, connections, depth, size]
        out = subprocess.run([BENCH, *map(str, args)], check=True, timeout=LIMIT, capture_output=True, text=True)
        done, rate = out.stdout.split()
        return (cpu_ns(self.process.pid) - before) / 1000 / int(done), float(rate)

    def end(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


def ours(port, folder, durable):
    return [MQ, *(["--log", f"{folder}/log"] if durable else []), str(port)]


def peer(port, folder, durable):
    return ["beanstalkd", "-l", "127.0.0.1", "-p", str(port), *(["-b", folder, "-f", "0"] if durable else [])]


def compare(title, durable, loads, pairs, figure, unit):
    """Runs the loads on each of a pair of servers; `figure` is 0 for CPU, 1 for the rate."""
    for one, other in pairs:
        ratios, figures = {}, {}
        for round in range(ROUNDS + 1):
            results = {}
            for at, command in enumerate((one, other) if round % 2 else (other, one)):
                server = Server(command.__name__, command, durable)
                key = at if round % 2 else 1 - at
                results[key] = [server.load(*load)[figure] for load in loads]
                server.end()
            if round > 0:
                for number, load in enumerate(loads):
                    a, b = results[0][number], results[1][number]
                    ratios.setdefault(number, []).append(a / b)
                    figures.setdefault(number, []).append((a, b))
        for number, load in enumerate(loads):
            mine, theirs = (statistics.median(pair[at] for pair in figures[number]) for at in (0, 1))
            ratio = statistics.median(ratios[number])
            spread = f"{min(ratios[number]):.2f}-{max(ratios[number]):.2f}"
            print(f"{title:8} {load[0]:5} {load[2]:3} conns, {load[3]:3} deep: {one.__name__} {mine:.2f}, "
                  f"{other.__name__} {theirs:.2f} {unit}; ratio {ratio:.2f} ({spread})", flush=True)


if not shutil.which("beanstalkd"):
    raise SystemExit("beanstalkd is missing: apt-get install beanstalkd")
subprocess.run(["cargo", "build", "--locked", "--profile", "measure", "--example", "mq"], cwd=HOME, check=True)
subprocess.run(["cargo", "build", "--locked", "--profile", "measure", "-p", "waterwheel-peers", "--example", "bench-mq"],
               cwd=HOME, check=True)
MQ, BENCH = (f"{HOME}/target/measure/examples/{name}" for name in ("mq", "bench-mq"))
quick = "--quick" in sys.argv
ROUNDS = 1 if quick else ROUNDS
memory = [("put", 30_000, 8, 1), ("take", 30_000, 8, 1), ("put", 100_000, 8, 16), ("take", 100_000, 8, 16)]
compare("memory", False, memory, [(ours, peer)] + ([] if quick else [(peer, peer)]), 0, "us/op")
compare("durable", True, [("put", 2_000, 100, 1)], [(ours, peer)], 1, "ops/s")
compare("durable", True, [("put", 2_000, 1, 100)], [(ours, peer)], 1, "ops/s")
