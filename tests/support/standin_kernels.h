#pragma once

#include <ATen/core/Generator.h>
#include <c10/core/Storage.h>

#include <cstddef>

namespace standin {

/// The CPU's generator inside one of a device.
at::Generator generator_of_kernels(const at::Generator& generator);

/// Gives the storage of a device another size; what fits stays.
void resize_storage(const c10::Storage& storage, std::size_t bytes);

}  // namespace standin
