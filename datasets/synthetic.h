// Seeded standard-normal tensors that are the same for every number of ranks, layout, thread count and
// machine.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/positions.h"
#include "kernels/tensor.h"

namespace longseq {

/// Which tensor of an attention is made: each has a random stream of its own.
enum class TensorId : std::uint32_t { q = 1, k = 2, v = 3, output_gradient = 4 };

/// view (B, H, positions.count, D): element (b, h, t, d) becomes scale · z, where z is standard normal and
/// depends only on (seed, id, b, first_head + h, positions.at(t), d). The f32 value is the f64 value rounded.
/// Threads may fill different rows at once. T is float or double.
/// Throws std::invalid_argument if the view has not positions.count rows, a position is negative, a head is
/// 65536 or more, or head_dim is above 262144.
template <class T>
void fill_normal(TensorView<T> view, Run positions, std::uint64_t seed, TensorId id, double scale = 1.0,
                 std::int64_t first_head = 0);

/// values[i] becomes scale · z(seed, stream, first + i), for weights and embeddings. Streams here never meet
/// those of fill_normal. Throws std::invalid_argument if first is negative.
void seeded_normal(std::span<float> values, std::uint64_t seed, std::uint32_t stream, double scale = 1.0,
                   std::int64_t first = 0);
void seeded_normal(std::span<double> values, std::uint64_t seed, std::uint32_t stream, double scale = 1.0,
                   std::int64_t first = 0);

}  // namespace longseq
