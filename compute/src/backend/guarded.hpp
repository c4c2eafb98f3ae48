// How the C functions of this directory end: no exception leaves them, and of an error they write the first line, for guarded.rs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>

namespace runboard {

// Where to write an error's text.
struct ErrorText {
  char* text;
  size_t capacity;

  void set(const char* what) const noexcept {
    // c10's errors go on with a backtrace.
    const size_t line = std::strcspn(what, "\n");
    const size_t length = std::min(line, capacity - 1);
    std::memcpy(text, what, length);
    text[length] = '\0';
  }
};

// Whether it succeeds.
template <typename F>
bool guarded(ErrorText error, F body) noexcept {
  try {
    body();
    return true;
  } catch (const std::exception& exception) {
    error.set(exception.what());
  } catch (...) {
    error.set("an exception without a text");
  }
  return false;
}

} // namespace runboard
