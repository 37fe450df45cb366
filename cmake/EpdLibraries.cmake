# What epd_base links, from the system's packages; cmake/setup.sh installs them or names the command. It is installed
# beside the library, whose users need the same.
find_package(spdlog REQUIRED)
find_package(JPEG REQUIRED)
find_package(PNG REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ICU REQUIRED COMPONENTS i18n uc)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBZIP REQUIRED IMPORTED_TARGET libzip)
pkg_check_modules(LIBARCHIVE REQUIRED IMPORTED_TARGET libarchive)
pkg_check_modules(LIBDEFLATE REQUIRED IMPORTED_TARGET libdeflate)
find_package(nlohmann_json 3.10 REQUIRED)
find_library(EPD_CSV_LIBRARY csv REQUIRED)

add_library(epd_csv INTERFACE IMPORTED)
target_link_libraries(epd_csv INTERFACE ${EPD_CSV_LIBRARY})
