# `cmake --install` puts the libraries, their headers and the package for find_package(epd) into place.
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/epd)
set_target_properties(epd_base PROPERTIES EXPORT_NAME base)
install(TARGETS epd_base EXPORT epdBase)
install(EXPORT epdBase NAMESPACE epd:: DESTINATION ${package})
if(EPD_WITH_TORCH)
  install(TARGETS epd EXPORT epdEpd)
  install(EXPORT epdEpd NAMESPACE epd:: DESTINATION ${package})
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/epdConfig.cmake.in ${PROJECT_BINARY_DIR}/epdConfig.cmake
                              INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/epdConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/EpdLibraries.cmake ${PROJECT_SOURCE_DIR}/cmake/EpdTorch.cmake
              ${PROJECT_BINARY_DIR}/epdConfig.cmake ${PROJECT_BINARY_DIR}/epdConfigVersion.cmake DESTINATION ${package})
