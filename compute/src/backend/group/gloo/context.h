// What libtorch's ProcessGroupGloo.hpp names of Gloo (https://github.com/pytorch/gloo), whose headers libtorch's wheel
// does not have. Only declarations: the code is in libtorch, and no object of these types is made or read here.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

} // namespace gloo
