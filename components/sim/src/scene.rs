//! Who acts in a run: a cluster, its clients, its operator and its faults, and the checks that look on.

use crate::{
    checks::{Checks, Violation},
    clients::Clients,
    operator::Operator,
    plan::Plan,
    world::{Alarm, Moment, Step, World, network::Site},
};

/// Steps between two looks at whether something is reached.
const LOOK_EVERY: u64 = 64;

/// Everyone who acts. Clients, operator and plan do nothing before they are told to begin.
pub struct Scene {
    /// The machines.
    pub world: World,
    /// Who reads and writes.
    pub clients: Clients,
    /// Who joins stores, splits and moves.
    pub operator: Operator,
    /// What goes wrong.
    pub plan: Plan,
    /// What must hold, whatever happens.
    pub checks: Checks,
    /// Steps of the world so far.
    pub step_count: u64,
}

impl Scene {
    /// Before anything has happened.
    #[must_use]
    pub fn new(world: World, clients: Clients, operator: Operator, plan: Plan) -> Scene {
        Scene { world, clients, operator, plan, checks: Checks::new(), step_count: 0 }
    }

    /// Goes on until something is reached (`true`), or a moment. An error: something that must hold does not.
    pub fn advance(&mut self, end: Moment, is_reached: impl Fn(&Scene) -> bool) -> Result<bool, Violation> {
        let mut next_look = self.step_count;
        loop {
            if self.step_count >= next_look {
                if is_reached(self) {
                    return Ok(true);
                }
                next_look = self.step_count + LOOK_EVERY;
            }
            let Some(step) = self.world.step(end) else { return Ok(is_reached(self)) };
            self.step_count += 1;
            match step {
                Step::Host(host) => self.checks.after_round(&self.world, host)?,
                Step::Still(_) => self.checks.after_event(&self.world)?,
                Step::Started(host) => self.checks.on_start(&self.world, host)?,
                Step::GaveUp(host, reason) => return Err(Violation::GaveUp { host, reason }),
                Step::Answer(answered) => match answered.to {
                    Site::Client(at) => self.clients.on_answer(&mut self.world, at, *answered),
                    Site::Operator => self.operator.on_answer(&mut self.world, *answered)?,
                    Site::Host(_) => {}
                },
                Step::Alarm(Alarm::Client(at, number)) => self.clients.on_alarm(&mut self.world, at, number),
                Step::Alarm(Alarm::Operator(number)) => self.operator.on_alarm(&mut self.world, number),
                Step::Alarm(Alarm::Fault(number)) => {
                    self.plan.on_alarm(&mut self.world, &mut self.operator, number)
                }
            }
        }
    }
}
