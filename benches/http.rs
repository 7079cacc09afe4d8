//! HTTP's parsers: what a head costs, as `wrk` and as a browser sends it, and a chunked body.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use waterwheel::protocols::http::Method;
use waterwheel::protocols::http::parts::{
    Chunked, Found, HeadLimits, Matcher, Piece, Scan, parse_request, parse_response, room,
};

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 64 * 1024, headers_max: 100, target_bytes_max: 8 * 1024 };

const WRK: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &[u8] = b"GET /wiki/Water?a=b HTTP/1.1\r\nHost: example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nDNT: 1\r\n\
    Connection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Priority: u=0, i\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n";

/// As a connection does it: a look whether it is due, and all facts.
fn request(bytes: &[u8]) -> usize {
    let (mut room, mut scan) = (room(), Scan::default());
    assert!(scan.is_due(bytes, LIMITS));
    let head = parse_request(black_box(bytes), LIMITS, &mut room).unwrap().unwrap();
    black_box((head.path, head.body, head.keep_alive));
    head.bytes
}

fn response(bytes: &[u8]) -> usize {
    let mut room = room();
    let head = parse_response(black_box(bytes), LIMITS, &Method::GET, &mut room);
    let head = head.unwrap().unwrap();
    black_box((head.status, head.body, head.keep_alive));
    head.bytes
}

fn decode(coded: &[u8]) -> usize {
    let (mut chunked, mut at, mut bytes) = (Chunked::default(), 0, 0);
    loop {
        let (used, piece) = chunked.step(black_box(&coded[at..])).unwrap();
        at += used;
        match piece {
            Piece::Data(data) => bytes += data.len(),
            Piece::More => panic!("not whole"),
            Piece::End => return bytes,
        }
    }
}

/// So many bytes in chunks of that size.
fn coded(bytes: usize, size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in vec![b'a'; bytes].chunks(size) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

fn http(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("http");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(2));
    group.bench_function("a request of wrk", |bench| bench.iter(|| request(WRK)));
    group.bench_function("a request of a browser", |bench| bench.iter(|| request(BROWSER)));
    group.bench_function("a response", |bench| bench.iter(|| response(RESPONSE)));

    let mut matcher = Matcher::default();
    for pattern in ["/", "/users/{id}", "/users/{id}/files/{rest...}", "/echo", "/static/{rest...}"]
    {
        matcher.add(Method::GET, pattern);
    }
    group.bench_function("a route among five", |bench| {
        bench.iter(|| {
            let found = matcher.find(&Method::GET, black_box("/users/17/files/a/b"));
            assert!(matches!(found, Found::Route(2, _)));
        });
    });

    group.throughput(Throughput::Bytes(64 * 1024));
    for size in [16, 1024, 64 * 1024] {
        let coded = coded(64 * 1024, size);
        group.bench_function(format!("64 KiB in chunks of {size}"), |bench| {
            bench.iter(|| assert_eq!(decode(&coded), 64 * 1024));
        });
    }
    group.finish();
}

criterion_group!(benches, http);
criterion_main!(benches);
