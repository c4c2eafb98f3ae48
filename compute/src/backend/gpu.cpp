// CUDA graphs, streams and pinned memory as C functions, for gpu.rs.
//
// libtorch's CUDAGraph (ATen/cuda/CUDAGraph.h) is found by name in what libtorch's part for GPUs has loaded: its header
// needs CUDA's, and one program serves a libtorch with that part and one without. Its functions are C++'s, called as the
// Itanium C++ ABI has it (https://itanium-cxx-abi.github.io/cxx-abi/abi.html): a member takes the object's address first.

#include "guarded.hpp"

#include <ATen/core/Tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>

#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using runboard::ErrorText;
using runboard::guarded;

// at::MempoolId_t; {0, 0} is a pool of the graph's own.
using Pool = std::pair<unsigned long long, unsigned long long>;

// cudaStreamCaptureModeThreadLocal: what other threads do of what a capture forbids, such as to pin memory, does not end it.
constexpr int THREAD_LOCAL = 1;

void* loaded(const char* symbol) {
  void* found = dlsym(RTLD_DEFAULT, symbol);
  if (found == nullptr) {
    throw std::runtime_error(std::string("libtorch has no ") + symbol);
  }
  return found;
}

template <typename F>
F function(const char* symbol) {
  return reinterpret_cast<F>(loaded(symbol));
}

struct Functions {
  void (*construct)(void*, bool);
  void (*destroy)(void*);
  void (*capture_begin)(void*, Pool, int);
  void (*capture_end)(void*);
  void (*replay)(void*);
};

const Functions& functions() {
  static const Functions functions = {
      function<void (*)(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb"),
      function<void (*)(void*)>("_ZN2at4cuda9CUDAGraphD1Ev"),
      function<void (*)(void*, Pool, int)>("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode"),
      function<void (*)(void*)>("_ZN2at4cuda9CUDAGraph11capture_endEv"),
      function<void (*)(void*)>("_ZN2at4cuda9CUDAGraph6replayEv"),
  };
  return functions;
}

struct Graph {
  // A CUDAGraph, which has some 200 bytes in libtorch 2.11.
  alignas(std::max_align_t) std::byte object[4096];
  // Where operations went before the capture.
  c10::Stream before;
};

const c10::impl::DeviceGuardImplInterface* guard() {
  return c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
}

// Streams of one GPU, each with an event to wait by.
struct Streams {
  std::vector<std::pair<c10::Stream, c10::Event>> streams;
  // Where operations went before the fork.
  c10::Stream before;
};

// What is issued on `later` from now on comes after what was issued on `earlier`.
void wait(c10::Stream later, c10::Stream earlier, c10::Event& event) {
  event.record(earlier);
  event.block(later);
}

// What the steps before a capture have left in the allocator: a graph takes memory of its own, and a capture gives none back.
void give_back_memory() noexcept {
  try {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
  } catch (const std::exception&) {
    // It stays where it is.
  }
}

} // namespace

// burn-tch calls these two when a program starts, for a linker to keep libtorch_cuda.so. This program loads that by itself,
// where it is (libraries.rs), and has them here for burn-tch alone: a program that took them from there would need it.
namespace at::cuda {
[[gnu::visibility("hidden")]] void* getCurrentCUDABlasHandle() {
  return nullptr;
}
[[gnu::visibility("hidden")]] int warp_size() {
  return 0;
}
} // namespace at::cuda

extern "C" {

// From here on what this thread issues on this GPU is recorded, and not done, and so is what autograd's thread issues for it, which
// takes this thread's stream.
bool runboard_graph_begin(int index, Graph** graph, ErrorText error) noexcept {
  return guarded(error, [&] {
    const Functions& call = functions();
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    guard()->setDevice(device);
    guard()->synchronizeDevice(device.index());
    give_back_memory();
    // Nothing can be recorded on the stream that is the default.
    const c10::Stream stream = guard()->getStreamFromGlobalPool(device, false);
    auto* made = new Graph{{}, guard()->exchangeStream(stream)};
    try {
      call.construct(made->object, false);
      call.capture_begin(made->object, Pool(0, 0), THREAD_LOCAL);
    } catch (...) {
      guard()->exchangeStream(made->before);
      throw; // the graph stays: libtorch's allocator may ask it for what it was to record
    }
    *graph = made;
  });
}

// Once after a begin that succeeded, whether what was recorded succeeded or not. A graph that fails to end is not to be freed:
// libtorch's allocator goes on asking it whether its capture is on.
bool runboard_graph_end(Graph* graph, ErrorText error) noexcept {
  return guarded(error, [&] {
    try {
      functions().capture_end(graph->object);
    } catch (...) {
      guard()->exchangeStream(graph->before);
      throw;
    }
    guard()->exchangeStream(graph->before);
  });
}

// Does what was recorded, on the same memory; nobody waits for it.
bool runboard_graph_replay(Graph* graph, ErrorText error) noexcept {
  return guarded(error, [&] { functions().replay(graph->object); });
}

void runboard_graph_free(Graph* graph) noexcept {
  char text[1];
  guarded(ErrorText{text, sizeof text}, [&] { functions().destroy(graph->object); });
  delete graph;
}

// They are of libtorch's pool of 32, which it hands out in turn.
bool runboard_streams_make(int index, int count, Streams** streams, ErrorText error) noexcept {
  return guarded(error, [&] {
    const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
    auto made = std::make_unique<Streams>(Streams{{}, c10::Stream(c10::Stream::DEFAULT, device)});
    for (int number = 0; number < count; ++number) {
      made->streams.emplace_back(guard()->getStreamFromGlobalPool(device, false), c10::DeviceType::CUDA);
    }
    *streams = made.release();
  });
}

// What is issued on the streams from now on comes after what this thread has issued. In a capture they are part of it until the join.
bool runboard_streams_fork(Streams* streams, ErrorText error) noexcept {
  return guarded(error, [&] {
    streams->before = guard()->getStream(streams->before.device());
    for (auto& [stream, event] : streams->streams) {
      wait(stream, streams->before, event);
    }
  });
}

// Between fork and join: this thread issues on the stream of this number.
bool runboard_streams_enter(Streams* streams, int number, ErrorText error) noexcept {
  return guarded(error, [&] { guard()->exchangeStream(streams->streams.at(number).first); });
}

// This thread issues where it did before the fork, after all that is issued on the streams.
bool runboard_streams_join(Streams* streams, ErrorText error) noexcept {
  return guarded(error, [&] {
    guard()->exchangeStream(streams->before);
    for (auto& [stream, event] : streams->streams) {
      wait(streams->before, stream, event);
    }
  });
}

void runboard_streams_free(Streams* streams) noexcept {
  delete streams;
}

// A copy in memory that a GPU reads by itself. tch's function of that name passes an argument that libtorch warns of each time.
bool runboard_pinned(const at::Tensor* values, at::Tensor** copy, ErrorText error) noexcept {
  return guarded(error, [&] { *copy = new at::Tensor(values->pin_memory()); });
}

} // extern "C"
