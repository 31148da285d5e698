#include "suite/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace longseq {
namespace {

namespace fs = std::filesystem;

TEST(Memory, AgreesWithTheSystemCall) {
  const auto by_call =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  EXPECT_NEAR(static_cast<double>(node_memory_bytes()), by_call, 0.01 * by_call);
  EXPECT_GT(available_memory_bytes(), 0);
  EXPECT_LE(available_memory_bytes(), node_memory_bytes());
}

class ControlGroup : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / ("groups" + std::to_string(getpid()));
    fs::create_directories(root_ / "job" / "step");
  }
  void TearDown() override { fs::remove_all(root_); }
  void put(const fs::path& file, const std::string& text) { std::ofstream(root_ / file) << text; }
  fs::path root_;
};

TEST_F(ControlGroup, HasNoRoomToTellWithoutLimits) {
  EXPECT_FALSE(control_group_room(root_, "job/step"));
  put("job/memory.max", "max\n");
  put("job/memory.current", "1000\n");
  EXPECT_FALSE(control_group_room(root_, "job/step"));
}

TEST_F(ControlGroup, TakesTheTightestOfVersion2) {
  put("job/memory.max", "5000\n");
  put("job/memory.current", "1000\n");
  EXPECT_EQ(control_group_room(root_, "job/step"), 4000);
  put("job/step/memory.max", "2000\n");
  put("job/step/memory.current", "900\n");
  put("job/step/memory.stat", "anon 600\ninactive_file 300\n");
  EXPECT_EQ(control_group_room(root_, "job/step"), 1400);  // the page cache gives way
  EXPECT_EQ(control_group_room(root_, "job"), 4000);
}

TEST_F(ControlGroup, TakesTheOuterLimitWhereThatIsTighter) {
  put("job/memory.max", "1000\n");
  put("job/memory.current", "300\n");
  put("job/step/memory.max", "9000\n");
  put("job/step/memory.current", "300\n");
  EXPECT_EQ(control_group_room(root_, "job/step"), 700);
}

TEST_F(ControlGroup, UnderstandsVersion1) {
  put("job/memory.limit_in_bytes", "5000\n");
  put("job/memory.usage_in_bytes", "1000\n");
  put("job/memory.stat", "inactive_file 1\ntotal_inactive_file 200\n");
  EXPECT_EQ(control_group_room(root_, "job/step"), 4200);
}

TEST_F(ControlGroup, IsNeverNegative) {
  put("memory.max", "1000\n");
  put("memory.current", "1200\n");
  EXPECT_EQ(control_group_room(root_, ""), 0);
}

}  // namespace
}  // namespace longseq
