// What libtorch's operations may round and choose on a GPU, as C functions for context.rs.

#include <ATen/Context.h>

#include <exception>

extern "C" {

// No exception leaves this file; what cannot be set stays as it is, and the caller is told.
bool runboard_context_set(
    bool tf32_products,
    bool tf32_convolutions,
    bool deterministic) noexcept {
  try {
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
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

// Bits: TensorFloat-32 in products, in convolutions, cuDNN's benchmark, deterministic.
int runboard_context_get() noexcept {
  try {
    const at::Context& context = at::globalContext();
    return (context.allowTF32CuBLAS() ? 1 : 0) | (context.allowTF32CuDNN() ? 2 : 0) |
        (context.benchmarkCuDNN() ? 4 : 0) |
        (context.deterministicAlgorithms() && context.deterministicCuDNN() ? 8 : 0);
  } catch (const std::exception&) {
    return -1;
  }
}

} // extern "C"
