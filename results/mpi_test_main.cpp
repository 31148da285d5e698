// The main() of every GoogleTest that runs under mpirun: all ranks run all tests; rank 0 reports progress,
// the others only their failures; the exit status is non-zero on every rank if any rank failed.
#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <cstdio>
#include <thread>

namespace {

/// A rank that leaves a test early, by a failure or a skip, leaves the others waiting in its collectives:
/// when they do not join it within a while, the whole job is ended rather than hung.
class MeetAfterEachTest : public ::testing::EmptyTestEventListener {
 public:
  MeetAfterEachTest() {
    MPI_Comm_dup(MPI_COMM_WORLD, &comm_);
    MPI_Comm_rank(comm_, &rank_);
  }
  ~MeetAfterEachTest() override { MPI_Comm_free(&comm_); }

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (rank_ == 0 || !result.failed()) return;
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", rank_, result.file_name() ? result.file_name() : "?",
                 result.line_number(), result.message());
  }

  void OnTestEnd(const ::testing::TestInfo& test) override {
    const bool may_have_left_early = !test.result()->Passed();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    MPI_Request request;
    MPI_Ibarrier(comm_, &request);
    for (int met = 0; MPI_Test(&request, &met, MPI_STATUS_IGNORE), !met;) {
      if (may_have_left_early && std::chrono::steady_clock::now() > deadline) {
        std::fprintf(stderr, "[rank %d] %s.%s: the other ranks did not reach the end of the test; aborting\n",
                     rank_, test.test_suite_name(), test.name());
        MPI_Abort(MPI_COMM_WORLD, 1);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

 private:
  MPI_Comm comm_;
  int rank_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  ::testing::InitGoogleTest(&argc, argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);

  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (rank != 0) delete listeners.Release(listeners.default_result_printer());
  auto* meet = new MeetAfterEachTest;
  listeners.Append(meet);

  int failed = provided < MPI_THREAD_FUNNELED ? 1 : RUN_ALL_TESTS();
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  delete listeners.Release(meet);  // its communicator must be freed before MPI ends
  MPI_Finalize();
  return failed;
}
