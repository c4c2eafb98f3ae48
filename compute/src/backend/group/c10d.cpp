// libtorch's process groups (c10d: a store, and Gloo's collective operations) as C functions, for ffi.rs.
//
// Every function that can fail returns whether it succeeded; if not, the first line of what was wrong is in `error`.
// No exception leaves this file. What goes over the network lies in tensors. A broadcast's are shared in owning by the thread of the
// group that does it, which may still be at it after an error. A send's or a receive's go with its Work: that holds Gloo's UnboundBuffer, whose
// ShareableNonOwningPtr (gloo/common/memory.h) waits, when it is destroyed, until none of Gloo's threads is at the memory, and lets none in.

#include "../guarded.hpp"

#include <c10/util/Flags.h>
#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

C10_DECLARE_int(caffe2_log_level);

namespace {

using runboard::ErrorText;
using std::chrono::milliseconds;

struct Store {
  c10::intrusive_ptr<c10d::Store> store;
};

struct Gloo {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
  // Bytes of a broadcast, and numbers of an exchange as bytes; each as long as the longest operation so far.
  at::Tensor input;
  at::Tensor output;
  // Of the next exchange. All ranks make the same ones in the same order.
  int tag = 0;
  // Whether a rank sends before it receives.
  bool sends_first = false;
};

template <typename F>
bool quietly_guarded(ErrorText error, F body) noexcept {
  return runboard::guarded(error, [&] {
    // What libtorch logs of an error, with a backtrace, is in the error too.
    if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) {
      FLAGS_caffe2_log_level = c10::GLOG_FATAL;
    }
    body();
  });
}

// At least `length` bytes, and one, as no bytes have no address.
at::Tensor& reserve(at::Tensor& tensor, int64_t length) {
  if (!tensor.defined() || tensor.numel() < length) {
    tensor = at::zeros({std::max<int64_t>(length, 1)}, at::kByte);
  }
  return tensor;
}

// The first `count` numbers of bytes, of the kind of `values`.
at::Tensor numbers(const at::Tensor& bytes, int64_t count, const at::Tensor& values) {
  return bytes.narrow(0, 0, count * values.element_size()).view(values.scalar_type());
}

// Send a part to each other rank and receive one of each. So the values go from where they lie to where they belong: Gloo's own
// all-gather makes two copies of them on the way, and hands each operation to another thread.
//
// A send writes at once, in this thread, if the other rank has told that it receives; else Gloo's thread does when it hears so. Over a
// network a rank tells so before it sends: behind its own part the word would come too late, and the parts travel one after the other.
// On loopback a part is sent in no time, but this thread holds the connection's lock meanwhile. If something comes then, Gloo's thread,
// which only tries that lock, asks the kernel again and again, on a core that others compute on. There sends are to come first: nothing
// comes before this rank has told that it receives.
void exchange(Gloo& gloo, const std::vector<at::Tensor>& to, const std::vector<at::Tensor>& from) {
  const int ranks = gloo.group->getSize();
  const int own = gloo.group->getRank();
  const int tag = gloo.tag;
  gloo.tag = (tag + 1) % (1 << 30);
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (const bool sends : {gloo.sends_first, !gloo.sends_first}) {
    for (int rank = 0; rank < ranks; ++rank) {
      if (rank != own) {
        std::vector<at::Tensor> part{sends ? to[rank] : from[rank]};
        works.push_back(sends ? gloo.group->send(part, rank, tag) : gloo.group->recv(part, rank, tag));
      }
    }
  }
  for (const auto& work : works) {
    work->wait();
  }
}

} // namespace

extern "C" {

// A store in the process of rank 0, which takes over the listening socket, also if it fails.
bool runboard_store_serve(int socket, uint16_t port, const char* host, int64_t timeout_ms, Store** store, ErrorText error) {
  return quietly_guarded(error, [&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = true;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    options.masterListenFd = socket;
    *store = new Store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

bool runboard_store_join(uint16_t port, const char* host, int64_t timeout_ms, Store** store, ErrorText error) {
  return quietly_guarded(error, [&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.waitWorkers = false;
    options.timeout = milliseconds(timeout_ms);
    *store = new Store{c10::make_intrusive<c10d::TCPStore>(host, options)};
  });
}

bool runboard_store_open(const char* path, int world, int64_t timeout_ms, Store** store, ErrorText error) {
  return quietly_guarded(error, [&] {
    auto file = c10::make_intrusive<c10d::FileStore>(path, world);
    file->setTimeout(milliseconds(timeout_ms));
    // Never freed: c10d's destructor writes into the file. A process that is killed while it does leaves half a value there,
    // at whose end all others read forever. Who made the file's directory removes it.
    c10::intrusive_ptr<c10d::FileStore>(file).release();
    *store = new Store{std::move(file)};
  });
}

void runboard_store_free(Store* store) {
  try {
    delete store;
  } catch (...) {
  }
}

bool runboard_store_set(Store* store, const char* key, const uint8_t* value, size_t length, ErrorText error) {
  return quietly_guarded(error, [&] { store->store->set(key, std::vector<uint8_t>(value, value + length)); });
}

bool runboard_store_add(Store* store, const char* key, int64_t* value, ErrorText error) {
  return quietly_guarded(error, [&] { *value = store->store->add(key, *value); });
}

bool runboard_store_has(Store* store, const char* key, bool* has, ErrorText error) {
  return quietly_guarded(error, [&] { *has = store->store->check({key}); });
}

// The value's length is in `length`, and as much of it as there is room for in `value`.
bool runboard_store_get(Store* store, const char* key, uint8_t* value, size_t capacity, size_t* length, ErrorText error) {
  return quietly_guarded(error, [&] {
    const std::vector<uint8_t> found = store->store->get(key);
    *length = found.size();
    std::copy_n(found.begin(), std::min(found.size(), capacity), value);
  });
}

bool runboard_gloo_new(Store* store, int rank, int world, const char* address, bool sends_first, int64_t timeout_ms, Gloo** gloo, ErrorText error) {
  return quietly_guarded(error, [&] {
    auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(timeout_ms));
    options->threads = 1;
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address, /*lazyInit=*/false));
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(store->store, rank, world, options);
    *gloo = new Gloo{std::move(group), {}, {}, 0, sends_first};
  });
}

void runboard_gloo_free(Gloo* gloo) {
  try {
    delete gloo;
  } catch (...) {
  }
}

// Room for `input` and `output` bytes; both stay where they are until the next call.
bool runboard_gloo_reserve(Gloo* gloo, int64_t input, int64_t output, uint8_t** in, uint8_t** out, ErrorText error) {
  return quietly_guarded(error, [&] {
    *in = reserve(gloo->input, input).data_ptr<uint8_t>();
    *out = reserve(gloo->output, output).data_ptr<uint8_t>();
  });
}

// The first part of `values`, of equal parts for each rank, is for rank 0, the next one for rank 1 and so on; in the output
// lie that of rank 0 for this rank, that of rank 1 for it and so on. There is nothing in this rank's own place.
bool runboard_gloo_all_to_all(Gloo* gloo, const at::Tensor* values, ErrorText error) {
  return quietly_guarded(error, [&] {
    const std::vector<at::Tensor> parts = values->chunk(gloo->group->getSize());
    const std::vector<at::Tensor> output = numbers(gloo->output, values->numel(), *values).chunk(gloo->group->getSize());
    exchange(*gloo, parts, output);
  });
}

// Each other rank gets all of `values`; in the output lie those of rank 0, those of rank 1 and so on, and nothing in this rank's
// own place.
bool runboard_gloo_exchange(Gloo* gloo, const at::Tensor* values, ErrorText error) {
  return quietly_guarded(error, [&] {
    const int ranks = gloo->group->getSize();
    const at::Tensor output = numbers(gloo->output, values->numel() * ranks, *values);
    exchange(*gloo, std::vector<at::Tensor>(ranks, *values), output.chunk(ranks));
  });
}

// Part r of `values` is replaced by rank r's own part r.
bool runboard_gloo_all_gather(Gloo* gloo, const at::Tensor* values, ErrorText error) {
  return quietly_guarded(error, [&] {
    const int ranks = gloo->group->getSize();
    const std::vector<at::Tensor> parts = values->chunk(ranks);
    exchange(*gloo, std::vector<at::Tensor>(ranks, parts[gloo->group->getRank()]), parts);
  });
}

// The input's first `length` bytes become those of rank 0.
bool runboard_gloo_broadcast(Gloo* gloo, int64_t length, ErrorText error) {
  return quietly_guarded(error, [&] {
    std::vector<at::Tensor> tensors{gloo->input.narrow(0, 0, length)};
    gloo->group->broadcast(tensors)->wait();
  });
}

bool runboard_gloo_barrier(Gloo* gloo, ErrorText error) {
  return quietly_guarded(error, [&] { gloo->group->barrier()->wait(); });
}

} // extern "C"
