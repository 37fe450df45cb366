include(GoogleTest)

# A test's own code need not be fast, and the large headers are read once for all tests of its kind: by the target that is
# the first of them.
function(epd_compile_as_test target libraries)
  target_compile_options(${target} PRIVATE -O0)
  set(headers <gmock/gmock.h>)
  set(first epd_base_test)
  if(NOT libraries MATCHES "^epd_base")
    set(first epd_torch_test)
    list(PREPEND headers <ATen/ATen.h>)
  endif()
  get_property(owner GLOBAL PROPERTY ${first})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    target_precompile_headers(${target} PRIVATE ${headers})
    set_property(GLOBAL PROPERTY ${first} ${target})
  endif()
endfunction()

# epd_add_test(NAME name SOURCES file... [LIBRARIES target...] [LABELS label]): one GoogleTest program, each of its tests known to ctest.
function(epd_add_test)
  cmake_parse_arguments(arg "" "NAME;LABELS" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${arg_NAME} ${arg_SOURCES})
  target_link_libraries(${arg_NAME} PRIVATE ${arg_LIBRARIES} epd_warnings GTest::gmock GTest::gtest_main)
  target_include_directories(${arg_NAME} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  epd_compile_as_test(${arg_NAME} "${arg_LIBRARIES}")
  target_compile_definitions(${arg_NAME} PRIVATE EPD_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                                 EPD_BINARY_DIR="${PROJECT_BINARY_DIR}"
                                                 EPD_PYTHON="${EPD_PYTHON}")
  set(properties TIMEOUT 600 ENVIRONMENT GOMP_SPINCOUNT=1000)  # apps/short_spin.cpp says why
  if(arg_LABELS)
    list(APPEND properties LABELS ${arg_LABELS})
  endif()
  # A test's last name is the one that its suite's name generator gives it.
  gtest_discover_tests(${arg_NAME} NO_PRETTY_VALUES DISCOVERY_TIMEOUT 120 PROPERTIES ${properties})
endfunction()
