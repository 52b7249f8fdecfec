//! The store as its clients see it.

use std::fmt;

use falcotcp_sync::{Client, Error, ForwardSecrecy, Key};

use crate::encoding::{Answer, MAX_MESSAGE, Operation, Problem};

/// A client of the store.
pub(crate) struct StoreClient {
    client: Client,
}

/// Why there is no answer that could be used.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The server answered that it did not do it.
    Problem(Problem),
    /// What came back is no answer of this store.
    NotTheAnswer,
    /// Nothing came back.
    Transport(Error),
}

impl StoreClient {
    /// Connects to the store at `addr`, and again whenever that is needed.
    pub(crate) fn connect(addr: &str, key: &Key) -> Result<Self, AskError> {
        let client = Client::builder(key)
            .max_message_size(MAX_MESSAGE)
            .forward_secrecy(ForwardSecrecy::Require)
            .reconnect(true)
            .connect(addr)?;
        Ok(Self { client })
    }

    /// Asks the store for `operation` and returns what it answers, other than a problem.
    ///
    /// What the server has not taken up, as when it stops, is sent again without further ado. What it may have done is sent
    /// again only if that changes nothing.
    pub(crate) fn ask(&mut self, operation: &Operation<'_>) -> Result<Answer, AskError> {
        let mut message = Vec::new();
        operation.encode(&mut message);
        let response = if operation.only_reads() {
            self.client.request(&message).idempotent().send()
        } else {
            self.client.message(&message)
        }?;
        match Answer::decode(&response) {
            Ok(Answer::Problem(problem)) => Err(AskError::Problem(problem)),
            Ok(answer) => Ok(answer),
            Err(_) => Err(AskError::NotTheAnswer),
        }
    }
}

impl AskError {
    /// Whether the store may have done what it was asked: only the user can know whether doing it twice matters.
    pub(crate) fn may_be_done(&self) -> bool {
        match self {
            Self::Problem(_) => false,
            Self::NotTheAnswer => true,
            Self::Transport(error) => error.was_sent(),
        }
    }
}

impl From<Error> for AskError {
    fn from(error: Error) -> Self {
        Self::Transport(error)
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => problem.fmt(f),
            Self::NotTheAnswer => f.write_str("what came back is no answer of this store"),
            Self::Transport(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use falcotcp_sync::{Server, ServerHandle};

    use super::*;
    use crate::serve;
    use crate::store::Store;

    const ADD: Operation<'_> = Operation::Add { key: "n", amount: 1 };

    fn store(key: &Key) -> (ServerHandle, Arc<Store>) {
        let store = Arc::new(Store::default());
        let server = serve::start(key.clone(), "127.0.0.1:0", Arc::clone(&store)).unwrap();
        (server, store)
    }

    #[test]
    fn both_ends_take_no_classic_session() {
        let key = Key::generate().unwrap();
        let (server, _) = store(&key);
        let classic = Client::builder(&key).forward_secrecy(ForwardSecrecy::Off).connect(server.local_addr());
        assert!(matches!(classic, Err(Error::Refused { .. })), "{classic:?}");

        let classic = Server::builder(key.clone()).forward_secrecy(ForwardSecrecy::Off);
        let classic = classic.bind("127.0.0.1:0").unwrap().spawn(|_: &[u8]| vec![0]).unwrap();
        let client = StoreClient::connect(&classic.local_addr().to_string(), &key).map(|_| ());
        assert!(matches!(client, Err(AskError::Transport(Error::NotForwardSecret { .. }))), "{client:?}");
    }

    #[test]
    fn a_client_goes_on_with_the_server_that_follows() {
        let key = Key::generate().unwrap();
        let (server, store) = store(&key);
        let addr = server.local_addr().to_string();
        let mut client = StoreClient::connect(&addr, &key).unwrap();
        assert_eq!(client.ask(&ADD).unwrap(), Answer::Number(1));
        server.shutdown(Duration::from_secs(5)).unwrap();
        let _server = serve::start(key, &addr, store).unwrap();
        assert_eq!(client.ask(&ADD).unwrap(), Answer::Number(2));
    }

    /// Somebody on the path records all that a client sends, cuts off the answer to its second request, and sends the
    /// recording again.
    #[test]
    fn what_is_cut_off_is_not_repeated_by_the_client_and_not_by_a_recording() {
        let key = Key::generate().unwrap();
        let (server, store) = store(&key);
        let (addr, path) = path_that_cuts(server.local_addr(), Arc::clone(&store));
        let mut client = StoreClient::connect(&addr, &key).unwrap();
        assert_eq!(client.ask(&ADD).unwrap(), Answer::Number(1));

        let cut = client.ask(&ADD).unwrap_err();
        assert!(cut.may_be_done(), "{cut}");
        let (recording, listener) = path.join().unwrap();
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "the client has tried again");
        assert_eq!(store.get("n").as_deref(), Some(b"2".as_slice()));

        let mut again = TcpStream::connect(server.local_addr()).unwrap();
        again.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        again.write_all(&recording).unwrap();
        // The end may be a reset. That there is one shows that the server is done with the recording.
        let end = again.read_to_end(&mut Vec::new());
        assert_eq!(store.get("n").as_deref(), Some(b"2".as_slice()));
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }

    /// A path for one connection to `server`, cut when the store has added twice. It returns what the client has sent, and
    /// the listener, where the client would try again.
    fn path_that_cuts(server: SocketAddr, store: Arc<Store>) -> (String, JoinHandle<(Vec<u8>, TcpListener)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let path = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect(server).unwrap();
            let (mut back, mut recording) = (Vec::new(), Vec::new());
            let mut buffer = [0; 4096];
            for stream in [&client, &server] {
                stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            }
            while store.get("n").as_deref() != Some(b"2") {
                if let Ok(count) = client.read(&mut buffer) {
                    assert_ne!(count, 0, "the client gave up before the store has added twice");
                    recording.extend_from_slice(&buffer[..count]);
                    server.write_all(&buffer[..count]).unwrap();
                }
                if let Ok(count) = server.read(&mut buffer) {
                    back.extend_from_slice(&buffer[..count]);
                }
                if store.get("n").as_deref() != Some(b"2") {
                    client.write_all(&back).unwrap();
                    back.clear();
                }
            }
            (recording, listener)
        });
        (addr, path)
    }
}
