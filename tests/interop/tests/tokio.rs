//! Calls of a shared client as futures under tokio.

#[path = "../../common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, key, server};
use falcotcp_sync::Client;

#[test]
fn a_thousand_calls_are_in_flight_and_the_timer_of_tokio_is_on_time() {
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|message: &[u8]| {
            std::thread::sleep(Duration::from_millis(1));
            message.to_vec()
        })
        .expect("spawning");
    let client = Client::builder(key()).connect_shared(server.local_addr()).expect("connecting");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let calls: Vec<_> = (0..1000u32)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move { (number, client.call(&number.to_be_bytes()).await) })
            })
            .collect();
        // The calls take a second in all. Whoever blocked the thread for one of them would let the timer wait for that.
        let begun = Instant::now();
        let mut ticks = 0;
        while calls.iter().any(|call| !call.is_finished()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            ticks += 1;
            assert!(begun.elapsed() < PATIENCE);
        }
        assert!(ticks >= 10, "{ticks} ticks of 10 ms in {:?}", begun.elapsed());
        for call in calls {
            let (number, answer) = call.await.expect("no panic");
            assert_eq!(answer.expect("an answer"), number.to_be_bytes());
        }
    });
}
