// Work on every row of a tensor, shared out among the threads of the caller's TBB arena.
#pragma once

#include <tbb/parallel_for.h>

#include <algorithm>

#include "kernels/tensor.h"

namespace longseq {

/// Calls work(b, h, t) for every batch entry, head and token; calls run at the same time.
template <class Work>
void parallel_rows(const Shape& shape, const Work& work) {
  constexpr std::int64_t kRowsPerTask = 256;
  const std::int64_t blocks = (shape.tokens + kRowsPerTask - 1) / kRowsPerTask;
  tbb::parallel_for(std::int64_t{0}, shape.batch * shape.heads * blocks, [&](std::int64_t task) {
    const std::int64_t head = task / blocks;
    const std::int64_t begin = task % blocks * kRowsPerTask;
    for (std::int64_t t = begin; t < std::min(begin + kRowsPerTask, shape.tokens); ++t) {
      work(head / shape.heads, head % shape.heads, t);
    }
  });
}

template <class T>
void set_to_zero(TensorView<T> tensor) {
  parallel_rows(tensor.shape, [&](std::int64_t b, std::int64_t h, std::int64_t t) {
    std::fill_n(tensor.row(b, h, t), tensor.shape.head_dim, T{});
  });
}

}  // namespace longseq
