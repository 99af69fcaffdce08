//! Bytes that are no message, on a connection that others use as well.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::{SinkExt, channel::mpsc};
use prost::Message;
use proto::{
    kvrpcpb as kv,
    raft::{Beat, Frame, Hello, HelloRequest, HelloResponse, Lane, LaneOpen, StoreMessage, store_message},
    tikvpb::{
        BatchCommandsEmptyRequest, BatchCommandsRequest, BatchCommandsResponse,
        batch_commands_request as ask, batch_commands_response::response::Cmd as Told,
        tikv_client::TikvClient,
    },
};
use tests::{Cluster, Options, streamed, unary};
use tonic::{Code, Streaming, transport::Channel};

use crate::requests;

const BATCH_COMMANDS: &str = "/tikvpb.Tikv/BatchCommands";
const LANE: &str = "/sheaf.raft.v1.StoreTransport/Lane";
const HELLO: &str = "/sheaf.raft.v1.StoreTransport/Hello";

/// Bytes that no message begins with: a field of a wire type that does not exist, a length that reaches behind the
/// end, a number that never ends.
const MALFORMED: [&[u8]; 3] =
    [b"\x0f\x0f\x0f", b"\x0a\x7fshort", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"];

/// A stream of commands on a connection of its own: what is open when others break theirs.
struct OpenStream {
    requests: mpsc::Sender<Bytes>,
    answers: Streaming<Bytes>,
    last_id: u64,
}

impl OpenStream {
    async fn open(channel: &Channel) -> Result<OpenStream> {
        let (requests, taken) = mpsc::channel(8);
        let answers = streamed(channel, BATCH_COMMANDS, taken).await?;
        Ok(OpenStream { requests, answers, last_id: 0 })
    }

    /// Asks for an answer, and gets it.
    async fn check(&mut self) -> Result<()> {
        self.last_id += 1;
        let empty = BatchCommandsEmptyRequest { test_id: self.last_id, delay_time: 0 };
        let request = ask::Request { cmd: Some(ask::request::Cmd::Empty(empty)) };
        let batch = BatchCommandsRequest {
            requests: vec![request],
            request_ids: vec![self.last_id],
            ..BatchCommandsRequest::default()
        };
        self.requests.send(batch.encode_to_vec().into()).await?;
        let answer = self.answers.message().await?.context("the stream has ended")?;
        assert_eq!(BatchCommandsResponse::decode(answer)?.request_ids, [self.last_id]);
        Ok(())
    }
}

async fn alone() -> Result<Cluster> {
    Cluster::start(Options { stores: 1, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_request_ends_its_own_call_alone() -> Result<()> {
    let cluster = alone().await?;
    let channel = cluster.channel(0).await?;
    let mut open = OpenStream::open(&channel).await?;
    open.check().await?;
    for method in ["/tikvpb.Tikv/RawGet", "/tikvpb.Tikv/RawPut", "/pdpb.PD/GetRegion", HELLO] {
        for bytes in MALFORMED {
            let status = unary(&channel, method, bytes).await.expect_err("it is no message");
            assert!(is_of_the_message(status.code()), "{method}: {status}");
            open.check().await?;
        }
    }
    let status = unary(&channel, "/tikvpb.Tikv/NoSuchMethod", &b""[..]).await.expect_err("there is none");
    assert_eq!(status.code(), Code::Unimplemented);
    open.check().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_message_ends_its_own_stream_alone() -> Result<()> {
    let cluster = alone().await?;
    let channel = cluster.channel(0).await?;
    let mut open = OpenStream::open(&channel).await?;
    for bytes in MALFORMED {
        let mut broken = OpenStream::open(&channel).await?;
        broken.check().await?;
        broken.requests.send(Bytes::from_static(bytes)).await?;
        let status = broken.answers.message().await.expect_err("it is no message");
        assert!(is_of_the_message(status.code()), "{status}");
        open.check().await?;
    }
    // More ids than requests: nobody could say which answer is whose.
    let mut broken = OpenStream::open(&channel).await?;
    let batch = BatchCommandsRequest { request_ids: vec![1, 2], ..BatchCommandsRequest::default() };
    broken.requests.send(batch.encode_to_vec().into()).await?;
    let status = broken.answers.message().await.expect_err("it makes no sense");
    assert_eq!(status.code(), Code::InvalidArgument);
    open.check().await
}

/// Commands that stock clients may send and this version does not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_command_gets_its_own_answer() -> Result<()> {
    let cluster = alone().await?;
    let channel = cluster.channel(0).await?;
    let context = requests::context(&cluster).await?;
    let known = kv::RawPutRequest {
        context: Some(context.clone()),
        key: "beside".into(),
        value: "1".into(),
        ..kv::RawPutRequest::default()
    };
    let known = ask::Request { cmd: Some(ask::request::Cmd::RawPut(known)) }.encode_to_vec();
    // `Coprocessor`, field 22, and a number that nobody uses, with bytes that only their own kind could read.
    let unknown = [&b"\xb2\x01\x04\xff\xff\xff\xff"[..], &b"\xc2\x3e\x00"[..]];
    let mut batch = Vec::new();
    for request in [unknown[0], &known, unknown[1]] {
        prost::encoding::bytes::encode(1, &request.to_vec(), &mut batch);
    }
    prost::encoding::uint64::encode_packed(2, &[7, 8, 9], &mut batch);

    let (mut requests, taken) = mpsc::channel(8);
    let mut answers = streamed(&channel, BATCH_COMMANDS, taken).await?;
    requests.send(batch.into()).await?;
    let mut told = BTreeMap::new();
    while told.len() < 3 {
        let answer = BatchCommandsResponse::decode(answers.message().await?.context("an answer")?)?;
        told.extend(answer.request_ids.into_iter().zip(answer.responses));
    }
    assert_eq!((&told[&7].cmd, &told[&9].cmd), (&None, &None), "answered, with nothing");
    assert_eq!(told[&8].cmd, Some(Told::RawPut(kv::RawPutResponse::default())));
    let get =
        kv::RawGetRequest { context: Some(context), key: "beside".into(), ..kv::RawGetRequest::default() };
    assert_eq!(TikvClient::new(channel).raw_get(get).await?.into_inner().value, "1");
    Ok(())
}

/// A lane of a store that nobody knows, from its first frame on.
struct OpenLane {
    frames: mpsc::Sender<Bytes>,
    acks: Streaming<Bytes>,
}

impl OpenLane {
    async fn open(channel: &Channel, own: &Hello, from_store_id: u64) -> Result<OpenLane> {
        let open = LaneOpen {
            lane: Lane::Liveness.into(),
            cluster_id: own.cluster_id,
            from_store_id,
            from_incarnation: 1,
            to_store_id: own.store_id,
            cluster_version: own.cluster_version,
            ..LaneOpen::default()
        };
        let first = Frame { sequence: 1, open: Some(open), ..Frame::default() };
        let (mut frames, taken) = mpsc::channel(8);
        frames.send(first.encode_to_vec().into()).await?;
        Ok(OpenLane { acks: streamed(channel, LANE, taken).await?, frames })
    }

    async fn ended_by(mut self, frame: impl Into<Bytes>) -> Result<Code> {
        self.frames.send(frame.into()).await?;
        Ok(self.acks.message().await.expect_err("the lane ends with a status").code())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_frame_ends_its_own_lane_alone() -> Result<()> {
    let cluster = alone().await?;
    let channel = cluster.channel(0).await?;
    let answer = unary(&channel, HELLO, HelloRequest::default().encode_to_vec()).await?;
    let own = HelloResponse::decode(answer)?.hello.context("who it is")?;
    let mut open = OpenStream::open(&channel).await?;
    let mut other_lane = OpenLane::open(&channel, &own, 7).await?;

    for bytes in MALFORMED {
        let code = OpenLane::open(&channel, &own, 8).await?.ended_by(bytes).await?;
        assert!(is_of_the_message(code), "{code}");
        open.check().await?;
    }
    // A whole frame with a message of no kind, and one that does not follow the first.
    let nothing = Frame { sequence: 2, messages: vec![StoreMessage { message: None }], ..Frame::default() };
    let code = OpenLane::open(&channel, &own, 8).await?.ended_by(nothing.encode_to_vec()).await?;
    assert_eq!(code, Code::InvalidArgument);
    let gap = Frame { sequence: 5, ..Frame::default() };
    let code = OpenLane::open(&channel, &own, 8).await?.ended_by(gap.encode_to_vec()).await?;
    assert_eq!(code, Code::InvalidArgument);
    open.check().await?;

    // The lane that did nothing wrong is still read: only what comes next ends it.
    let beat = store_message::Message::Beat(Beat { incarnation: 1, number: 1, ..Beat::default() });
    let messages = vec![StoreMessage { message: Some(beat) }];
    let second = Frame { sequence: 2, messages, ..Frame::default() };
    other_lane.frames.send(second.encode_to_vec().into()).await?;
    let gap = Frame { sequence: 9, ..Frame::default() };
    other_lane.frames.send(gap.encode_to_vec().into()).await?;
    let status = other_lane.acks.message().await.expect_err("a gap");
    assert!(status.message().contains("frame 9 follows frame 2"), "{status}");
    open.check().await
}

/// The call's own fault, not the connection's.
fn is_of_the_message(code: Code) -> bool {
    matches!(code, Code::Internal | Code::InvalidArgument)
}
