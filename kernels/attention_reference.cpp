#include "kernels/attention_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace longseq {

void attention_reference(const Sees& sees, const ScoreBias& bias, TensorView<const double> q,
                         TensorView<const double> k, TensorView<const double> v, TensorView<double> o,
                         TensorView<double> lse) {
  const auto [batch, heads, queries, head_dim] = q.shape;
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim));
  std::vector<double> scores(static_cast<std::size_t>(k.shape.tokens));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t kv = h * k.shape.heads / heads;
      for (std::int64_t i = 0; i < queries; ++i) {
        double highest = -std::numeric_limits<double>::infinity();
        for (std::int64_t j = 0; j < k.shape.tokens; ++j) {
          double& score = scores[static_cast<std::size_t>(j)];
          score = -std::numeric_limits<double>::infinity();
          if (!sees(i, j)) continue;
          double dot = 0;
          for (std::int64_t d = 0; d < head_dim; ++d) dot += q.row(b, h, i)[d] * k.row(b, kv, j)[d];
          score = scale * dot + (bias ? bias(h, i, j) : 0.0);
          highest = std::max(highest, score);
        }
        double* out = o.row(b, h, i);
        std::fill_n(out, head_dim, 0.0);
        *lse.row(b, h, i) = highest;
        if (std::isinf(highest)) continue;
        double sum = 0;
        for (const double score : scores) sum += std::exp(score - highest);
        for (std::int64_t j = 0; j < k.shape.tokens; ++j) {
          const double weight = std::exp(scores[static_cast<std::size_t>(j)] - highest) / sum;
          for (std::int64_t d = 0; d < head_dim && weight > 0; ++d) out[d] += weight * v.row(b, kv, j)[d];
        }
        *lse.row(b, h, i) = highest + std::log(sum);
      }
    }
  }
}

}  // namespace longseq
