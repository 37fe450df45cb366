#include "backends.h"

namespace epd {

c10::intrusive_ptr<c10d::Backend> nccl_backend(const c10::intrusive_ptr<c10d::Store>&, int, int,
                                               std::chrono::milliseconds) {
  return nullptr;
}

}  // namespace epd
