//! The queue alone: who gets which job, and when.

use super::commands::Effect;
use super::protocol::Parser;
use super::queue::{ClientId, JOB_BYTES, Limits, Queue, RESERVED_MAX, TUBES_MAX, WATCHED_MAX};
use super::{moves::MOVED_MAX, store};

const START: u64 = 1_767_225_600_000;
const NO_LIMITS: Limits = Limits { tube_bytes: u64::MAX, bytes: u64::MAX, bury_after: u64::MAX };

fn queue() -> Queue {
    Queue::new(NO_LIMITS, START)
}

/// Does a command, without a journal. Answers the first line; "…" while the client waits.
fn ask(queue: &mut Queue, client: ClientId, command: &str) -> String {
    let (mut out, input) = (Vec::new(), command.replace('|', "\r\n") + "\r\n");
    let (request, used) = Parser::default().next(input.as_bytes());
    assert_eq!(used, input.len(), "{command}");
    match queue.run(client, &request.expect("whole").expect("well formed"), &mut out) {
        Effect::Insert(job) => queue.insert(job),
        Effect::Remove(job) => queue.discharge(&job),
        Effect::Wait => return "…".to_owned(),
        Effect::Send | Effect::Quit => {}
    }
    first_line(&out)
}

fn first_line(out: &[u8]) -> String {
    let text = String::from_utf8(out.to_vec()).unwrap();
    text.split("\r\n").next().unwrap().to_owned()
}

/// Who was woken since, and by which answer.
fn woken(queue: &mut Queue) -> Vec<(ClientId, String)> {
    let mut all = Vec::new();
    while let Some((client, woken)) = queue.woken.pop_front() {
        let mut out = Vec::new();
        queue.answer_woken(woken, &mut out);
        all.push((client, first_line(&out)));
    }
    all
}

/// Moves the time on, and does what is due.
fn pass(queue: &mut Queue, ms: u64) {
    queue.now += ms;
    while queue.expire().is_some_and(|due| due <= queue.now) {}
}

fn stat(queue: &mut Queue, client: ClientId, command: &str, key: &str) -> String {
    let (mut out, line) = (Vec::new(), command.to_owned() + "\r\n");
    let (request, _) = Parser::default().next(line.as_bytes());
    queue.run(client, &request.unwrap().unwrap(), &mut out);
    let text = String::from_utf8(out).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
}

/// All that must hold between any two commands.
fn check(queue: &Queue) {
    let mut bytes = 0;
    for (name, tube) in &queue.tubes {
        let of: Vec<_> = queue.jobs.values().filter(|job| job.tube == *name).collect();
        let cost: u64 = of.iter().map(|job| JOB_BYTES + job.body.len() as u64).sum();
        assert_eq!(tube.bytes, cost, "{name}");
        let in_sets: usize = tube.sets.iter().map(|set| set.len()).sum();
        assert_eq!(in_sets + tube.reserved as usize, of.len(), "{name}");
        assert_eq!(tube.urgent, tube.sets[0].range(..(1024, 0)).count() as u64, "{name}");
        let is_open = tube.paused_until <= queue.now;
        assert!(
            !is_open || tube.waiting.is_empty() || tube.sets[0].is_empty(),
            "{name} keeps jobs"
        );
        bytes += cost;
    }
    assert_eq!(queue.bytes, bytes);
    let reserved: usize = queue.clients.values().map(|client| client.reserved.len()).sum();
    assert_eq!(reserved as u64, queue.tubes.values().map(|tube| tube.reserved).sum::<u64>());
}

#[test]
fn the_lowest_priority_goes_first_and_of_these_the_oldest_from_any_tube_that_is_watched() {
    let (mut queue, [a, b]) = (queue(), [1, 2]);
    assert_eq!([queue.join(), queue.join()], [a, b]);
    for (tube, pri) in [("x", 5), ("y", 4), ("x", 4), ("z", 0)] {
        ask(&mut queue, a, &format!("use {tube}"));
        ask(&mut queue, a, &format!("put {pri} 0 60 1|j"));
    }
    assert_eq!(ask(&mut queue, b, "watch x"), "WATCHING 2");
    assert_eq!(ask(&mut queue, b, "watch y"), "WATCHING 3");
    assert_eq!(ask(&mut queue, b, "watch y"), "WATCHING 3");
    for id in [2, 3, 1] {
        assert_eq!(ask(&mut queue, b, "reserve"), format!("RESERVED {id} 1"));
    }
    assert_eq!(ask(&mut queue, b, "reserve-with-timeout 0"), "TIMED_OUT");
    check(&queue);
}

#[test]
fn clients_that_wait_are_served_in_order_of_arrival_and_one_that_has_left_is_not() {
    let mut queue = queue();
    let [put, first, second, third] = [(); 4].map(|()| queue.join());
    for client in [first, second, third] {
        assert_eq!(ask(&mut queue, client, "reserve"), "…");
    }
    queue.leave(second);
    for id in 1..=3 {
        assert_eq!(ask(&mut queue, put, "put 0 0 60 1|j"), format!("INSERTED {id}"));
    }
    let expected = [(first, "RESERVED 1 1".to_owned()), (third, "RESERVED 2 1".to_owned())];
    assert_eq!(woken(&mut queue), expected);
    // Whose client leaves is ready again.
    queue.leave(first);
    assert_eq!(ask(&mut queue, put, "reserve"), "RESERVED 1 1");
    check(&queue);
}

#[test]
fn delays_and_times_to_run_are_kept_and_never_cut_short() {
    let mut queue = queue();
    let client = queue.join();
    ask(&mut queue, client, "put 0 2 3 1|j");
    assert_eq!(ask(&mut queue, client, "peek-ready"), "NOT_FOUND");
    assert_eq!(ask(&mut queue, client, "peek-delayed"), "FOUND 1 1");
    pass(&mut queue, 2000);
    assert_eq!(ask(&mut queue, client, "peek-ready"), "NOT_FOUND");
    pass(&mut queue, 1);
    assert_eq!(ask(&mut queue, client, "reserve"), "RESERVED 1 1");
    pass(&mut queue, 1500);
    assert_eq!(ask(&mut queue, client, "touch 1"), "TOUCHED");
    pass(&mut queue, 3000);
    assert_eq!(stat(&mut queue, client, "stats-job 1", "state"), "reserved");
    pass(&mut queue, 1);
    assert_eq!(stat(&mut queue, client, "stats-job 1", "state"), "ready");
    assert_eq!(stat(&mut queue, client, "stats-job 1", "timeouts"), "1");
    assert_eq!(ask(&mut queue, client, "touch 1"), "NOT_FOUND");
    check(&queue);
}

#[test]
fn who_waits_learns_in_time_that_its_own_job_is_nearly_up() {
    let mut queue = queue();
    let [put, worker] = [queue.join(), queue.join()];
    ask(&mut queue, put, "put 0 0 3 1|j");
    ask(&mut queue, worker, "reserve");
    assert_eq!(ask(&mut queue, worker, "reserve"), "…");
    pass(&mut queue, 2000);
    assert_eq!(woken(&mut queue), []);
    pass(&mut queue, 1);
    assert_eq!(woken(&mut queue), [(worker, "DEADLINE_SOON".to_owned())]);
    assert_eq!(ask(&mut queue, worker, "reserve"), "DEADLINE_SOON");
    // But a job that is ready is given.
    ask(&mut queue, put, "put 0 0 60 1|j");
    assert_eq!(ask(&mut queue, worker, "reserve"), "RESERVED 2 1");
    assert_eq!(ask(&mut queue, put, "reserve-with-timeout 1"), "…");
    pass(&mut queue, 1001);
    assert_eq!(
        woken(&mut queue),
        [(put, "RESERVED 1 1".to_owned())],
        "its time was up just before"
    );
    assert_eq!(ask(&mut queue, worker, "reserve-with-timeout 1"), "…");
    pass(&mut queue, 1001);
    assert_eq!(woken(&mut queue), [(worker, "TIMED_OUT".to_owned())]);
    check(&queue);
}

#[test]
fn a_job_that_fails_too_often_is_buried_and_a_kick_gives_it_as_many_chances_again() {
    let mut queue = Queue::new(Limits { bury_after: 3, ..NO_LIMITS }, START);
    let client = queue.join();
    ask(&mut queue, client, "put 7 0 1 1|j");
    for _ in 0..2 {
        ask(&mut queue, client, "reserve");
        assert_eq!(ask(&mut queue, client, "release 1 7 0"), "RELEASED");
        let lost = queue.join();
        assert_eq!(ask(&mut queue, lost, "reserve-job 1"), "RESERVED 1 1");
        queue.leave(lost);
        assert_eq!(ask(&mut queue, client, "reserve"), "RESERVED 1 1");
        pass(&mut queue, 1001);
        assert_eq!(stat(&mut queue, client, "stats-job 1", "state"), "buried");
        assert_eq!(ask(&mut queue, client, "peek-buried"), "FOUND 1 1");
        assert_eq!(ask(&mut queue, client, "kick 5"), "KICKED 1");
    }
    ask(&mut queue, client, "reserve");
    ask(&mut queue, client, "release 1 7 0");
    ask(&mut queue, client, "reserve");
    ask(&mut queue, client, "release 1 7 0");
    ask(&mut queue, client, "reserve");
    assert_eq!(ask(&mut queue, client, "release 1 7 60"), "BURIED");
    assert_eq!(stat(&mut queue, client, "stats", "dead-letters"), "3");
    assert_eq!(stat(&mut queue, client, "stats-tube default", "dead-letters"), "3");
    assert_eq!(stat(&mut queue, client, "stats-job 1", "buries"), "3");
    check(&queue);
}

#[test]
fn kicks_move_buried_jobs_first_then_delayed_ones_and_never_too_many() {
    let mut queue = queue();
    let client = queue.join();
    for _ in 0..3 {
        ask(&mut queue, client, "put 0 0 60 1|j");
        ask(&mut queue, client, "put 0 60 60 1|j");
    }
    for id in [5, 1] {
        ask(&mut queue, client, &format!("reserve-job {id}"));
        assert_eq!(ask(&mut queue, client, &format!("bury {id} 9")), "BURIED");
    }
    assert_eq!(ask(&mut queue, client, "peek-buried"), "FOUND 5 1", "buried first");
    assert_eq!(ask(&mut queue, client, "kick 1"), "KICKED 1");
    assert_eq!(ask(&mut queue, client, "kick 100"), "KICKED 1");
    assert_eq!(ask(&mut queue, client, "kick 2"), "KICKED 2");
    assert_eq!(ask(&mut queue, client, "kick-job 6"), "KICKED");
    assert_eq!(ask(&mut queue, client, "kick-job 6"), "NOT_FOUND");
    for _ in 0..MOVED_MAX + 5 {
        ask(&mut queue, client, "put 0 60 60 1|j");
    }
    let most = u64::MAX;
    assert_eq!(ask(&mut queue, client, &format!("kick {most}")), format!("KICKED {MOVED_MAX}"));
    assert_eq!(ask(&mut queue, client, &format!("kick {most}")), "KICKED 5");
    check(&queue);
}

#[test]
fn a_paused_tube_keeps_its_jobs_until_then_also_if_it_is_paused_again() {
    let mut queue = queue();
    let client = queue.join();
    ask(&mut queue, client, "put 0 0 60 1|j");
    assert_eq!(ask(&mut queue, client, "pause-tube default 10"), "PAUSED");
    assert_eq!(ask(&mut queue, client, "pause-tube none 10"), "NOT_FOUND");
    for _ in 0..100 {
        ask(&mut queue, client, "pause-tube default 5");
    }
    assert_eq!(ask(&mut queue, client, "reserve-with-timeout 0"), "TIMED_OUT");
    assert_eq!(ask(&mut queue, client, "reserve"), "…");
    pass(&mut queue, 5000);
    assert_eq!(woken(&mut queue), []);
    pass(&mut queue, 1);
    assert_eq!(woken(&mut queue), [(client, "RESERVED 1 1".to_owned())]);
    check(&queue);
}

#[test]
fn only_who_has_reserved_a_job_may_delete_release_or_bury_it() {
    let mut queue = queue();
    let [one, other] = [queue.join(), queue.join()];
    ask(&mut queue, one, "put 0 0 60 1|j");
    assert_eq!(ask(&mut queue, one, "release 1 0 0"), "NOT_FOUND", "it is ready");
    ask(&mut queue, one, "reserve");
    for command in
        ["delete 1", "release 1 0 0", "bury 1 0", "touch 1", "reserve-job 1", "kick-job 1"]
    {
        assert_eq!(ask(&mut queue, other, command), "NOT_FOUND", "{command}");
    }
    assert_eq!(ask(&mut queue, one, "delete 1"), "DELETED");
    for (put, state) in [("put 0 0 60 1|j", "ready"), ("put 0 60 60 1|j", "delayed")] {
        let id = ask(&mut queue, one, put).split_off("INSERTED ".len());
        assert_eq!(stat(&mut queue, one, &format!("stats-job {id}"), "state"), state);
        assert_eq!(ask(&mut queue, other, &format!("delete {id}")), "DELETED");
    }
    check(&queue);
}

#[test]
fn tubes_go_with_their_last_job_and_client_and_all_bounds_are_kept() {
    let mut queue = Queue::new(Limits { tube_bytes: 1000, bytes: 1500, ..NO_LIMITS }, START);
    let client = queue.join();
    for at in 0..100_000 {
        assert_eq!(ask(&mut queue, client, &format!("use t{at}")), format!("USING t{at}"));
    }
    assert_eq!(queue.tubes.len(), 2, "its own, and the default");
    let put = format!("put 0 0 60 100|{}", "x".repeat(100));
    assert_eq!(ask(&mut queue, client, &put), "INSERTED 1");
    let put = format!("put 0 0 60 500|{}", "x".repeat(500));
    assert_eq!(ask(&mut queue, client, &put), "OUT_OF_MEMORY", "the tube is full");
    ask(&mut queue, client, "use other");
    assert_eq!(ask(&mut queue, client, &put), "INSERTED 2");
    ask(&mut queue, client, "use third");
    assert_eq!(ask(&mut queue, client, "put 0 0 60 1|j"), "OUT_OF_MEMORY", "all are full");
    assert_eq!(ask(&mut queue, client, "delete 1"), "DELETED");
    assert_eq!(ask(&mut queue, client, "put 0 0 60 1|j"), "INSERTED 3");
    check(&queue);

    for at in 1..WATCHED_MAX {
        assert_eq!(
            ask(&mut queue, client, &format!("watch w{at}")),
            format!("WATCHING {}", at + 1)
        );
    }
    assert_eq!(ask(&mut queue, client, "watch more"), "OUT_OF_MEMORY");
    let mut clients = Vec::new();
    while queue.tubes.len() < TUBES_MAX {
        clients.push(queue.join());
        let (last, tube) = (*clients.last().unwrap(), queue.tubes.len());
        for at in 0..(TUBES_MAX - tube).min(WATCHED_MAX - 1) {
            ask(&mut queue, last, &format!("watch x{tube}-{at}"));
        }
    }
    assert_eq!(ask(&mut queue, client, "use one-more"), "OUT_OF_MEMORY");
    assert_eq!(ask(&mut queue, client, "use w1"), "USING w1");
    for client in clients {
        queue.leave(client);
    }
    assert_eq!(ask(&mut queue, client, "use one-more"), "USING one-more");
    check(&queue);
}

#[test]
fn a_client_has_no_more_jobs_than_may_move_at_once() {
    let mut queue = queue();
    let client = queue.join();
    for _ in 0..=RESERVED_MAX {
        ask(&mut queue, client, "put 0 0 60 1|j");
    }
    for _ in 0..RESERVED_MAX {
        assert!(ask(&mut queue, client, "reserve").starts_with("RESERVED"));
    }
    assert_eq!(ask(&mut queue, client, "reserve"), "OUT_OF_MEMORY");
    let last = RESERVED_MAX + 1;
    assert_eq!(ask(&mut queue, client, &format!("reserve-job {last}")), "OUT_OF_MEMORY");
    check(&queue);
}

#[test]
fn the_last_watched_tube_stays() {
    let mut queue = queue();
    let client = queue.join();
    assert_eq!(ask(&mut queue, client, "ignore default"), "NOT_IGNORED");
    assert_eq!(ask(&mut queue, client, "ignore none"), "WATCHING 1");
    assert_eq!(ask(&mut queue, client, "watch a"), "WATCHING 2");
    assert_eq!(ask(&mut queue, client, "ignore default"), "WATCHING 1");
    assert_eq!(ask(&mut queue, client, "ignore a"), "NOT_IGNORED");
}

#[test]
fn records_make_the_same_queue_also_if_they_are_replayed_twice() {
    let mut queue = queue();
    let client = queue.join();
    ask(&mut queue, client, "use mails");
    for put in
        ["put 3 0 60 2|\n\n", "put 4 9 60 0|", "put 5 0 60 1|j", "put 6 0 60 1|j", "put 7 0 60 1|j"]
    {
        ask(&mut queue, client, put);
    }
    ask(&mut queue, client, "reserve-job 3");
    ask(&mut queue, client, "bury 3 8");
    ask(&mut queue, client, "reserve-job 4");
    let mut records: Vec<Vec<u8>> = queue.jobs.values().map(|job| store::job(job)).collect();
    records.extend([store::gone(&queue.jobs[&5]), store::set(&queue.jobs[&3]), store::next(9)]);
    records.extend(records.clone().drain(5..));
    let mut again = Queue::new(NO_LIMITS, START + 5000);
    for record in &records {
        store::replay(&mut again, record).unwrap();
    }
    assert_eq!(again.next_job, 9);
    assert_eq!(again.jobs.len(), 4);
    let text = |queue: &Queue, id| String::from_utf8(store::job(&queue.jobs[&id])).unwrap();
    for id in 1..=4 {
        assert_eq!(text(&again, id), text(&queue, id));
    }
    let states = [1, 2, 3, 4].map(|id| format!("{:?}", again.jobs[&id].state));
    assert_eq!(states, ["Ready", "Delayed", "Buried", "Ready"]);
    pass(&mut again, 4001);
    assert_eq!(format!("{:?}", again.jobs[&2].state), "Ready", "9 s after it was put");
    check(&again);
    for bad in [
        &b""[..],
        b"job",
        b"job 1 2",
        b"jobs 1",
        b"set 1 x",
        b"\xff 1",
        b"job 1 0 0 1 0 0 0 0 0 0 0 0 0 t",
    ] {
        let known = store::replay(&mut again, bad).is_ok();
        assert!(!known || bad.starts_with(b"set"), "{:?}", bad.escape_ascii().to_string());
    }
}
