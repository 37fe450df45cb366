#include "epd/core/allocator.h"

#include <cstdlib>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace epd {

void keep_freed_memory() {
#if defined(__GLIBC__)
  // Setting one of these also ends glibc's own moving of the threshold, so each is named.
  constexpr int kNeverMap = 1 << 30;
  if (!std::getenv("MALLOC_MMAP_THRESHOLD_")) mallopt(M_MMAP_THRESHOLD, kNeverMap);
  if (!std::getenv("MALLOC_TRIM_THRESHOLD_")) mallopt(M_TRIM_THRESHOLD, kNeverMap);
  if (!std::getenv("MALLOC_TOP_PAD_")) mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace epd
