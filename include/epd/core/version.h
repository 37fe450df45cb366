#pragma once

namespace epd {

/// The version of the product, such as "0.1.0".
const char* version();

}  // namespace epd
