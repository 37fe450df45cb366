# LibTorch as the target epd_torch. Torch_DIR (or CMAKE_PREFIX_PATH) says where; cmake/setup.sh finds it for launch.sh.
# Torch's own CMake files probe for a GPU unless the architectures are named, and link against CUDA when it was built so.
if(NOT DEFINED TORCH_CUDA_ARCH_LIST AND NOT DEFINED ENV{TORCH_CUDA_ARCH_LIST})
  set(TORCH_CUDA_ARCH_LIST "8.0;8.6;8.9;9.0" CACHE STRING "GPU architectures that find_package(Torch) is told")
endif()
find_package(Torch 2.7 REQUIRED)

add_library(epd_torch INTERFACE)
# The C++ library comes first: LibTorch's shared libraries export parts of an older std::filesystem of their own, whose
# remove_all crashes.
target_link_libraries(epd_torch INTERFACE stdc++ torch)
if(TORCH_CXX_FLAGS)
  target_compile_options(epd_torch INTERFACE ${TORCH_CXX_FLAGS})
endif()

# A pip wheel keeps cuDNN, NCCL and the rest beside torch/, in nvidia/*/lib: found at link time and at run time there,
# not in whatever CUDA ldconfig knows.
get_filename_component(EPD_TORCH_ROOT "${TORCH_INSTALL_PREFIX}" REALPATH)
file(GLOB EPD_WHEEL_LIBRARY_DIRS LIST_DIRECTORIES true "${EPD_TORCH_ROOT}/../nvidia/*/lib")
set(EPD_TORCH_LIBRARY_DIRS "${EPD_TORCH_ROOT}/lib" ${EPD_WHEEL_LIBRARY_DIRS})
foreach(dir IN LISTS EPD_WHEEL_LIBRARY_DIRS)
  target_link_options(epd_torch INTERFACE "LINKER:-rpath-link,${dir}")
endforeach()
set(CMAKE_BUILD_RPATH ${EPD_TORCH_LIBRARY_DIRS})

# NCCL's collectives, where LibTorch was built with CUDA and nccl.h is at hand.
file(GLOB EPD_NCCL_INCLUDE_DIR LIST_DIRECTORIES true "${EPD_TORCH_ROOT}/../nvidia/nccl/include")
if(NOT EPD_NCCL_INCLUDE_DIR)
  find_path(EPD_NCCL_INCLUDE_DIR nccl.h PATHS /usr/local/cuda/include)
endif()
set(EPD_HAVE_NCCL OFF)
if(TORCH_CUDA_LIBRARIES AND EPD_NCCL_INCLUDE_DIR)
  set(EPD_HAVE_NCCL ON)
endif()
