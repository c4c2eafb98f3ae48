//! A rank but the first, which keeps nothing of the run.

use super::super::input::{BatchSource, StepInput};
use super::super::step_rates;
use super::meeting::{connect, meet_on_gpus, timeout};
use super::session::{Beginning, Ending, Shapes, tensors};
use super::{Ranks, lost, lost_if, lost_unless_told, recorded_from};
use crate::backend::{self, Optimizer, Recorder};
use crate::model::Network;
use anyhow::Result;
use runboard::console;
use runboard::data::Share;
use runboard::error::{ExitError, FAILURE, LOST_RANK};
use runboard::files;
use runboard::launch::Launch;
use runboard::run::{self, Completion, RunDir};
use runboard::schedule::Schedule;
use runboard::shutdown::Shutdown;
use runboard::spec::{DeviceName, Spec};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How often a rank gives its supervisor a sign of life.
const SIGN: Duration = Duration::from_secs(1);

/// Files that a rank is told of.
#[derive(Clone, Copy, Debug, Default)]
pub struct RankFiles<'a> {
    /// Where ranks of one host meet.
    pub store: Option<&'a Path>,
    /// Where to write the first step, once the ranks have met and begin, for who supervises this one. Its time is then that
    /// of the rank's last sign of life.
    pub began: Option<&'a Path>,
}

impl RankFiles<'_> {
    /// While this rank waits for the others once more it gives no signs of life, and none is missed.
    fn take_back_sign(&self) {
        if let Some(began) = self.began {
            let _ = fs::remove_file(began);
        }
    }

    /// Give a sign of life, if `last` is long ago. One that the disk refuses is not missed for a while.
    fn give_sign(&self, last: &mut Instant) {
        if let Some(began) = self.began.filter(|_| last.elapsed() >= SIGN) {
            *last = Instant::now();
            let file = File::options().write(true).open(began);
            let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        }
    }
}

/// Train as one of the ranks but the first, until that says that training is over.
///
/// # Errors
/// What this rank cannot do, another rank that is lost, and what rank 0 failed at.
pub fn train_rank(
    run: &RunDir,
    launch: &Launch,
    files: RankFiles,
    stop: &Shutdown,
) -> Result<Completion> {
    let spec = run::read_spec(run)?;
    let mut have_met = false;
    loop {
        let ending = train_until_ending(run, &spec, launch, files, stop);
        match ending.map_err(|error| lost_if(have_met, error))? {
            Ending::Finished => return Ok(Completion::Finished),
            // Rank 0's supervisor passes all requests on as SIGHUP.
            Ending::Stopped(libc::SIGHUP) => return Ok(Completion::Stopped(libc::SIGTERM)),
            Ending::Stopped(signal) => return Ok(Completion::Stopped(signal)),
            Ending::Again => {
                files.take_back_sign();
                have_met = true;
            }
            Ending::Failed(why, code) => {
                // One that would repeat itself here ends this rank's supervisor, too.
                let code = if code == FAILURE { LOST_RANK } else { code };
                return Err(ExitError::new(code, format!("rank 0 ended: {why}")).into());
            }
        }
    }
}

/// Meet the others, and train with them.
fn train_until_ending(
    run: &RunDir,
    spec: &Spec,
    launch: &Launch,
    files: RankFiles,
    stop: &Shutdown,
) -> Result<Ending> {
    let (device, name) = backend::training_device(&spec.compute, launch)?;
    backend::prepare(&spec.compute, launch.threads(&spec.compute))?;
    let images =
        Arc::new(run::data::read_training(run, spec, run::commands::resume_with_data)?.images);
    let fresh = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    // What fails without a code of its own is a connection, after all ranks had come.
    let connected = connect(run, spec, launch, files.store, None, None);
    let mut group = connected.map_err(lost_unless_told)?;
    meet_on_gpus(&mut group, spec, &fresh).map_err(lost_unless_told)?;
    let (rank, ranks) = (group.rank(), group.members().len());
    let (begin, shapes): (Beginning, Shapes) =
        serde_json::from_slice(&group.broadcast(Vec::new()).map_err(lost)?)?;
    let values = group.broadcast(Vec::new()).map_err(lost)?;
    let mut ranks_of = Ranks {
        _processes: None,
        _meeting_place: None,
        group,
        recorder: Recorder::default(),
        next: begin.first,
        recorded_from: recorded_from(&begin, spec),
        is_summing: false,
        end: begin.end,
        checkpoint_every: spec.train.checkpoint_every,
        patience: timeout(spec, launch),
        heard: Instant::now(),
    };
    let train = || {
        if let Some(began) = files.began {
            files::replace(began, begin.first.to_string().as_bytes())?;
        }
        let mut optimizer = Optimizer::restore(spec, &fresh, &tensors(shapes, &values))?;
        let schedule = Schedule::new(spec, images.len());
        let (share, gpu) = (Share { rank, ranks }, DeviceName::is_gpu(&name));
        let mut input = BatchSource::start(&images, spec, share, begin.first, &device, gpu)?;
        console::timed(format_args!(
            "rank {} of {} trains on {name}, steps {} to {}",
            launch.rank,
            launch.world,
            begin.first,
            begin.end.saturating_sub(1)
        ));
        let mut sign = Instant::now();
        for step in begin.first..begin.end {
            let StepInput {
                images,
                labels,
                waited,
            } = input.next()?;
            let weights = optimizer.network();
            let asked = || {
                files.give_sign(&mut sign);
                stop.requested().is_some()
            };
            let part = (images, labels);
            let Some(mean) = ranks_of.gradients(weights, spec, part, waited, asked)? else {
                break;
            };
            let rates = step_rates(&schedule, &spec.train, &begin.rollbacks, step);
            let (losses, gradients) = mean.batch.add_decay(weights, spec)?;
            optimizer.step(step, &gradients, &losses, rates)?;
        }
        Ok(())
    };
    if let Err(error) = train() {
        ranks_of.group.leave(&format!("{error:#}"));
        return Err(error);
    }
    ranks_of.ending()
}
