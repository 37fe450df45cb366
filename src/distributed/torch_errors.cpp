#include "torch_errors.h"

#include <c10/util/Exception.h>

#include <new>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"

namespace epd {

void rethrow_as_error() {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const c10::OutOfMemoryError& e) {
    log::debug(e.what());
    throw Error(text("out of memory: try a smaller batch (", one_line(e.what()), ")"));
  } catch (const std::bad_alloc&) {
    throw Error("out of memory: try a smaller batch");
  } catch (const std::exception& e) {
    const std::string what = e.what();
    log::debug(what);
    if (what.find("DefaultCPUAllocator: can't allocate memory") != what.npos) {
      throw Error(text("out of memory: try a smaller batch (", one_line(what), ")"));
    }
    throw Error(one_line(what));
  }
}

}  // namespace epd
