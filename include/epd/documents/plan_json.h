#pragma once

#include <string>
#include <string_view>

#include "epd/solver/plan.h"

namespace epd {

/// A whole plan with its coefficients as JSON, for other engines and independent checks (tests/solver/run_plan.py runs
/// one in twenty lines of NumPy):
///   format "epd-plan", version 1, solver    a name for people
///   nfe, evaluations, cost_factor           counts; they include the cost factor, 2 under classifier-free guidance
///   num_registers                           register 0 holds the start state x(times[0])
///   mean            the register that holds the mean of the data, where the plan needs it
///   times, grid                             noise levels, and the register of the state at each
///   steps [{t_cur, t_next, afs, first, last}]    instructions [first, last) belong to the step
///   instructions, in order, each one of
///     {combine: target, registers, coefficients}     r[target] = sum_i coefficients[i] r[registers[i]]
///     {evaluate: [targets], states, sigmas}          r[targets[k]] = D(r[states[k]]; sigmas[k]), one forward for all k
/// Every register is written once, before it is read. Numbers read back unchanged.
std::string plan_json(const Plan<double>& plan, std::string_view solver, int cost_factor = 1);

}  // namespace epd
