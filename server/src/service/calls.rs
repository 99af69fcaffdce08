//! What the data requests have in common: where their context is, what they become, how they are refused.

use proto::{convert, kvrpcpb as wire};
use types::{Answer, Command, Outcome, Query};

use super::region_error::Refusal;

/// A response that can say no.
pub(super) trait Response: Default + Send + 'static {
    /// The response that says no.
    fn refused(refusal: Refusal) -> Self;
}

/// A request that changes data.
pub(super) trait Write: Sized + Send {
    /// Its response.
    type Response: Response + TryFrom<Outcome, Error = convert::Error>;

    /// Its name in metrics.
    const NAME: &'static str;

    /// Takes the context out.
    fn take_context(&mut self) -> Option<wire::Context>;

    /// What it asks for.
    fn command(self) -> convert::Result<Command>;
}

/// A request that reads data.
pub(super) trait Read: Sized + Send {
    /// Its response.
    type Response: Response + TryFrom<Answer, Error = convert::Error>;

    /// Its name in metrics.
    const NAME: &'static str;

    /// Takes the context out.
    fn take_context(&mut self) -> Option<wire::Context>;

    /// What it asks for.
    fn query(self) -> convert::Result<Query>;
}

/// `with_text`: the response has a field for errors that are no region errors.
macro_rules! response {
    ($response:ident with_text) => {
        impl Response for wire::$response {
            fn refused(refusal: Refusal) -> Self {
                match refusal {
                    Refusal::Region(error) => {
                        wire::$response { region_error: Some(*error), ..Default::default() }
                    }
                    Refusal::Text(error) => wire::$response { error, ..Default::default() },
                }
            }
        }
    };
    ($response:ident without_text) => {
        impl Response for wire::$response {
            fn refused(refusal: Refusal) -> Self {
                let region_error = Some(refusal.into_region_error());
                wire::$response { region_error, ..Default::default() }
            }
        }
    };
}

macro_rules! calls {
    ($($kind:ident $name:literal $request:ident => $response:ident $text:ident;)*) => {$(
        response!($response $text);
        calls!(@$kind $name $request $response);
    )*};
    (@write $name:literal $request:ident $response:ident) => {
        impl Write for wire::$request {
            type Response = wire::$response;
            const NAME: &'static str = $name;

            fn take_context(&mut self) -> Option<wire::Context> {
                self.context.take()
            }

            fn command(self) -> convert::Result<Command> {
                self.try_into()
            }
        }
    };
    (@read $name:literal $request:ident $response:ident) => {
        impl Read for wire::$request {
            type Response = wire::$response;
            const NAME: &'static str = $name;

            fn take_context(&mut self) -> Option<wire::Context> {
                self.context.take()
            }

            fn query(self) -> convert::Result<Query> {
                self.try_into()
            }
        }
    };
}

calls! {
    read "raw_get" RawGetRequest => RawGetResponse with_text;
    read "raw_batch_get" RawBatchGetRequest => RawBatchGetResponse without_text;
    write "raw_put" RawPutRequest => RawPutResponse with_text;
    write "raw_batch_put" RawBatchPutRequest => RawBatchPutResponse with_text;
    write "raw_delete" RawDeleteRequest => RawDeleteResponse with_text;
    write "raw_batch_delete" RawBatchDeleteRequest => RawBatchDeleteResponse with_text;
    read "raw_scan" RawScanRequest => RawScanResponse without_text;
    write "raw_delete_range" RawDeleteRangeRequest => RawDeleteRangeResponse with_text;
    read "raw_batch_scan" RawBatchScanRequest => RawBatchScanResponse without_text;
    read "raw_get_key_ttl" RawGetKeyTtlRequest => RawGetKeyTtlResponse with_text;
    write "raw_compare_and_swap" RawCasRequest => RawCasResponse with_text;
    read "raw_checksum" RawChecksumRequest => RawChecksumResponse with_text;
}

/// The response to a write.
pub(super) fn written<W: Write>(result: Result<Outcome, Refusal>) -> W::Response {
    let response = result
        .and_then(|outcome| W::Response::try_from(outcome).map_err(|error| Refusal::text(error.to_string())));
    response.unwrap_or_else(W::Response::refused)
}

/// The response to a read.
pub(super) fn answered<R: Read>(result: Result<Answer, Refusal>) -> R::Response {
    let response = result
        .and_then(|answer| R::Response::try_from(answer).map_err(|error| Refusal::text(error.to_string())));
    response.unwrap_or_else(R::Response::refused)
}
