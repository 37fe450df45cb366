#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "epd/core/model_facts.h"

namespace epd::testing {

/// A model that a test makes for itself: a few random convolutions under EDM's preconditioning, saved in the model
/// contract. Small, yet all that a real one is: nonlinear, differentiable, and summed by the same kernels.
struct TinyModelOptions {
  /// The facts that go into the file. The methods that they ask for are made: with `latent` decode() (nearest-neighbour
  /// upsampling; image_resolution must be a multiple of resolution), with `text` encode_text(), with `classifier`
  /// log_prob(), with `guide` guide().
  ModelFacts facts;
  std::uint64_t seed = 1;       // of the random weights
  int width = 8;                // channels inside
  int bad_label = -1;           // where labels are indices: images of this one are not finite
  std::string facts_json;       // written instead of the facts, for files that must be refused
  bool half = false;            // save the network's weights in half precision
  bool without_decode = false;  // leave out what the facts promise, for files that must be refused

  TinyModelOptions();
};

/// Facts of an unconditional 8 x 8 RGB model called `dataset_name`.
ModelFacts tiny_facts(const std::string& dataset_name = "tiny");

/// Writes the model file.
void make_tiny_model(const std::filesystem::path& path, const TinyModelOptions& options = {});

/// Writes a feature network (the detector contract): images [N, 3, H, W] in [0, 255], uint8 or float, to [N, features].
void make_tiny_detector(const std::filesystem::path& path, int features = 8, std::uint64_t seed = 1);

}  // namespace epd::testing
