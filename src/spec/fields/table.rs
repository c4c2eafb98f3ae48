//! Every field of a spec: what it may hold and what it means. The check of files, `runboard fields`, docs/spec.md and
//! experiments/schema.json follow from these tables.

use crate::spec::rule::Rule::{
    self, Above, Below, Bool, Device, Directory, Int, List, MultipleOf, Names, Odd, OneOf, Switch,
    Text, Version, Within,
};
use crate::spec::{SIDE, frozen};

/// A field: its dotted path, what it may hold, and what it means.
pub struct Field {
    pub path: &'static str,
    pub(in crate::spec) rule: Rule,
    /// A sentence or two with units and with what 0 means.
    pub meaning: &'static str,
    /// Whether a resume may change it: what was trained so far does not depend on it.
    pub changeable: bool,
}

const fn field(path: &'static str, rule: Rule, meaning: &'static str) -> Field {
    Field {
        path,
        rule,
        meaning,
        changeable: false,
    }
}

impl Field {
    /// A field that a resume may change.
    const fn changeable(self) -> Field {
        Field {
            changeable: true,
            ..self
        }
    }
}

const COUNT: Rule = Int(1, 1_000_000_000);
const BATCH: Rule = Int(1, 65_536);
const THREADS: Rule = Int(0, 1_024);
const SEED: Rule = Int(0, u64::MAX);
const WIDTH: Rule = Int(1, 4_096);
// "Same" padding of an even kernel is lopsided, so kernels are odd.
const KERNEL: Rule = Odd(1, 15);
// A deviation of 0 (all weights equal) is a legitimate experiment. The upper bounds of this and the
// following rules are far above use and far below what overflows an f32, which weights are stored in.
const STDDEV: Rule = Within(0.0, 1_000.0);
const BIAS: Rule = Within(-1_000.0, 1_000.0);
const DECAY: Rule = Within(0.0, 1_000.0);
const FACTOR: Rule = Within(0.0, 100.0);
const INIT: Rule = OneOf(&["truncated_normal", "he_normal", "xavier"]);
const FIRST_INIT: Rule = OneOf(&["truncated_normal", "he_normal", "xavier", "whitening"]);
const POOL: Rule = Int(1, 8);
const MILLION: f64 = 1_000_000.0;

const CHANNELS: &str = "Output channels of the convolution.";
const KERNEL_SIDE: &str =
    "Side of the square kernel, in pixels. Odd, so that padding is the same on all sides.";
const CONVOLUTION_STDDEV: &str = "Standard deviation of the truncated normal distribution of the initial weights. \
    The default is the tutorial's 1e-4, with which the loss hardly moves for thousands of steps and training looks \
    dead; fast-start has 5e-2.";
const DENSE_STDDEV: &str =
    "Standard deviation of the truncated normal distribution of the initial weights.";
const INIT_MEANING: &str = "Distribution of the initial weights. truncated_normal: of the layer's stddev. he_normal: normal, \
    of standard deviation sqrt(2 / fan-in). xavier: uniform within sqrt(6 / (fan-in + fan-out)).";
const FIRST_INIT_MEANING: &str = "Distribution of the initial weights. truncated_normal: of the layer's stddev. he_normal: \
    normal, of standard deviation sqrt(2 / fan-in). xavier: uniform within sqrt(6 / (fan-in + fan-out)). whitening: \
    not random. The filters are the principal components of the training images' patches and their negatives, scaled to \
    outputs of variance 1 (docs/recipes.md).";
const FROZEN: &str = "true: the layer's weights stay as they began; its biases are trained.";
const INITIAL_BIAS: &str = "Initial value of every bias.";
const WEIGHT_DECAY: &str = "The loss gains this times sum(w^2) / 2 over the layer's weights, not its biases. 0: no decay. \
    With optimizer.name muon, whose updates are all of one size, it changes their direction alone.";
const UNITS: &str = "Output units of the dense layer.";

/// Every field, in the order of the struct; first the keys that files have and a spec has not.
pub(super) const FIELDS: &[Field] = &[
    field(
        "extends",
        Names,
        "Another experiment that this one starts from, beside this file or in experiments/, or a list of several, of which a \
         later one takes precedence; one that several of them extend counts once, before them. Fields set here take precedence over \
         all.",
    ),
    field(
        "version",
        Version(frozen::VERSION),
        "Version of the format of a run's frozen spec.yaml. An experiment needs none; there it has no effect.",
    ),
    field(
        "description",
        Text,
        "One line for people: what the experiment is for.",
    )
    .changeable(),
    field(
        "seed",
        SEED,
        "Seed of every random choice of the run. On the CPU the same seed gives the same weights bit for bit.",
    ),
    field(
        "fidelity",
        OneOf(&["exact", "tutorial"]),
        "exact: every test image counts once and averages of losses are debiased. tutorial: keep the tutorial's \
         quirks there (docs/fidelity.md).",
    ),
    field(
        "compute.device",
        Device,
        "Where the network is computed: auto (the first GPU, or else the CPU), cpu, cuda or cuda:N.",
    )
    .changeable(),
    field(
        "compute.devices",
        List(&Device, 0, 64),
        "The devices that train together, such as [cuda:0, cuda:1] or [cpu, cpu]: a process for each takes an equal \
         part of every batch, and all make the same step. []: compute.device alone. Two, four \
         or eight CPUs give the results of one with a batch that is a multiple of 32; otherwise another number \
         changes their last bits, or more with compute.reduce_precision: bf16.",
    )
    .changeable(),
    field(
        "compute.timeout_secs",
        Int(1, 86_400),
        "How long training waits for the process of one of compute.devices, in seconds, before that counts as lost and \
         training is started again from the last checkpoint.",
    )
    .changeable(),
    field(
        "compute.process_group",
        OneOf(&["auto", "gloo", "nccl"]),
        "By what several devices sum their gradients. nccl: between the GPUs, of which each process has one of its own. gloo: through the hosts' \
         memory. auto: nccl where it is possible and compute.deterministic is false, else gloo. CPUs use gloo. The same on all hosts.",
    )
    .changeable(),
    field(
        "compute.reduce_precision",
        OneOf(&["float32", "bf16"]),
        "In what the dense layers' gradients, nine tenths of all, travel where several devices train. bf16: as bfloat16, half the bytes, for a network that is slow; \
         they have 8 bits then, and N devices do not give the results of one. The same on all hosts.",
    )
    .changeable(),
    field(
        "compute.elastic",
        Bool,
        "Whether training that is started again because the process of a rank was lost goes on without those that do not \
         come back within compute.timeout_secs. Otherwise it waits for all. The same on all hosts.",
    )
    .changeable(),
    field(
        "compute.threads",
        THREADS,
        "Threads of the arithmetic, shared out among compute.devices. 0: one for each core. Results do not depend on the number, but for \
         the last bits of a network on the CPU in bf16 or with another network.conv2.kernel than 5.",
    )
    .changeable(),
    field(
        "compute.precision",
        OneOf(&["float32", "tf32", "tf32-conv", "bf16"]),
        "What the factors of products are rounded to. tf32: TensorFloat-32 on a GPU. tf32-conv: in \
         convolutions only, which is PyTorch's default. Both are float32 on a CPU. bf16: bfloat16, which is \
         slower on a CPU. Sums, weights, losses and updates are float32 always, but for Muon's products on a GPU.",
    ),
    field(
        "compute.deterministic",
        Bool,
        "Whether a GPU may only choose algorithms that give the same bits each time, which costs time. It chooses the \
         fastest by trying them otherwise. On a CPU the bits are the same each time in any case.",
    )
    .changeable(),
    field(
        "data.source",
        OneOf(&["cifar10", "synthetic"]),
        "Where images come from if data.folder lacks them. cifar10: the official archive, or any directory in its layout. \
         synthetic: ten classes of generated shapes.",
    ),
    field(
        "data.folder",
        Directory,
        "Directory of the images: the binary files, or cifar-10-batches-bin/ with them. A relative one is in \
         RUNBOARD_HOME, or else in the nearest directory with experiments/ from the current one upwards; on the command line in the \
         current one. ~ and variables ($NAME, ${NAME}) are expanded, \
         $$ is a $. --data and RUNBOARD_DATA take precedence.",
    ),
    field(
        "data.download",
        Bool,
        "Download the official archive (170 MB) if the default data.folder lacks the images; with data.source cifar10 \
         only. Another folder that lacks them is an error.",
    ),
    field(
        "data.prefetch",
        Int(1, 1_024),
        "Batches that are kept ready ahead of training. It does not change results.",
    )
    .changeable(),
    field(
        "data.workers",
        Int(1, 64),
        "Background threads that prepare batches. It does not change results.",
    )
    .changeable(),
    field(
        "data.validation_images",
        Int(0, 4_999_999),
        "Images of the training files that are held out, chosen at random by the seed: they are not trained on, and \
         scored beside the test images. The best checkpoint is then the best on them. 0: none.",
    ),
    // Spread evenly over the five training files of the CIFAR-10 layout.
    field(
        "data.synthetic.train_images",
        MultipleOf(5, 10, 5_000_000),
        "Synthetic training images, a fifth of them in each of five files; with data.source synthetic only.",
    ),
    field(
        "data.synthetic.test_images",
        Int(10, 5_000_000),
        "Synthetic test images; with data.source synthetic only.",
    ),
    field(
        "data.synthetic.seed",
        SEED,
        "Seed of the synthetic images, separate from the run's, so that runs with different seeds see the same images.",
    ),
    // The images are 32 pixels wide.
    field(
        "input.crop",
        Int(1, SIDE as u64),
        "Side in pixels of the square that the network sees of an image of 32 by 32: at a random place in training, \
         in the middle in evaluation.",
    ),
    field(
        "input.pad",
        Int(0, SIDE as u64 - 1),
        "Pixels that are put around a training image before it is cropped at a random place: with crop 32 and pad 4 the \
         image moves by up to 4 pixels. 0: none. Evaluation does not pad.",
    ),
    field(
        "input.pad_mode",
        OneOf(&["zero", "reflect"]),
        "What input.pad puts around an image. zero: black. reflect: the image mirrored at its edges, whose own pixels \
         are not repeated.",
    ),
    field(
        "input.flip",
        Switch(&["random", "alternating", "none"]),
        "Which training images are mirrored left to right. random (or true): each with probability 1/2, each time. \
         alternating: a random half of them in the first epoch, the other half in the next, and so on in turns. none (or \
         false): no image.",
    ),
    // A full 255 already turns black into white.
    field(
        "input.brightness",
        Within(0.0, 255.0),
        "A random number from minus this to this is added to all pixels of a training image, on a scale of 0 to 255. \
         0: none. It has no effect while input.normalize is image, which subtracts it again.",
    ),
    field(
        "input.contrast.lower",
        FACTOR,
        "Lower bound of the random factor that multiplies each pixel's distance from its channel's mean in a training \
         image. Nothing is clipped.",
    ),
    field(
        "input.contrast.upper",
        FACTOR,
        "Upper bound of the factor. 1 for both bounds: no change of contrast.",
    ),
    field(
        "input.cutout",
        Int(0, 32),
        "Side in pixels of a square, at a random place within the crop, in which a training image is replaced by 0 after \
         its normalisation. 0: none.",
    ),
    field(
        "input.cutmix",
        Int(0, SIDE as u64 - 1),
        "Side in pixels of a square, at a random place within the crop, in which a training image is replaced by another one \
         of its batch. The loss is the mean of those for both labels, weighted by their shares of the pixels. 0: none.",
    ),
    field(
        "input.normalize",
        Switch(&["image", "dataset", "none"]),
        "image (or true): shift and scale each image to mean 0 and standard deviation 1; the divisor is at least \
         1/sqrt(values), so that an image of one colour becomes 0. dataset: subtract the mean of the channel over all \
         training images and divide by its standard deviation. none (or false): values are 0 to 255. Its older name is \
         input.standardize.",
    ),
    field("network.conv1.channels", WIDTH, CHANNELS),
    field("network.conv1.kernel", KERNEL, KERNEL_SIDE),
    field("network.conv1.init", FIRST_INIT, FIRST_INIT_MEANING),
    field("network.conv1.stddev", STDDEV, CONVOLUTION_STDDEV),
    field("network.conv1.bias", BIAS, INITIAL_BIAS),
    field("network.conv1.weight_decay", DECAY, WEIGHT_DECAY),
    field("network.conv1.frozen", Bool, FROZEN),
    field("network.conv2.channels", WIDTH, CHANNELS),
    field(
        "network.conv2.kernel",
        KERNEL,
        "Side of the square kernel, in pixels. Odd, so that padding is the same on all sides. On a CPU 5 is by far \
         the fastest.",
    ),
    field("network.conv2.init", INIT, INIT_MEANING),
    field("network.conv2.stddev", STDDEV, CONVOLUTION_STDDEV),
    field("network.conv2.bias", BIAS, INITIAL_BIAS),
    field("network.conv2.weight_decay", DECAY, WEIGHT_DECAY),
    field("network.conv2.frozen", Bool, FROZEN),
    field(
        "network.pool.size",
        POOL,
        "Side in pixels of the square windows of both max-poolings, which pad as TensorFlow's SAME does.",
    ),
    field(
        "network.pool.stride",
        POOL,
        "Distance in pixels between two windows; each pooling divides the side of its input by it.",
    ),
    field(
        "network.norm.name",
        OneOf(&["lrn", "none"]),
        "What both normalisations are. lrn: local response normalisation. none: they pass on what they get.",
    ),
    field(
        "network.norm.radius",
        Int(0, 64),
        "Local response normalisation divides x by (bias + alpha * sum of x^2)^beta; the sum is over the channels at \
         most this far away. 0: the channel alone.",
    ),
    // The base of a negative power: 0 would divide by zero where all neighbours are 0.
    field(
        "network.norm.bias",
        Above(0.0, MILLION),
        "bias in the formula of network.norm.radius.",
    ),
    field(
        "network.norm.alpha",
        Within(0.0, MILLION),
        "alpha in the formula of network.norm.radius. The default is 0.001/9, with which the normalisation changes \
         next to nothing.",
    ),
    field(
        "network.norm.beta",
        Above(0.0, 5.0),
        "beta in the formula of network.norm.radius.",
    ),
    field("network.local3.units", WIDTH, UNITS),
    field("network.local3.init", INIT, INIT_MEANING),
    field("network.local3.stddev", STDDEV, DENSE_STDDEV),
    field("network.local3.bias", BIAS, INITIAL_BIAS),
    field("network.local3.weight_decay", DECAY, WEIGHT_DECAY),
    field("network.local3.frozen", Bool, FROZEN),
    field("network.local4.units", WIDTH, UNITS),
    field("network.local4.init", INIT, INIT_MEANING),
    field("network.local4.stddev", STDDEV, DENSE_STDDEV),
    field("network.local4.bias", BIAS, INITIAL_BIAS),
    field("network.local4.weight_decay", DECAY, WEIGHT_DECAY),
    field("network.local4.frozen", Bool, FROZEN),
    field("network.softmax_linear.init", INIT, INIT_MEANING),
    field(
        "network.softmax_linear.stddev",
        STDDEV,
        "Standard deviation of the truncated normal distribution of the initial weights. The default is 1/192.",
    ),
    field("network.softmax_linear.bias", BIAS, INITIAL_BIAS),
    field("network.softmax_linear.weight_decay", DECAY, WEIGHT_DECAY),
    field("network.softmax_linear.frozen", Bool, FROZEN),
    field(
        "network.dropout",
        Below(0.0, 1.0),
        "In training each output of local3 and local4 is 0 with this probability, and divided by 1 minus it otherwise. \
         0: none is left out.",
    ),
    field(
        "loss.label_smoothing",
        Below(0.0, 1.0),
        "This share of each label is spread evenly over all classes in the cross-entropy of training. 0: labels as they \
         are.",
    ),
    field(
        "optimizer.name",
        OneOf(&["sgd", "adamw", "muon"]),
        "The rule that a step follows (docs/recipes.md). sgd: stochastic gradient descent. adamw: Adam with decoupled \
         weight decay. muon: orthogonalised momentum for the weights of all layers but the last, sgd for the rest.",
    ),
    field(
        "optimizer.learning_rate",
        Above(0.0, MILLION),
        "Learning rate where the schedule's factor is 1: a step subtracts the rate times the gradient, or what the rule makes \
         of it.",
    ),
    field(
        "optimizer.sgd_learning_rate",
        Above(0.0, MILLION),
        "The learning rate of the last layer and of the biases, which follows the same schedule; with optimizer.name \
         muon only.",
    ),
    // At 1 no gradient would ever be forgotten.
    field(
        "optimizer.momentum",
        Below(0.0, 1.0),
        "Share of the momentum that stays at each step, before the gradient is added. 0: none; with optimizer.name \
         sgd and muon only.",
    ),
    field(
        "optimizer.nesterov",
        Bool,
        "Nesterov's momentum: the update is the gradient plus optimizer.momentum times the new momentum.",
    ),
    field(
        "optimizer.dampening",
        Below(0.0, 1.0),
        "The momentum gains 1 - this times the gradient, from the second step on as in PyTorch. 0: all of it; with \
         optimizer.name sgd only.",
    ),
    field(
        "optimizer.betas",
        List(&Below(0.0, 1.0), 2, 2),
        "Decays of the moving averages of the gradient and of its square; with optimizer.name adamw only.",
    ),
    field(
        "optimizer.epsilon",
        Above(0.0, 1.0),
        "Added to the root of the average square that divides; with optimizer.name adamw only.",
    ),
    field(
        "optimizer.weight_decay",
        Within(0.0, 1_000.0),
        "Decoupled decay: a step subtracts the learning rate times this times the weights, not the biases, whatever the \
         rule. The layers' own weight_decay is in the loss instead. 0: none.",
    ),
    field(
        "optimizer.bias_rate_factor",
        FACTOR,
        "The learning rate of all biases is multiplied by this. 0: they stay as they began.",
    ),
    field(
        "optimizer.clip_norm",
        Within(0.0, MILLION),
        "The gradient of all parameters together, weight decay in the loss included, is scaled down to this norm where \
         it is larger. 0: never.",
    ),
    field(
        "optimizer.gradient_accumulation",
        Int(1, 65_536),
        "The mean gradient of so many steps makes one update of the weights, at the last of them. 1: each step's.",
    ),
    field(
        "optimizer.decay_factor",
        Above(0.0, 1.0),
        "The learning rate is multiplied by this every optimizer.epochs_per_decay epochs.",
    ),
    field(
        "optimizer.epochs_per_decay",
        Above(0.0, 1e9),
        "Epochs between two drops of the learning rate. The default is the tutorial's: with 50,000 images in batches \
         of 128 the first drop is due at step 136,718, so in 100,000 steps there is none.",
    ),
    field(
        "optimizer.staircase",
        Bool,
        "true: the learning rate drops at once. false: it falls a little with every step.",
    ),
    // At 1 the average would never leave its initial value.
    field(
        "optimizer.ema_decay",
        Below(0.0, 1.0),
        "Decay of the average of the weights at each of its updates, with average.name ema and lookahead. With \
         average.warmup it is at most (1 + n) / (10 + n) after n updates. 0: the \
         average is the weights.",
    ),
    field(
        "schedule.name",
        OneOf(&[
            "exponential",
            "constant",
            "multistep",
            "cosine",
            "one_cycle",
            "piecewise",
        ]),
        "What multiplies optimizer.learning_rate at each step (docs/recipes.md). exponential: optimizer.decay_factor every \
         optimizer.epochs_per_decay epochs, as in the tutorial. constant: 1. multistep: schedule.factor at each knot. \
         cosine: from 1 to final_factor. one_cycle: up to 1 and down again. piecewise: through factors at knots.",
    ),
    field(
        "schedule.unit",
        OneOf(&["steps", "epochs", "percent"]),
        "What schedule.knots and schedule.warmup are counted in; percent of the run's steps.",
    ),
    field(
        "schedule.knots",
        List(&Within(0.0, 1e9), 0, 64),
        "Where the factor drops, or has its values, in schedule.unit, ascending; with schedule.name multistep and \
         piecewise only.",
    ),
    field(
        "schedule.factors",
        List(&FACTOR, 0, 64),
        "The factor of the learning rate at each knot; before the first one and after the last one it stays. With \
         schedule.name piecewise only.",
    ),
    field(
        "schedule.interpolation",
        OneOf(&["step", "linear", "cosine"]),
        "How a factor becomes the next one: at once, evenly, or along half a cosine; with schedule.name one_cycle and \
         piecewise only.",
    ),
    field(
        "schedule.factor",
        FACTOR,
        "The learning rate is multiplied by this at each knot; with schedule.name multistep only.",
    ),
    field(
        "schedule.initial_factor",
        FACTOR,
        "Factor of the first step; with schedule.name one_cycle only.",
    ),
    field(
        "schedule.final_factor",
        FACTOR,
        "Factor at the end of the run; with schedule.name cosine and one_cycle only.",
    ),
    field(
        "schedule.peak",
        Within(0.0, 100.0),
        "Percent of the run's steps after which the factor is 1; with schedule.name one_cycle only.",
    ),
    field(
        "schedule.warmup",
        Within(0.0, 1e9),
        "So long, in schedule.unit, the schedule's learning rate is multiplied by a factor that rises evenly from \
         schedule.warmup_factor to 1. 0: no warm-up.",
    ),
    field(
        "schedule.warmup_factor",
        Within(0.0, 1.0),
        "Where that factor begins.",
    ),
    field(
        "average.name",
        OneOf(&["ema", "lookahead", "none"]),
        "What is evaluated. ema: an exponential moving average of the weights. lookahead: one that also takes the weights' \
         place at each of its updates. none: the weights.",
    ),
    field(
        "average.warmup",
        Bool,
        "The decay is at most (1 + n) / (10 + n) after n updates of the average, as in the tutorial; with average.name \
         ema only.",
    ),
    field(
        "average.start_epoch",
        Within(0.0, 1e9),
        "Until so many epochs have passed the average is the weights.",
    ),
    field(
        "average.every",
        COUNT,
        "Updates of the weights from one update of the average to the next.",
    ),
    field(
        "average.power",
        Within(0.0, 100.0),
        "The decay is multiplied by the share of the run that is over, to this power. 0: it is not; with average.name \
         lookahead only.",
    ),
    field(
        "train.steps",
        COUNT,
        "The number of steps, or give train.epochs. They are counted from 0, so the last checkpoint is of step N - 1. A resume may \
         change it where the rates and averages of the steps so far do not depend on it: not with cosine, one_cycle, \
         knots or a warm-up in percent, or average.power, nor after the end of a run with lookahead whose last step took \
         the average.",
    )
    .changeable(),
    field(
        "train.epochs",
        Above(0.0, MILLION),
        "The run ends when it has seen the training images so often, such as 9.9, rounded up to whole steps; in place of \
         train.steps.",
    )
    .changeable(),
    field("train.batch_size", BATCH, "Images in a step."),
    field(
        "train.drop_last",
        Bool,
        "What becomes of the images that are left when an epoch, a new order of all training images, is cut into \
         batches. true: they are left out, and an epoch is a whole number of steps. false: they begin the next batch, \
         which the next epoch's first images fill up, as in the tutorial. No batch is short in either case.",
    ),
    field(
        "train.log_every",
        COUNT,
        "A line of loss and speed on the console every so many steps, step 0 included.",
    )
    .changeable(),
    field(
        "train.scalars_every",
        COUNT,
        "Points in the curves of losses, rates and times every so many steps, step 0 included.",
    )
    .changeable(),
    field(
        "train.histograms_every",
        COUNT,
        "Histograms of weights, gradients and activations and the first layer's filters every so many steps, step 0 \
         included. With fidelity tutorial the default is 100.",
    )
    .changeable(),
    field(
        "train.images_every",
        COUNT,
        "Input images in TensorBoard every so many steps, step 0 included. With fidelity tutorial the default is 100.",
    )
    .changeable(),
    field(
        "train.checkpoint_every",
        COUNT,
        "A checkpoint every so many steps, step 0 included, and one at the end.",
    )
    .changeable(),
    field(
        "train.keep_checkpoints",
        COUNT,
        "How many of the latest checkpoints are kept. Up to 100 more are kept while they wait for their evaluation; \
         the log says if one is removed without. With train.on_divergence rollback, as many are kept of those whose \
         steps are multiples of train.checkpoint_every.",
    )
    .changeable(),
    field(
        "train.keep_every",
        Int(0, 1_000_000_000),
        "Checkpoints of steps that are multiples of this are kept as well. 0: none.",
    )
    .changeable(),
    field(
        "train.keep_best",
        Bool,
        "Keep the checkpoint with the best accuracy in evaluation as well.",
    )
    .changeable(),
    field(
        "train.divergence_factor",
        Int(0, 1_000_000_000),
        "Training diverges, as it does with a loss that is NaN or infinite, if the total loss is above this times its \
         first one for 10 steps in a row. The first one counts as ln(10), a guess's cross-entropy, if it is lower. 0: \
         no such limit.",
    )
    .changeable(),
    field(
        "train.on_divergence",
        OneOf(&["stop", "rollback"]),
        "What to do when training diverges: its loss is NaN, infinite, or above train.divergence_factor. stop: end \
         with exit code 4. rollback: go back to the last good checkpoint and on with a lower learning rate; a first loss that is wrong \
         ends it all the same.",
    )
    .changeable(),
    field(
        "train.max_rollbacks",
        Int(1, 1_000),
        "After this many rollbacks the run stops; with train.on_divergence rollback only.",
    )
    .changeable(),
    // At 1 the same would happen again.
    field(
        "train.rollback_factor",
        Above(0.0, 0.99),
        "Each rollback multiplies the learning rate by this; with train.on_divergence rollback only.",
    ),
    field(
        "train.restarts",
        Int(0, 1_000_000),
        "How often a trainer that died is started again without a new checkpoint in between. 0: never.",
    )
    .changeable(),
    field(
        "stop.accuracy",
        Within(0.0, 1.0),
        "Training ends at the first checkpoint of train.checkpoint_every with this accuracy in evaluation, such as 0.86: on \
         the validation images where there are any, else on the test images. It waits for the score of each. 0: at none.",
    )
    .changeable(),
    field(
        "stop.patience",
        Int(0, 1_000_000),
        "Training ends after so many scores in a row that are not better than the best before: of the checkpoints of \
         train.checkpoint_every, on the images that stop.accuracy names. It waits for each. 0: it does not.",
    )
    .changeable(),
    // Up to 19 years.
    field(
        "stop.minutes",
        Within(0.0, 1e7),
        "Training ends when all sessions have trained so long, from their first step on; after how many steps that is \
         depends on the machine. 0: never.",
    )
    .changeable(),
    field(
        "eval.tta",
        OneOf(&["none", "mirror", "mirror_translate", "ten_crop"]),
        "Test-time augmentation: the averaged logits of several views of each test image are scored beside those of the \
         central crop. mirror: that and its mirror image. mirror_translate: these count half, both moved by a pixel to the \
         upper left and to the lower right the other half. ten_crop: centre and four corners, and their mirror images.",
    )
    .changeable(),
    field(
        "eval.policy",
        OneOf(&["every", "latest"]),
        "Which checkpoints are evaluated. every: all of them, the oldest first. latest: only the newest at each look, \
         as in the tutorial.",
    )
    .changeable(),
    // At least 10 ms, so that polling never spins; at most a day.
    field(
        "eval.interval_secs",
        Within(0.01, 86_400.0),
        "Seconds between two looks for new checkpoints. The evaluator looks sooner if as many wait as \
         train.keep_checkpoints, or one with stop.accuracy or stop.patience.",
    )
    .changeable(),
    field(
        "eval.batch_size",
        BATCH,
        "Test images that are computed at once. More of them need more memory.",
    )
    .changeable(),
    field(
        "eval.device",
        Device,
        "Where the evaluator computes. auto: on compute.device; if that is auto, too, and compute.devices train, on the last \
         GPU that does not, if there is one.",
    )
    .changeable(),
    field(
        "eval.threads",
        THREADS,
        "Threads of the evaluator's arithmetic. 0: as many as compute.threads.",
    )
    .changeable(),
];

/// Every section and what it is about, in the order of the struct; the top level is "".
pub(super) const SECTIONS: &[(&str, &str)] = &[
    (
        "",
        "An experiment: what differs from the defaults, which are the tutorial's.",
    ),
    ("compute", "Where and how the arithmetic runs."),
    (
        "data",
        "Which images the experiment trains and is evaluated on.",
    ),
    ("data.synthetic", "The synthetic images."),
    (
        "input",
        "What happens to an image on its way into the network.",
    ),
    ("input.contrast", "Bounds of the random contrast factor."),
    ("network", "The network and its initial weights."),
    (
        "network.conv1",
        "The first convolution, stride 1, then relu.",
    ),
    (
        "network.conv2",
        "The second convolution, stride 1, then relu.",
    ),
    ("network.pool", "Both max-poolings."),
    ("network.norm", "Both local response normalisations."),
    ("network.local3", "The first dense layer, then relu."),
    ("network.local4", "The second dense layer, then relu."),
    (
        "network.softmax_linear",
        "The last layer: one unit a class.",
    ),
    ("loss", "What training minimises."),
    (
        "optimizer",
        "What a step makes of the gradient, its learning rate and the moving average of the weights.",
    ),
    (
        "schedule",
        "What the learning rate is multiplied by at each step.",
    ),
    ("average", "The average of the weights, which is evaluated."),
    (
        "train",
        "The training process: how long, how often it reports and saves.",
    ),
    (
        "stop",
        "What ends training before its last step, with a checkpoint and its evaluation.",
    ),
    ("eval", "The evaluation process."),
];
