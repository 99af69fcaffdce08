//! `grpc.health.v1`: asked on every address, of every service, by clients that wonder whether a store is there.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use proto::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};
use tonic::{Request, Response, Status};

use crate::state::{Phase, State};

pub(super) struct Health {
    state: Arc<State>,
}

impl Health {
    pub(super) fn new(state: Arc<State>) -> Health {
        Health { state }
    }
}

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Statuses;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(answer(self.state.phase())))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Statuses>, Status> {
        let phases = self.state.phases();
        let statuses = stream::unfold((phases, true), |(mut phases, is_first)| async move {
            if !is_first {
                phases.changed().await.ok()?;
            }
            let phase = *phases.borrow_and_update();
            Some((Ok(answer(phase)), (phases, false)))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

fn answer(phase: Phase) -> HealthCheckResponse {
    let status = match phase {
        Phase::Serving => ServingStatus::Serving,
        Phase::Opening | Phase::WaitingForInit | Phase::Starting | Phase::Draining => {
            ServingStatus::NotServing
        }
    };
    HealthCheckResponse { status: status.into() }
}
