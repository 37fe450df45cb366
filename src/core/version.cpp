#include "epd/core/version.h"

namespace epd {

const char* version() { return EPD_VERSION; }

}  // namespace epd
