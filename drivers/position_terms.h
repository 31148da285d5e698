// The position terms of a case's scores, the same on every rank: what they are made of, what the kernels
// read, and their gradients.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/attention_backward.h"
#include "kernels/pattern.h"
#include "suite/case.h"

namespace longseq {

template <class A>
struct PositionParameters {
  // Parameters; empty where the position term has none of the kind.
  std::vector<A> digit_weights;     // elan: (heads, digits)
  std::vector<A> relative_weights;  // relative: W_R, (width, heads·head_dim)
  std::vector<A> content_bias;      // relative: u, (heads, head_dim)
  std::vector<A> position_bias;     // relative: v, (heads, head_dim)
  // What scores are made with: the distance bias (learned: itself a parameter), and relative keys.
  std::vector<A> table;
  std::int64_t reach = 0;
  Tensor<A> r;
  Interval distances;    // of r
  bool trained = false;  // there are parameters, which have gradients

  PositionTerms<A> terms() const;
};

/// One rank's share of the gradients of what scores are made with.
template <class A>
class PositionGradients {
 public:
  PositionGradients() = default;
  /// Of nothing, unless the parameters are trained.
  explicit PositionGradients(const PositionParameters<A>& parameters);
  TermGradients<A> views();
  /// No NaN or ∞ in any of them.
  bool finite() const;

  std::vector<A> table, content_bias, position_bias;
  Tensor<A> r;
};

/// Random parameters of the case's position term, by its seed; W_R takes sinusoids of heads·head_dim numbers,
/// or one more where that is odd.
template <class A>
void draw_position_parameters(const Case& c, PositionParameters<A>& parameters);

/// Fills in what follows from the parameters and from the distances that the pattern sees.
template <class A>
void make_position_terms(const Case& c, const Pattern& pattern, PositionParameters<A>& parameters);

/// Digits of the longest distance of a sequence.
std::int64_t distance_digits(std::int64_t seq_len);

/// Bytes of all of this on one rank, and of what it takes to make it. Learned tables and W_R count as
/// draw_position_parameters() makes them; attend adds what its file has beyond that.
std::int64_t position_bytes(const Case& c, const Pattern& pattern, std::int64_t accumulator_bytes,
                            int threads);

}  // namespace longseq
