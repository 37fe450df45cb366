#pragma once

#include <filesystem>

#include "epd/core/model_facts.h"

namespace epd::testing {

/// Facts of a 4 x 4 RGB model of the closed mixtures (closed_denoisers.h): integer labels 0 to 2, and a clock of its
/// own, so that every schedule fits it.
ModelFacts mixture_facts();

/// Writes these mixtures as a model file. It computes in the dtype of x.
void make_mixture_model(const std::filesystem::path& path, const ModelFacts& facts = mixture_facts());

}  // namespace epd::testing
