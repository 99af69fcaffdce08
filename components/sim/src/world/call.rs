//! What clients and operators ask of a store, and how the answers come out of the actors.

use std::sync::Arc;

use parking_lot::Mutex;
use placement::PlacementCall;
use store::{AdminAction, RequestContext};
use types::{Answer, Epoch, Outcome, Query, RegionId, Request};

use super::{HostId, network::Site};

/// Names a call for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A call on its way.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub id: CallId,
    /// Who asks.
    pub from: Site,
    /// What.
    pub body: CallBody,
}

/// What can be asked.
#[derive(Clone, Debug)]
pub enum CallBody {
    /// A write.
    Write(RequestContext, Request),
    /// A read.
    Read(RequestContext, Query),
    /// A question to placement.
    Placement(PlacementCall),
    /// An operator's wish.
    Admin(RegionId, Option<Epoch>, AdminAction),
}

/// How a call ends.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerBody {
    /// A write.
    Written(store::Result<Outcome>),
    /// A read.
    Read(store::Result<Answer>),
    /// A question to placement.
    Placement(placement::Result<placement::PlacementAnswer>),
    /// An operator's wish.
    Admin(store::Result<()>),
    /// Nobody listened: it was not done.
    Refused,
    /// The connection broke: nothing is known.
    Broken,
}

/// An answer on its way.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The call.
    pub id: CallId,
    /// Who asked.
    pub to: Site,
    /// Where.
    pub from: HostId,
    /// What came of it.
    pub body: AnswerBody,
}

/// Where responders of one process put their answers until the world looks.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    answers: Arc<Mutex<Vec<(CallId, AnswerBody)>>>,
}

impl Answers {
    pub(crate) fn take(&self) -> Vec<(CallId, AnswerBody)> {
        std::mem::take(&mut *self.answers.lock())
    }

    pub(crate) fn responder<T: 'static>(
        &self,
        id: CallId,
        wrap: impl FnOnce(store::Result<T>) -> AnswerBody + Send + 'static,
    ) -> store::Responder<T> {
        let answers = self.clone();
        store::Responder::new(move |result| answers.answers.lock().push((id, wrap(result))))
    }

    pub(crate) fn placement_responder(&self, id: CallId) -> placement::Responder {
        let answers = self.clone();
        placement::Responder::new(move |result| {
            answers.answers.lock().push((id, AnswerBody::Placement(result)))
        })
    }
}
