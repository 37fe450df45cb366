# The warnings that our own sources are compiled with; never propagated to users of the library.
add_library(epd_warnings INTERFACE)
target_compile_options(epd_warnings INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers -Wno-restrict
                                              -Werror=switch -Werror=return-type)
if(EPD_WERROR)
  target_compile_options(epd_warnings INTERFACE -Werror)
endif()
