// What libtorch's operations may round and choose on a GPU, as C functions for context.rs.

#include "guarded.hpp"

#include <ATen/Context.h>

using runboard::ErrorText;
using runboard::guarded;

extern "C" {

// What cannot be set stays as it is.
bool runboard_context_set(
    bool tf32_products,
    bool tf32_convolutions,
    bool deterministic,
    ErrorText error) noexcept {
  return guarded(error, [&] {
    at::Context& context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32_products);
    context.setAllowTF32CuDNN(tf32_convolutions);
    // cuDNN times its algorithms when it first meets a shape. Which is fastest may change from process to process,
    // and with it the last bits.
    context.setBenchmarkCuDNN(!deterministic);
    context.setDeterministicCuDNN(deterministic);
    // Operations that have no other way warn, and go on.
    context.setDeterministicAlgorithms(deterministic, /*warn_only=*/true);
    context.setDeterministicFillUninitializedMemory(false);
  });
}

// Bits: TensorFloat-32 in products, in convolutions, cuDNN's benchmark, deterministic.
bool runboard_context_get(int* bits, ErrorText error) noexcept {
  return guarded(error, [&] {
    const at::Context& context = at::globalContext();
    *bits = (context.allowTF32CuBLAS() ? 1 : 0) | (context.allowTF32CuDNN() ? 2 : 0) |
        (context.benchmarkCuDNN() ? 4 : 0) |
        (context.deterministicAlgorithms() && context.deterministicCuDNN() ? 8 : 0);
  });
}

} // extern "C"
