// For tests: random attention problems with their answers from the f64 reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/attention_backward.h"
#include "kernels/attention_reference.h"
#include "kernels/random.h"

namespace longseq {

struct Problem {
  Pattern pattern;
  Shape queries;
  Shape keys;
  double magnitude = 1;          // of q and k
  double growth = 0;             // of k along its tokens: the last are 1 + growth times as large
  std::int64_t bias_reach = -1;  // negative: no distance bias
  std::int64_t distances = 0;    // rows of relative keys; 0: none
  std::int64_t first_distance = 0;
};

/// `seq_len` tokens at most, and sometimes very few.
inline Problem random_problem(Random& random, std::int64_t seq_len) {
  Problem p;
  p.pattern.kind = kPatterns[static_cast<std::size_t>(random.upto(0, 4))].kind;
  p.pattern.causal = random.upto(0, 1) == 1;
  const std::int64_t s = random.upto(0, 3) == 0 ? random.upto(1, 12) : random.upto(1, seq_len);
  p.pattern.seq_len = s;
  p.pattern.window_left = random.upto(0, 70);
  p.pattern.window_right = random.upto(0, 70);
  p.pattern.global_tokens = random.upto(0, std::min<std::int64_t>(9, s));
  p.pattern.segment_length = random.upto(1, 90);
  p.pattern.memory_length = random.upto(0, 90);
  p.pattern.document_starts = {0};
  for (std::int64_t at = random.upto(1, 80); at < s; at += random.upto(1, 80))
    p.pattern.document_starts.push_back(at);
  const std::int64_t kv_heads = random.upto(1, 2);
  constexpr std::int64_t kDims[] = {1, 7, 8, 16, 40, 64, 80, 96, 128, 256};
  const std::int64_t head_dim = kDims[random.upto(0, 9)];
  p.queries = {random.upto(1, 2), kv_heads * random.upto(1, 3), s, head_dim};
  p.keys = {p.queries.batch, kv_heads, s, head_dim};
  p.magnitude = random.upto(0, 4) == 0 ? 30.0 : 1.0;
  if (random.upto(0, 2) == 0) p.bias_reach = random.upto(0, 50);
  if (random.upto(0, 2) == 0) {
    p.distances = random.upto(1, 2 * s);
    p.first_distance = random.upto(-s, s / 2);
  }
  return p;
}

/// A tensor in the type of the kernels and, the same numbers, in that of the reference.
template <class T>
struct Twin {
  Tensor<T> own;
  Tensor<double> exact;

  Twin(const Shape& shape, Random& random, double scale) : own(shape), exact(shape) {
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      own.data()[i] = static_cast<T>(static_cast<float>(scale * random.normal()));
      exact.data()[i] = static_cast<double>(own.data()[i]);
    }
  }
  TensorView<const T> view() const { return own.view(); }
};

/// The relative Frobenius error of `got`; relative to 1 where the reference is 0. NaN or ∞ if anything in
/// `got` is.
template <class T>
double relative_error(const Tensor<T>& got, const Tensor<double>& expected) {
  double difference = 0, norm = 0;
  for (std::int64_t i = 0; i < got.shape().elements(); ++i) {
    difference += std::pow(static_cast<double>(got.data()[i]) - expected.data()[i], 2);
    norm += std::pow(expected.data()[i], 2);
  }
  return std::sqrt(difference / (norm > 0 ? norm : 1.0));
}

/// Inputs of a problem, and what the reference makes of them.
template <class T>
struct RandomAttention {
  using A = Accumulator<T>;
  Problem problem;
  Twin<T> q, k, v, d_o;
  Twin<A> table, r, content_bias, position_bias;  // the biases' heads are (1, heads, 1, head_dim)
  Tensor<double> o, lse, dq, dk, dv, d_table, d_r, d_content_bias, d_position_bias;

  RandomAttention(const Problem& p, Random& random)
      : problem(p),
        q(p.queries, random, p.magnitude),
        k(p.keys, random, p.magnitude),
        v(p.keys, random, 1.0),
        d_o(p.queries, random, 1.0),
        table({1, p.queries.heads, 2 * p.bias_reach + 1, p.bias_reach >= 0 ? 1 : 0}, random, 1.0),
        r({1, p.queries.heads, p.distances, p.queries.head_dim}, random, 1.0),
        content_bias({1, p.queries.heads, 1, p.distances > 0 ? p.queries.head_dim : 0}, random, 1.0),
        position_bias(content_bias.exact.shape(), random, 1.0),
        o(p.queries),
        lse({p.queries.batch, p.queries.heads, p.queries.tokens, 1}),
        dq(p.queries),
        dk(p.keys),
        dv(p.keys),
        d_table(table.exact.shape()),
        d_r(r.exact.shape()),
        d_content_bias(content_bias.exact.shape()),
        d_position_bias(content_bias.exact.shape()) {
    if (p.growth > 0) grow(k);
    attention_reference(sees(), bias(), q.exact.view(), k.exact.view(), v.exact.view(), o.view(), lse.view());
  }

  void differentiate() {
    for (Tensor<double>* gradient : {&d_table, &d_r, &d_content_bias, &d_position_bias})
      std::fill_n(gradient->data(), gradient->shape().elements(), 0.0);
    attention_gradient_reference(
        sees(), bias(), q.exact.view(), k.exact.view(), v.exact.view(), d_o.exact.view(), dq.view(),
        dk.view(), dv.view(),
        [this](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j, double d_score) {
          if (problem.bias_reach >= 0) d_table.data()[table_index(h, i, j)] += d_score;
          if (problem.distances == 0) return;
          const double* const key = k.exact.view().row(b, kv_head(h), j);
          const double* const relative = r.exact.view().row(0, h, r_index(i, j));
          for (std::int64_t d = 0; d < q.exact.shape().head_dim; ++d) {  // beside q·k's own part
            const double own = scale() * d_score;
            dq.view().row(b, h, i)[d] += own * relative[d];
            dk.view().row(b, kv_head(h), j)[d] += own * content_bias.exact.view().row(0, h, 0)[d];
            d_r.view().row(0, h, r_index(i, j))[d] +=
                own * (q.exact.view().row(b, h, i)[d] + position_bias.exact.view().row(0, h, 0)[d]);
            d_content_bias.view().row(0, h, 0)[d] += own * key[d];
            d_position_bias.view().row(0, h, 0)[d] += own * relative[d];
          }
        });
  }

  PositionTerms<A> terms() const {
    PositionTerms<A> result;
    if (problem.bias_reach >= 0) result.bias = {table.own.data(), problem.bias_reach};
    if (problem.distances > 0) {
      result.relative = {r.own.view(), problem.first_distance, content_bias.own.data(),
                         position_bias.own.data()};
    }
    return result;
  }
  AttentionInputs<T> inputs() const { return {q.view(), k.view(), v.view()}; }

  /// Worst error of lse relative to max(1, |lse|); a row without keys must say −∞.
  double lse_error(const Tensor<A>& got) const {
    double worst = 0;
    for (std::int64_t i = 0; i < lse.shape().elements(); ++i) {
      const double expected = lse.data()[i], own = static_cast<double>(got.data()[i]);
      if (std::isinf(expected) || !std::isfinite(own)) {
        if (expected != own) return std::numeric_limits<double>::infinity();
      } else {
        worst = std::max(worst, std::abs(own - expected) / std::max(1.0, std::abs(expected)));
      }
    }
    return worst;
  }

  /// What a score's rounding costs, in units of the type's: scores reach magnitude²·√head_dim·4, and their
  /// error becomes a relative error of weights; each product adds √head_dim / 2, exp2 and decays about 12.
  double rounding() const {
    const double dim = std::sqrt(static_cast<double>(problem.queries.head_dim));
    const double products = problem.distances > 0 ? 2 : 1;
    return std::numeric_limits<A>::epsilon() * (12 + products * dim / 2) *
           std::max(1.0, problem.magnitude * problem.magnitude * (1 + problem.growth) / 4);
  }

 private:
  void grow(Twin<T>& twin) const {
    const Shape& shape = twin.own.shape();
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      T& own = twin.own.data()[i];
      const std::int64_t token = i / shape.head_dim % shape.tokens;
      own = static_cast<T>(
          static_cast<float>(twin.exact.data()[i] * (1 + problem.growth * token / shape.tokens)));
      twin.exact.data()[i] = static_cast<double>(own);
    }
  }
  std::int64_t kv_head(std::int64_t h) const { return h * problem.keys.heads / problem.queries.heads; }
  double scale() const { return 1.0 / std::sqrt(static_cast<double>(problem.queries.head_dim)); }
  std::int64_t table_index(std::int64_t h, std::int64_t i, std::int64_t j) const {
    const std::int64_t reach = problem.bias_reach;
    return h * (2 * reach + 1) + std::clamp(i - j, -reach, reach) + reach;
  }
  std::int64_t r_index(std::int64_t i, std::int64_t j) const {
    return std::clamp<std::int64_t>(i - j - problem.first_distance, 0, problem.distances - 1);
  }
  Sees sees() const {
    return [this](std::int64_t i, std::int64_t j) {
      const VisibleKeys keys =
          problem.pattern.visible_keys(i);  // pattern_test.cpp holds these to the definition
      return keys.first.contains(j) || keys.second.contains(j);
    };
  }
  ScoreBias bias() const {
    return [this](std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
      double sum = problem.bias_reach >= 0 ? table.exact.data()[table_index(h, i, j)] : 0.0;
      if (problem.distances == 0) return sum;
      const double* const query = q.exact.view().row(b, h, i);
      const double* const key = k.exact.view().row(b, kv_head(h), j);
      const double* const relative = r.exact.view().row(0, h, r_index(i, j));
      for (std::int64_t d = 0; d < problem.queries.head_dim; ++d) {
        sum += scale() * (content_bias.exact.view().row(0, h, 0)[d] * key[d] +
                          (query[d] + position_bias.exact.view().row(0, h, 0)[d]) * relative[d]);
      }
      return sum;
    };
  }
};

/// Stripe r of `stripes`: every stripes-th token, a view with a larger token stride.
template <class View>
View stripe(View view, std::int64_t r, std::int64_t stripes) {
  view.data += r * view.token_stride;
  view.token_stride *= stripes;
  view.shape.tokens = (view.shape.tokens - r + stripes - 1) / stripes;
  return view;
}
inline Run stripe_positions(std::int64_t tokens, std::int64_t r, std::int64_t stripes) {
  return {r, stripes, (tokens - r + stripes - 1) / stripes};
}

}  // namespace longseq
