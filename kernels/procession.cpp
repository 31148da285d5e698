#include "kernels/procession.h"

#include <thread>

namespace longseq::detail {

Procession::Procession(std::size_t tasks, std::int64_t tiles)
    : passed_(std::make_unique<std::atomic<std::int64_t>[]>(tasks)), met_(static_cast<std::size_t>(tiles)) {}

void Procession::wait(std::size_t task, std::int64_t tile, const Poll& poll) {
  constexpr int kSpins = 200;  // before the core is given to whoever holds us up
  std::size_t earlier = first_active_.load(std::memory_order_acquire);
  for (int spins = 0; earlier < task;) {
    const std::int64_t passed = passed_[earlier].load(std::memory_order_acquire);
    if (passed > tile) {
      ++earlier;
      continue;
    }
    if (poll) poll();
    if (++spins > kSpins) std::this_thread::yield();
  }
  // Let later calls begin behind those that have left.
  std::size_t first = first_active_.load(std::memory_order_acquire);
  while (first < task && passed_[first].load(std::memory_order_acquire) == kDone) {
    if (first_active_.compare_exchange_weak(first, first + 1, std::memory_order_acq_rel)) ++first;
  }
}

}  // namespace longseq::detail
