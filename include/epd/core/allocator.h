#pragma once

namespace epd {

/// Tells the C library's allocator to keep big blocks that were freed instead of handing them back to the kernel.
/// A network allocates and frees the same large activations at every call; by default each of them is mapped, zeroed
/// page by page and unmapped again. Call it once, at the start of `main`. MALLOC_* variables of the user win.
void keep_freed_memory();

}  // namespace epd
