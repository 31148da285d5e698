// Records as bytes and back, for broadcasts within one job. Never stored: the layout is this build's own.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "results/record.h"

namespace longseq {

/// Visits the fields of a record in one order, for packing and unpacking alike.
template <class Archive>
void fields(Archive& archive, Attribute& attribute) {
  archive(attribute.name, attribute.value);
}

template <class Archive>
void fields(Archive& archive, Column& column) {
  archive(column.name, column.value, column.units, column.long_name);
}

template <class Archive>
void fields(Archive& archive, Axis& axis) {
  archive(axis.name, axis.coordinate, axis.units, axis.long_name);
}

template <class Archive>
void fields(Archive& archive, Array& array) {
  archive(array.name, array.dims, array.values, array.units, array.long_name, array.distributed);
}

template <class Archive>
void fields(Archive& archive, Group& group) {
  archive(group.attributes, group.axes, group.arrays);
}

class Packer {
 public:
  template <class... T>
  void operator()(T&... values) {
    (put(values), ...);
  }
  std::string bytes;

 private:
  template <class T>
  void put(T& value) {
    if constexpr (std::is_arithmetic_v<T>) {
      bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
    } else {
      fields(*this, value);
    }
  }
  void put(std::string& text) {
    std::size_t size = text.size();
    put(size);
    bytes += text;
  }
  template <class T>
  void put(std::vector<T>& values) {
    std::size_t size = values.size();
    put(size);
    for (T& value : values) put(value);
  }
  template <class... T>
  void put(std::variant<T...>& value) {
    std::size_t index = value.index();
    put(index);
    std::visit([this](auto& held) { put(held); }, value);
  }
};

class Unpacker {
 public:
  explicit Unpacker(const std::string& bytes) : next_(bytes.data()) {}
  template <class... T>
  void operator()(T&... values) {
    (get(values), ...);
  }

 private:
  template <class T>
  void get(T& value) {
    if constexpr (std::is_arithmetic_v<T>) {
      std::memcpy(&value, next_, sizeof(T));
      next_ += sizeof(T);
    } else {
      fields(*this, value);
    }
  }
  void get(std::string& text) {
    std::size_t size = 0;
    get(size);
    text.assign(next_, size);
    next_ += size;
  }
  template <class T>
  void get(std::vector<T>& values) {
    std::size_t size = 0;
    get(size);
    values.resize(size);
    for (T& value : values) get(value);
  }
  template <class... T>
  void get(std::variant<T...>& value) {
    std::size_t index = 0;
    get(index);
    get_alternative(value, index, std::index_sequence_for<T...>{});
    std::visit([this](auto& held) { get(held); }, value);
  }
  template <class Variant, std::size_t... I>
  static void get_alternative(Variant& value, std::size_t index, std::index_sequence<I...>) {
    ((I == index ? static_cast<void>(value.template emplace<I>()) : void()), ...);
  }

  const char* next_;
};

}  // namespace longseq
