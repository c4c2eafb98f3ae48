#!/usr/bin/env python3
"""The tutorial's CIFAR-10 network in TensorFlow, to be timed beside runboard (CPU or one GPU).

    pip install tensorflow-cpu==2.21.0
    tf_cifar10.py --data DIR [--batch-size N] [--threads N] [--steps N]

DIR holds CIFAR-10's binary files. Same graph, constants and distortions as the tutorial (24x24 crops, LRN,
SGD 0.1 with staircase decay, weight decay 0.004 on local3 and local4, EMA 0.9999); the input pipeline is
tf.data. Every 10 steps a line. Without --steps it goes on until it is killed.
"""
import argparse, glob, itertools, os, time
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np
import tensorflow as tf2

tf = tf2.compat.v1
tf.disable_eager_execution()
a = argparse.ArgumentParser()
a.add_argument("--data", required=True)
a.add_argument("--batch-size", type=int, default=128)
a.add_argument("--threads", type=int, default=os.cpu_count())
a.add_argument("--steps", type=int, default=0)
a = a.parse_args()


def load(pattern):
    raw = np.concatenate([np.fromfile(f, np.uint8) for f in sorted(glob.glob(os.path.join(a.data, pattern)))])
    raw = raw.reshape(-1, 3073)
    return raw[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy(), raw[:, 0].astype(np.int32)


def distort(image, label):
    image = tf.image.random_crop(tf.cast(image, tf.float32), [24, 24, 3])
    image = tf.image.random_flip_left_right(image)
    image = tf.image.random_brightness(image, max_delta=63)
    image = tf.image.random_contrast(image, lower=0.2, upper=1.8)
    return tf.image.per_image_standardization(image), label


train_x, train_y = load("data_batch_*.bin")
px, py = tf.placeholder(tf.uint8, train_x.shape), tf.placeholder(tf.int32, train_y.shape)
train_it = tf.data.make_initializable_iterator(
    tf.data.Dataset.from_tensor_slices((px, py)).shuffle(20000).repeat().map(distort, a.threads)
    .batch(a.batch_size, drop_remainder=True).prefetch(4))


def weight(name, shape, stddev):
    return tf.get_variable(name, shape, initializer=tf.truncated_normal_initializer(stddev=stddev))


def bias(name, n, value):
    return tf.get_variable(name, [n], initializer=tf.constant_initializer(value))


def inference(x):
    h = tf.nn.relu(tf.nn.conv2d(x, weight("conv1/weights", [5, 5, 3, 64], 5e-2), [1, 1, 1, 1], "SAME") + bias("conv1/biases", 64, 0.0))
    h = tf.nn.max_pool(h, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
    h = tf.nn.lrn(h, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
    h = tf.nn.relu(tf.nn.conv2d(h, weight("conv2/weights", [5, 5, 64, 64], 5e-2), [1, 1, 1, 1], "SAME") + bias("conv2/biases", 64, 0.1))
    h = tf.nn.lrn(h, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)
    h = tf.nn.max_pool(h, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
    h = tf.reshape(h, [-1, 6 * 6 * 64])
    h = tf.nn.relu(tf.matmul(h, weight("local3/weights", [2304, 384], 0.04)) + bias("local3/biases", 384, 0.1))
    h = tf.nn.relu(tf.matmul(h, weight("local4/weights", [384, 192], 0.04)) + bias("local4/biases", 192, 0.1))
    return tf.matmul(h, weight("softmax_linear/weights", [192, 10], 1 / 192.0)) + bias("softmax_linear/biases", 10, 0.0)


x, y = train_it.get_next()
logits = inference(x)
decayed = [v for v in tf.trainable_variables() if v.op.name in ("local3/weights", "local4/weights")]
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)) + 0.004 * sum(tf.nn.l2_loss(v) for v in decayed)
step = tf.train.get_or_create_global_step()
rate = tf.train.exponential_decay(0.1, step, int(50000 / a.batch_size * 350), 0.1, staircase=True)
descend = tf.train.GradientDescentOptimizer(rate).minimize(loss, global_step=step)
ema = tf.train.ExponentialMovingAverage(0.9999, step)
with tf.control_dependencies([descend]):
    train_op = ema.apply(tf.trainable_variables())

config = tf.ConfigProto(intra_op_parallelism_threads=a.threads, inter_op_parallelism_threads=a.threads)
with tf.Session(config=config) as session:
    session.run(tf.global_variables_initializer())
    session.run(train_it.initializer, {px: train_x, py: train_y})
    since = time.perf_counter()
    for i in range(1, a.steps + 1) if a.steps else itertools.count(1):
        _, value = session.run([train_op, loss])
        if i % 10 == 0:
            sec = (time.perf_counter() - since) / 10
            print(f"step {i}, loss = {value:.2f} ({a.batch_size / sec:.1f} examples/sec; {sec:.4f} sec/batch)", flush=True)
            since = time.perf_counter()
