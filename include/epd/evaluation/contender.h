#pragma once

#include <string>
#include <vector>

#include "epd/core/model_facts.h"
#include "epd/sampling/method.h"

namespace epd {

/// One way to draw images in a comparison: a row of its table.
struct Contender {
  std::string name;  // what the table calls it
  MethodOptions method;
};

/// Reads "dpmpp:2@time_uniform:0.7": a classical solver, its order if not its highest, its schedule if not `schedule`,
/// and the schedule's exponent if not the usual (7 for polynomial, else 1).
/// With `nfe` serial evaluations: num_steps follows, and solvers of two evaluations a step use AFS for an odd number.
/// "dpmpp:2+mean" begins with the mean of the data in place of the first evaluation.
/// Throws UsageError for what it cannot read, and where the solver cannot take so few evaluations.
Contender read_contender(const std::string& text, int nfe, ScheduleKind schedule);

/// A predictor as a contender: a file, folder or number; "path=name" gives it a name in the table.
Contender predictor_contender(const std::string& text);

/// A plan file as a contender, named likewise.
Contender plan_contender(const std::string& text);

/// The solver of such a text without a schedule, on listed times.
Contender listed_contender(const std::string& solver, const std::string& sigmas);

/// Every predictor among the shipped ones, of exp and its zoo, that was made for the model.
std::vector<Contender> zoo_contenders(const ModelFacts& facts);

/// What the table calls the exact images, drawn by the contender of this name: "ipndm(4)" -> reference (iPNDM-4, 24
/// NFE).
std::string reference_name(std::string solver, int nfe);

/// The schedule of a method as the table shows it: time_uniform, polynomial 7, ...
std::string schedule_text(const Method& method);

}  // namespace epd
