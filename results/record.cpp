#include "results/record.h"

namespace longseq {
namespace {

template <class Members>
auto find(const Members& members, const std::string& name) -> decltype(members.data()) {
  for (const auto& member : members) {
    if (member.name == name) return &member;
  }
  return nullptr;
}

}  // namespace

std::int64_t size_of(const Values& values) {
  return std::visit([](const auto& vector) { return static_cast<std::int64_t>(vector.size()); }, values);
}

const Scalar* find_attribute(const Group& group, const std::string& name) {
  const Attribute* attribute = find(group.attributes, name);
  return attribute ? &attribute->value : nullptr;
}

const Axis* find_axis(const Group& group, const std::string& name) {
  return find(group.axes, name);
}

const Array* find_array(const Group& group, const std::string& name) {
  return find(group.arrays, name);
}

}  // namespace longseq
