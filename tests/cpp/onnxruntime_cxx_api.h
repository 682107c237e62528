// A stand-in for ONNX Runtime's C++ header, for tests only: its Python package ships the library without headers.
//
// It declares the few classes that sampler.cpp uses, over the library's table of functions. That table only ever
// grows at its end, so a function's place in it is part of the library's stable binary interface.

#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };

struct OrtApiBase {
    void* const* (*table)(uint32_t version);
    const char* (*version)();
};
extern "C" const OrtApiBase* OrtGetApiBase();

namespace Ort {

enum Place {
    kErrorMessage = 2,
    kCreateEnv = 3,
    kCreateSession = 7,
    kRun = 9,
    kCreateSessionOptions = 10,
    kSetThreads = 24,
    kCreateTensor = 49,
    kTensorData = 51,
    kCreateCpuMemory = 69,
    kReleaseEnv = 92,
    kReleaseStatus = 93,
    kReleaseMemory = 94,
    kReleaseSession = 95,
    kReleaseValue = 96,
    kReleaseSessionOptions = 100,
};

template <class Result, class... Arguments>
Result call(Place place, Arguments... arguments) {
    static void* const* table = OrtGetApiBase()->table(16);
    return reinterpret_cast<Result (*)(Arguments...)>(table[place])(arguments...);
}

template <class... Arguments>
void checked(Place place, Arguments... arguments) {
    if (void* status = call<void*>(place, arguments...)) {
        const std::runtime_error fault(call<const char*>(kErrorMessage, static_cast<const void*>(status)));
        call<void>(kReleaseStatus, status);
        throw fault;
    }
}

template <Place release>
struct Handle {
    void* value = nullptr;
    Handle() = default;
    Handle(Handle&& other) noexcept : value(std::exchange(other.value, nullptr)) {}
    ~Handle() {
        if (value) call<void>(release, value);
    }
};

struct Env : Handle<kReleaseEnv> {
    Env(OrtLoggingLevel level, const char* name) { checked(kCreateEnv, int(level), name, &value); }
};

struct SessionOptions : Handle<kReleaseSessionOptions> {
    SessionOptions() { checked(kCreateSessionOptions, &value); }
    SessionOptions& SetIntraOpNumThreads(int threads) {
        checked(kSetThreads, value, threads);
        return *this;
    }
};

struct RunOptions {
    explicit RunOptions(std::nullptr_t) {}
};

struct MemoryInfo : Handle<kReleaseMemory> {
    static MemoryInfo CreateCpu(OrtAllocatorType allocator, OrtMemType memory) {
        MemoryInfo made;
        checked(kCreateCpuMemory, int(allocator), int(memory), &made.value);
        return made;
    }
};

struct Value : Handle<kReleaseValue> {
    template <class T>
    static Value CreateTensor(const MemoryInfo& memory, T* data, size_t count, const int64_t* shape, size_t rank) {
        Value made;
        const int float32 = 1;
        checked(kCreateTensor, static_cast<const void*>(memory.value), static_cast<void*>(data), count * sizeof(T), shape,
                rank, float32, &made.value);
        return made;
    }
    template <class T>
    const T* GetTensorData() const {
        void* data = nullptr;
        checked(kTensorData, value, &data);
        return static_cast<const T*>(data);
    }
};

struct Session : Handle<kReleaseSession> {
    Session(const Env& env, const char* path, const SessionOptions& options) {
        checked(kCreateSession, static_cast<const void*>(env.value), path, static_cast<const void*>(options.value), &value);
    }
    std::vector<Value> Run(const RunOptions&, const char* const* inputs, const Value* values, size_t count,
                           const char* const* outputs, size_t made_count) {
        std::vector<const void*> given;
        for (size_t i = 0; i < count; ++i) given.push_back(values[i].value);
        std::vector<void*> made(made_count, nullptr);
        checked(kRun, value, static_cast<const void*>(nullptr), inputs, static_cast<const void* const*>(given.data()),
                count, outputs, made_count, made.data());
        std::vector<Value> results(made_count);
        for (size_t i = 0; i < made_count; ++i) results[i].value = made[i];
        return results;
    }
};

}  // namespace Ort
