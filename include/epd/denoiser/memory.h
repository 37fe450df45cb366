#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "epd/denoiser/open_model.h"

/// What a run needs of a device's memory, found before it: the run itself on tensors without data. They lie on the
/// device `meta`, where an operation only finds the shape of its result; a network of a billion numbers takes a moment.
namespace epd {

/// The most bytes that `work` holds at one time in tensors on the device `meta`, beside those that were there before.
/// What it copies to the CPU is ones, or of integers zeros. One thread at a time.
std::int64_t peak_bytes(const std::function<void()>& work);

/// Bytes that tensors on the device `meta` hold now.
std::int64_t held_bytes();

/// The peak for `images`, of which `work` takes any number: found with one and with two chunks, and continued from
/// there, for each further chunk adds what the second one did.
std::int64_t peak_bytes(std::int64_t images, std::int64_t chunk, const std::function<void(std::int64_t)>& work);

/// Bytes at the peak, and what they are made of.
struct MemoryNeed {
  std::int64_t total = 0;
  std::int64_t weights = 0;  // of all networks
  std::int64_t chunk = 0;    // one chunk of images at all its points: activations, in training with the gradients'
  std::int64_t decoder = 0;  // one pass of it; 0: none
  std::int64_t library = 0;  // a GPU's context and work space of its libraries

  /// One line: "memory: 5.31 GiB (weights 0.21, a chunk 3.61, CUDA 0.60)".
  std::string text() const;
};

/// Its text; where it cannot be found, as for a network with an operation of its own: "memory: not known (why)".
std::string text_or_why(const std::function<MemoryNeed()>& need);

/// The model as a run with these options has it on their device, without data.
OpenedModel open_without_data(ModelOptions options);

/// Nothing, but of the shapes that the network wants for so many images.
Condition blank_condition(const ModelFacts& facts, std::int64_t images, at::Device device);

/// Bytes of one chunk at `num_points` points: D alone, or with its gradients.
std::int64_t chunk_bytes(const OpenedModel& model, std::int64_t chunk, std::int64_t num_points, bool gradients);

/// What a GPU's context and libraries take beside tensors.
std::int64_t library_bytes(at::Device device);

/// What a forward of D is asked for.
struct ChunkUse {
  std::int64_t num_points = 1;
  bool gradients = false;
  std::int64_t most = 64;  // images of up to 64x64 that gain speed on a GPU; of larger ones as many pixels
};

/// `model.chunks.chunk`, or for 0 the default: 16 images on the CPU; elsewhere `most`, halved until they fit well into
/// the device's memory.
std::int64_t chunk_that_fits(const ModelOptions& model, const ChunkUse& use);

}  // namespace epd
