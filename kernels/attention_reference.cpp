#include "kernels/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace longseq {
namespace {

/// The softmax of one query row: its weights over all keys (0 where not visible), and lse.
struct Row {
  std::vector<double> weights;
  double lse = -std::numeric_limits<double>::infinity();
};

Row row_of(const Sees& sees, const ScoreBias& bias, TensorView<const double> q, TensorView<const double> k,
           std::int64_t b, std::int64_t h, std::int64_t i) {
  const std::int64_t head_dim = q.shape.head_dim, kv = h * k.shape.heads / q.shape.heads;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  Row row;
  row.weights.assign(static_cast<std::size_t>(k.shape.tokens), -std::numeric_limits<double>::infinity());
  for (std::int64_t j = 0; j < k.shape.tokens; ++j) {
    if (!sees(i, j)) continue;
    double dot = 0;
    for (std::int64_t d = 0; d < head_dim; ++d) dot += q.row(b, h, i)[d] * k.row(b, kv, j)[d];
    row.weights[static_cast<std::size_t>(j)] = scale * dot + (bias ? bias(b, h, i, j) : 0.0);
  }
  const double highest =
      row.weights.empty() ? row.lse : *std::max_element(row.weights.begin(), row.weights.end());
  double sum = 0;
  for (double& weight : row.weights) {
    weight = std::isinf(highest) ? 0.0 : std::exp(weight - highest);
    sum += weight;
  }
  if (sum == 0) return row;
  for (double& weight : row.weights) weight /= sum;
  row.lse = highest + std::log(sum);
  return row;
}

}  // namespace

void attention_reference(const Sees& sees, const ScoreBias& bias, TensorView<const double> q,
                         TensorView<const double> k, TensorView<const double> v, TensorView<double> o,
                         TensorView<double> lse) {
  const auto [batch, heads, queries, head_dim] = q.shape;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t kv = h * k.shape.heads / heads;
      for (std::int64_t i = 0; i < queries; ++i) {
        const Row row = row_of(sees, bias, q, k, b, h, i);
        double* out = o.row(b, h, i);
        std::fill_n(out, head_dim, 0.0);
        for (std::int64_t j = 0; j < k.shape.tokens; ++j) {
          const double weight = row.weights[static_cast<std::size_t>(j)];
          for (std::int64_t d = 0; d < head_dim && weight > 0; ++d) out[d] += weight * v.row(b, kv, j)[d];
        }
        *lse.row(b, h, i) = row.lse;
      }
    }
  }
}

void attention_gradient_reference(const Sees& sees, const ScoreBias& bias, TensorView<const double> q,
                                  TensorView<const double> k, TensorView<const double> v,
                                  TensorView<const double> d_o, TensorView<double> dq, TensorView<double> dk,
                                  TensorView<double> dv, const ScoreGradient& told) {
  const auto [batch, heads, queries, head_dim] = q.shape;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  for (const TensorView<double>& gradient : {dq, dk, dv}) {
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t h = 0; h < gradient.shape.heads; ++h) {
        for (std::int64_t t = 0; t < gradient.shape.tokens; ++t)
          std::fill_n(gradient.row(b, h, t), head_dim, 0.0);
      }
    }
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t kv = h * k.shape.heads / heads;
      for (std::int64_t i = 0; i < queries; ++i) {
        const Row row = row_of(sees, bias, q, k, b, h, i);
        std::vector<double> d_weights(row.weights.size());
        double delta = 0;
        for (std::int64_t j = 0; j < k.shape.tokens; ++j) {
          const std::size_t at = static_cast<std::size_t>(j);
          for (std::int64_t d = 0; d < head_dim; ++d)
            d_weights[at] += d_o.row(b, h, i)[d] * v.row(b, kv, j)[d];
          delta += row.weights[at] * d_weights[at];
        }
        for (std::int64_t j = 0; j < k.shape.tokens; ++j) {
          const double weight = row.weights[static_cast<std::size_t>(j)];
          if (weight == 0) continue;
          const double d_score = weight * (d_weights[static_cast<std::size_t>(j)] - delta);
          if (told) told(b, h, i, j, d_score);
          for (std::int64_t d = 0; d < head_dim; ++d) {
            dq.row(b, h, i)[d] += scale * d_score * k.row(b, kv, j)[d];
            dk.row(b, kv, j)[d] += scale * d_score * q.row(b, h, i)[d];
            dv.row(b, kv, j)[d] += weight * d_o.row(b, h, i)[d];
          }
        }
      }
    }
  }
}

}  // namespace longseq
