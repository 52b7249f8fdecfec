//! The protocol core alone: sealing, opening, decoding, and one exchange between both sessions, in memory.
//!
//! `cargo bench --manifest-path benches/core/Cargo.toml`, and with `--features aws-lc-rs` for the other AEAD.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use falcotcp_sync::Key;
use falcotcp_sync::protocol::{
    Cipher, ClientEvent, ClientSession, NonceSequence, ResponseWriter, SEAL_OVERHEAD, ServerEvent,
    ServerSession, SessionSettings, decode_request, message_header,
};

const SIZES: [usize; 4] = [64, 1 << 10, 16 << 10, 1 << 20];

fn cipher() -> Arc<Cipher> {
    Arc::new(Cipher::new(&Key::from_bytes([7; 32])))
}

fn nonces() -> NonceSequence {
    NonceSequence::new().expect("random bytes")
}

fn sealing_and_opening(criterion: &mut Criterion) {
    let cipher = cipher();
    let mut nonces = nonces();
    let mut seal = criterion.benchmark_group("seal");
    for size in SIZES {
        let mut sealed = vec![7; size + SEAL_OVERHEAD];
        seal.throughput(Throughput::Bytes(size as u64));
        seal.bench_with_input(BenchmarkId::from_parameter(size), &size, |bencher, _| {
            bencher.iter(|| cipher.seal(&mut nonces, black_box(&mut sealed)));
        });
    }
    seal.finish();
    let mut open = criterion.benchmark_group("open");
    for size in SIZES {
        let mut sealed = vec![7; size + SEAL_OVERHEAD];
        cipher.seal(&mut nonces, &mut sealed).expect("sealing");
        let mut buffer = sealed.clone();
        open.throughput(Throughput::Bytes(size as u64));
        // Opening works in place, so each run needs a fresh copy: the copy is in the figure.
        open.bench_with_input(BenchmarkId::from_parameter(size), &size, |bencher, _| {
            bencher.iter(|| {
                buffer.copy_from_slice(&sealed);
                cipher.open(black_box(&mut buffer)).map(|text| text.len())
            });
        });
    }
    open.finish();
}

fn decoding(criterion: &mut Criterion) {
    let header = message_header(64 + SEAL_OVERHEAD);
    criterion.bench_function("decode", |bencher| bencher.iter(|| decode_request(black_box(&header))));
}

fn exchange(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut client = ClientSession::new(cipher(), nonces(), usize::MAX);
    let mut server = ServerSession::new(Arc::new(SessionSettings::default()), Arc::new(cipher().into()), now);
    let (mut to_server, mut to_client, mut nonces) = (Vec::new(), Vec::new(), nonces());
    client.establish(&mut getrandom::SysRng, &mut to_server).expect("random bytes");
    assert_eq!(server.receive(&mut to_server, &mut to_client, now).1, ServerEvent::Established);
    assert_eq!(client.receive(&mut to_client, now), Ok((1, ClientEvent::Established)));

    let mut group = criterion.benchmark_group("exchange");
    for size in SIZES {
        let message = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::from_parameter(size), &size, |bencher, _| {
            bencher.iter(|| {
                to_server.clear();
                to_client.clear();
                client.send(&message, &mut to_server).expect("sealing");
                let (_, event) = server.receive(&mut to_server, &mut to_client, now);
                let ServerEvent::Message(text) = event else { panic!("{event:?}") };
                let mut response = ResponseWriter::begin(&mut to_client);
                response.extend_from_slice(text);
                server.seal(response, &mut nonces);
                server.output_sent(now);
                let (_, event) = client.receive(&mut to_client, now).expect("a response");
                let ClientEvent::Response(text) = event else { panic!("{event:?}") };
                text.len()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = core;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = sealing_and_opening, decoding, exchange
}
criterion_main!(core);
