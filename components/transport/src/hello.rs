//! Who are you? Asked of an address before anything else is known of it.

use proto::raft::{Hello, HelloRequest, store_transport_client::StoreTransportClient};
use tokio::time::timeout;
use tonic::{Request, Status};

use crate::{
    Credentials,
    limits::HELLO_TIMEOUT,
    link::{DialError, dial},
};

/// The version of messages and formats that this binary writes (D18). It takes part in clusters of this version only.
pub const CLUSTER_VERSION: u32 = 1;

/// Nobody answered, or not with a Hello.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No answer in time.
    #[error("no answer within {HELLO_TIMEOUT:?}")]
    TimedOut,
    /// The other side refused.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// The answer says nothing.
    #[error("the answer is empty")]
    Empty,
}

/// Introduces this process to whoever listens at `address`, and asks who that is.
pub async fn hello(credentials: Credentials, address: &str, own: Hello) -> Result<Hello, HelloError> {
    let channel = dial(credentials, address, 1 << 20).await?;
    let mut client = StoreTransportClient::new(channel);
    let answer = timeout(HELLO_TIMEOUT, client.hello(Request::new(HelloRequest { hello: Some(own) })))
        .await
        .map_err(|_| HelloError::TimedOut)?
        .map_err(|status| HelloError::Refused(Box::new(status)))?;
    answer.into_inner().hello.ok_or(HelloError::Empty)
}
