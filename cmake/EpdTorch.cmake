# LibTorch as the target epd_torch. Torch_DIR (or CMAKE_PREFIX_PATH) says where; cmake/setup.sh finds it for launch.sh.
#
# The libraries are named here, one by one: Torch's own CMake package insists on a CUDA toolkit with nvcc wherever
# LibTorch was built for GPUs, although nothing of ours is compiled for them and the pip wheel brings what it runs with.
if(NOT Torch_DIR)
  find_path(Torch_DIR TorchConfig.cmake PATH_SUFFIXES share/cmake/Torch)
endif()
if(NOT EXISTS "${Torch_DIR}/TorchConfig.cmake")
  message(FATAL_ERROR "LibTorch not found: set Torch_DIR to the folder of TorchConfig.cmake, or call ./launch.sh build")
endif()
get_filename_component(TORCH_INSTALL_PREFIX "${Torch_DIR}/../../.." REALPATH)

foreach(file torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(EXISTS "${TORCH_INSTALL_PREFIX}/include/${file}")
    file(STRINGS "${TORCH_INSTALL_PREFIX}/include/${file}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" numbers "${lines}")
    list(JOIN numbers "." Torch_VERSION)
    break()
  endif()
endforeach()
if(NOT Torch_VERSION VERSION_GREATER_EQUAL 2.7)
  message(FATAL_ERROR "LibTorch 2.7 or newer is needed, ${TORCH_INSTALL_PREFIX} is '${Torch_VERSION}'")
endif()
message(STATUS "Found LibTorch ${Torch_VERSION}: ${TORCH_INSTALL_PREFIX}")

set(torch_lib "${TORCH_INSTALL_PREFIX}/lib")
add_library(epd_torch INTERFACE IMPORTED)
target_include_directories(epd_torch SYSTEM INTERFACE "${TORCH_INSTALL_PREFIX}/include"
                                                      "${TORCH_INSTALL_PREFIX}/include/torch/csrc/api/include")
target_compile_definitions(epd_torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
# The C++ library comes first: LibTorch's shared libraries export parts of an older std::filesystem of their own, whose
# remove_all crashes. libtorch.so is kept although nothing names it: it is what brings the GPU's kernels along.
target_link_libraries(epd_torch INTERFACE stdc++ "-Wl,--push-state,--no-as-needed" "${torch_lib}/libtorch.so"
                                          "-Wl,--pop-state" "${torch_lib}/libtorch_cpu.so" "${torch_lib}/libc10.so")

# A pip wheel keeps cuDNN, NCCL and the rest beside torch/, in nvidia/*: found at link time and at run time there, not in
# whatever CUDA ldconfig knows.
file(GLOB wheel_libs LIST_DIRECTORIES true "${TORCH_INSTALL_PREFIX}/../nvidia/*/lib")
foreach(folder IN LISTS wheel_libs)
  target_link_options(epd_torch INTERFACE "LINKER:-rpath-link,${folder}")
endforeach()
set(CMAKE_BUILD_RPATH "${torch_lib}" ${wheel_libs})

# NCCL's collectives, where LibTorch was built with CUDA and the headers are at hand. The wheel of torch brings all of
# them but CUDA's crt/ and nv/, which are in a CUDA toolkit or in the wheels nvidia-cuda-crt and nvidia-cuda-cccl.
# Without them the CPU's collectives serve GPUs too.
set(EPD_HAVE_NCCL OFF)
if(EXISTS "${torch_lib}/libtorch_cuda.so")
  file(GLOB wheel_includes LIST_DIRECTORIES true "${TORCH_INSTALL_PREFIX}/../nvidia/*/include")
  find_path(EPD_NCCL_INCLUDE_DIR nccl.h HINTS ${wheel_includes} PATHS /usr/local/cuda/include)
  find_path(EPD_CUDA_INCLUDE_DIR crt/host_config.h HINTS ${wheel_includes} PATHS /usr/local/cuda/include)
  find_path(EPD_CCCL_INCLUDE_DIR nv/target HINTS ${wheel_includes} PATHS /usr/local/cuda/include PATH_SUFFIXES cccl)
  if(EPD_NCCL_INCLUDE_DIR AND EPD_CUDA_INCLUDE_DIR AND EPD_CCCL_INCLUDE_DIR)
    set(EPD_HAVE_NCCL ON)
    set(EPD_NCCL_INCLUDE_DIRS "${EPD_NCCL_INCLUDE_DIR}" "${EPD_CUDA_INCLUDE_DIR}" "${EPD_CCCL_INCLUDE_DIR}" ${wheel_includes})
    target_link_libraries(epd_torch INTERFACE "${torch_lib}/libtorch_cuda.so" "${torch_lib}/libc10_cuda.so")
  endif()
endif()
message(STATUS "NCCL: ${EPD_HAVE_NCCL}")
