#include "epd/sampling/common_options.h"

#include "epd/core/error.h"
#include "epd/files/options_json.h"

namespace epd {

void require_same_record(ProcessGroup& group, const Json& record) {
  const std::string here = record.dump(), root = group.broadcast_bytes(here, "comparing options");
  EPD_REQUIRE(here == root, "the options differ between the processes: ", first_difference(root, here),
              " (there: rank 0, here: rank ", group.rank(), "); start all processes with the same options and files");
}

}  // namespace epd
