//! Times the parts of a training step at the tutorial's sizes, on the CPU: `make bench`.

use burn::tensor::activation::log_softmax;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runboard::backend;
use runboard::checkpoint::{self, Checkpoint, State};
use runboard::data::{self, BatchStream, Images, Split};
use runboard::model::Network;
use runboard::reporter::{Reporter, Taken};
use runboard::spec::{Spec, Synthetic};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

fn parts(criterion: &mut Criterion) {
    let spec = Spec::default();
    let batch_size = spec.train.batch_size;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let synthetic = Synthetic {
        train_images: 5_000,
        test_images: 1_000,
        ..Synthetic::default()
    };
    let files = data::draw(&synthetic, folder.path()).expect("the synthetic set is drawn");
    let images = Images::read(&files, Split::Train).expect("the drawn files are read");
    let images = Arc::new(images);
    let (device, _) = backend::device("cpu").expect("there is a CPU");
    let network = Network::init(&spec.network, spec.input.crop, spec.seed, &device);
    let ema = backend::copy(&network).expect("memory for the network");

    let mut group = criterion.benchmark_group("step of 128 images");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(6));
    group.throughput(Throughput::Elements(batch_size as u64));

    let mut stream = BatchStream::start(images, &spec.input, batch_size, spec.seed, 0, 1, 1)
        .expect("threads for the batches");
    group.bench_function("input, one worker", |b| {
        b.iter(|| stream.next().expect("a batch"))
    });

    let batch = stream.next().expect("a batch");
    let upload = || {
        let (pixels, labels) = (batch.images.clone(), batch.labels.clone());
        backend::upload(pixels, labels, spec.input.crop, &device)
    };
    let step = || {
        let (pixels, labels) = upload();
        backend::gradients(&network, &spec.network, pixels, labels).expect("gradients")
    };
    group.bench_function("forward and backward", |b| b.iter(|| black_box(step())));
    let (_, gradients) = step();
    group.bench_function("descend and average", |b| {
        b.iter(|| {
            backend::descend(&network, &gradients, 1e-9).expect("a step");
            backend::average(&ema, &network, 0.9999).expect("an average");
        });
    });
    let tracked = device.clone().autodiff();
    let plain = Network::init(&spec.network, spec.input.crop, spec.seed, &tracked);
    group.bench_function("forward and backward in burn's operations", |b| {
        b.iter(|| {
            let (pixels, labels) = (batch.images.clone(), batch.labels.clone());
            let (pixels, labels) = backend::upload(pixels, labels, spec.input.crop, &tracked);
            let logits = plain.forward(&spec.network, pixels);
            let likelihood = log_softmax(logits, 1).gather(1, labels.unsqueeze_dim(1));
            black_box((-likelihood.mean()).backward())
        });
    });
    group.bench_function("forward, as in evaluation", |b| {
        b.iter(|| backend::logits(&network, &spec.network, upload().0).expect("logits"));
    });
    group.finish();

    let mut group = criterion.benchmark_group("files");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(4));
    let reports = folder.path().join("events");
    let mut reporter =
        Reporter::start(&reports, &spec, 0, Default::default(), false).expect("a file");
    let (losses, gradients) = step();
    let taken = Taken {
        step: 0, // for which all cadences are due
        losses,
        gradients,
        learning_rate: 0.1,
        images: upload().0,
        waited: Duration::ZERO,
        computed: Duration::ZERO,
    };
    group.bench_function("all summaries of a step, written", |b| {
        b.iter(|| {
            reporter.report(&taken, &network, 4).expect("summaries");
            reporter.flush();
        });
    });
    let checkpoint = Checkpoint {
        state: State {
            step: 0,
            averages: Default::default(),
        },
        weights: network.named(),
        ema: ema.named(),
    };
    let save = || checkpoint::save(folder.path(), &checkpoint).expect("a checkpoint");
    group.bench_function("checkpoint save, synced", |b| b.iter(save));
    let path = save();
    group.bench_function("checkpoint load, verified", |b| {
        b.iter(|| checkpoint::load(&path).expect("the checkpoint"));
    });
    group.finish();
}

criterion_group!(benches, parts);
criterion_main!(benches);
