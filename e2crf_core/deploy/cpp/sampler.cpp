// Draw series with an exported policy, without Python: ONNX Runtime runs the network, and a table says how many
// tokens, lowest frequencies first, to compute at each step and how to mix their last outputs.
//
//     g++ -std=c++17 -O2 -I ORT/include sampler.cpp -L ORT/lib -l onnxruntime -o sampler
//     ./sampler FOLDER COUNT SEED OUT [NOISE]
//
// FOLDER holds run.bin, and a graph for each number of tokens: network.onnx for all, network-M.onnx for M. OUT
// receives float32 (COUNT, N, M) in data units; the program prints the seconds of drawing them. NOISE, float32 (1 +
// steps, COUNT, n, c), replaces the program's own generator: with the noise of a run in Python, the series are those
// of Python. The variable E2CRF_THREADS limits the threads of the network. E1, E3, and E8 are equations of the lab's
// docs/method.md.

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

using Floats = std::vector<float>;

Floats read_floats(std::ifstream& file, size_t count) {
    Floats values(count);
    if (!file.read(reinterpret_cast<char*>(values.data()), count * sizeof(float)))
        throw std::runtime_error("a file ends too early");
    return values;
}

// The run as plain arrays. S steps, n tokens of c = 2M coordinates; `at` gives a step's rows of an (S, n, c) array.
// A solver's weights are one number for all coordinates (each = 1), or one for each (each = n c).
struct Table {
    int32_t steps, tokens, coordinates, length, memory, terms, each;
    Floats levels, rows, mix, state_mix, kept_mix, offset, sigma;
    Floats c_in, u0, c_skip, c_out, d0, start_mean, start_spread, mask, mean, std;

    explicit Table(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        int32_t head[9] = {};
        if (!file.read(reinterpret_cast<char*>(head), sizeof head) || head[0] != 0x46433245 || head[1] != 3)
            throw std::runtime_error(path + " is not a run table of version 3");
        steps = head[2], tokens = head[3], coordinates = head[4], length = head[5], memory = head[6], terms = head[7];
        each = head[8];
        const size_t s = steps, row = size();
        levels = read_floats(file, s), rows = read_floats(file, s), mix = read_floats(file, s * memory * tokens);
        state_mix = read_floats(file, s * terms * each), kept_mix = read_floats(file, s * terms);
        offset = read_floats(file, s * each), sigma = read_floats(file, s);
        for (Floats* part : {&c_in, &u0, &c_skip, &c_out, &d0}) *part = read_floats(file, s * row);
        for (Floats* part : {&start_mean, &start_spread, &mask}) *part = read_floats(file, row);
        for (Floats* part : {&mean, &std}) *part = read_floats(file, coordinates / 2);
    }
    size_t size() const { return size_t(tokens) * coordinates; }
    const float* at(const Floats& array, int step) const { return array.data() + step * size(); }
};

// Standard normal noise (COUNT, n, c), masked (E1): from a file, or from one generator for each sample.
class Noise {
  public:
    Noise(const Table& table, size_t count, uint64_t seed, const char* path) : table_(table), count_(count) {
        if (path) file_.open(path, std::ios::binary);
        if (path && !file_) throw std::runtime_error(std::string("cannot read ") + path);
        for (uint64_t i = 0; i < count; ++i) {
            std::seed_seq key{uint32_t(seed), uint32_t(seed >> 32), uint32_t(i), uint32_t(i >> 32)};
            generators_.emplace_back(key);
        }
    }
    Floats next() {
        if (file_.is_open()) return read_floats(file_, count_ * table_.size());
        Floats drawn;
        for (std::mt19937_64& generator : generators_) {
            std::normal_distribution<float> normal;
            for (float keep : table_.mask) drawn.push_back(normal(generator) * keep);
        }
        return drawn;
    }

  private:
    const Table& table_;
    size_t count_;
    std::ifstream file_;
    std::vector<std::mt19937_64> generators_;
};

// The network: one graph for each number of tokens that the table asks for.
using Networks = std::map<int, Ort::Session>;

Networks load_networks(const Ort::Env& environment, const Table& table, const std::string& folder) {
    Ort::SessionOptions options;
    if (const char* threads = std::getenv("E2CRF_THREADS")) options.SetIntraOpNumThreads(std::atoi(threads));
    Networks networks;
    for (float rows : table.rows) {
        const int m = int(rows);
        if (m == 0 || networks.count(m)) continue;
        const std::string which = m == table.tokens ? "" : "-" + std::to_string(m);
        networks.emplace(m, Ort::Session(environment, (folder + "/network" + which + ".onnx").c_str(), options));
    }
    return networks;
}

// F(u, log(a/s)) of the lowest m tokens: (COUNT, m, c).
Floats call_network(Ort::Session& session, const Table& table, int m, Floats& u, float level) {
    const char* inputs[] = {"u", "log_snr"};
    const char* outputs[] = {"f"};
    const int64_t shape[] = {int64_t(u.size() / table.size()), table.tokens, table.coordinates};
    Ort::MemoryInfo host = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<Ort::Value> values;
    values.push_back(Ort::Value::CreateTensor<float>(host, u.data(), u.size(), shape, 3));
    values.push_back(Ort::Value::CreateTensor<float>(host, &level, 1, nullptr, 0));
    std::vector<Ort::Value> made = session.Run(Ort::RunOptions{nullptr}, inputs, values.data(), 2, outputs, 1);
    const float* f = made[0].GetTensorData<float>();
    return Floats(f, f + u.size() / table.tokens * m);
}

// Final tokens z (COUNT, n, c) of a run: E3 turns F into the denoised tokens, E8 advances the state.
Floats run(Networks& networks, const Table& t, Noise& noise, size_t count) {
    const size_t row = t.size(), all = count * row;
    Floats z = noise.next(), u(all), base(all), after(all), kept(all);
    std::vector<Floats> outputs(t.memory, Floats(all)), past(3, Floats(all));  // F and denoised tokens, newest first
    for (size_t j = 0; j < all; ++j) z[j] = t.start_mean[j % row] + t.start_spread[j % row] * z[j];
    for (int i = 0; i < t.steps; ++i) {
        if (const int m = int(t.rows[i])) {
            for (size_t j = 0; j < all; ++j) u[j] = t.at(t.c_in, i)[j % row] * z[j] + t.at(t.u0, i)[j % row];
            const Floats fresh = call_network(networks.at(m), t, m, u, t.levels[i]);
            const size_t part = size_t(m) * t.coordinates;
            for (size_t s = 0; s < count; ++s)
                for (size_t k = 0; k < part; ++k) {
                    for (int h = t.memory; --h > 0;) outputs[h][s * row + k] = outputs[h - 1][s * row + k];
                    outputs[0][s * row + k] = fresh[s * part + k];
                }
        }
        past.insert(past.begin(), Floats(all)), past.pop_back();
        const float *own = &t.state_mix[size_t(i) * t.terms * t.each], *hold = &t.kept_mix[i * t.terms];
        const float* shift = &t.offset[size_t(i) * t.each];
        const Floats drawn = noise.next();
        for (size_t j = 0, k = 0; j < all; ++j, k = k + 1 < row ? k + 1 : 0) {
            const size_t w = t.each > 1 ? k : 0, token = uint32_t(k) / uint32_t(t.coordinates);
            float f = 0;
            for (int h = 0; h < t.memory; ++h)
                f += t.mix[(size_t(i) * t.memory + h) * t.tokens + token] * outputs[h][j];
            past[0][j] = t.at(t.c_skip, i)[k] * z[j] + t.at(t.c_out, i)[k] * f + t.at(t.d0, i)[k];
            after[j] = own[w] * z[j] + own[t.each + w] * base[j] + t.sigma[i] * drawn[j] + shift[w];
            kept[j] = hold[0] * z[j] + hold[1] * base[j];
            for (int p = 2; p < t.terms; ++p)
                after[j] += own[p * t.each + w] * past[p - 2][j], kept[j] += hold[p] * past[p - 2][j];
        }
        z.swap(after), base.swap(kept);
    }
    return z;
}

// Series (COUNT, N, M) in data units: the inverse of E1.
Floats series(const Table& t, const Floats& z) {
    const int channels = t.coordinates / 2;
    const double turn = 2 * std::acos(-1.0) / t.length, scale = 1 / std::sqrt(double(t.length));
    Floats made;
    for (size_t start = 0; start < z.size(); start += t.size())
        for (int step = 0; step < t.length; ++step)
            for (int channel = 0; channel < channels; ++channel) {
                double x = 0;
                for (int k = 0; k < t.tokens; ++k) {
                    const float* token = &z[start + size_t(k) * t.coordinates];
                    const double weight = k == 0 || 2 * k == t.length ? 1 : std::sqrt(2.0), angle = turn * k * step;
                    x += weight * (token[channel] * std::cos(angle) - token[channel + channels] * std::sin(angle));
                }
                made.push_back(float(x * scale) * t.std[channel] + t.mean[channel]);
            }
    return made;
}

int main(int argc, char** argv) try {
    if (argc < 5 || argc > 6 || std::atol(argv[2]) < 1)
        throw std::runtime_error("usage: sampler FOLDER COUNT SEED OUT [NOISE]");
    const std::string folder = argv[1];
    const size_t count = std::atol(argv[2]);
    const Table table(folder + "/run.bin");
    Noise noise(table, count, std::strtoull(argv[3], nullptr, 10), argc > 5 ? argv[5] : nullptr);
    Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "e2crf");
    Networks networks = load_networks(environment, table, folder);
    const auto begin = std::chrono::steady_clock::now();
    const Floats made = series(table, run(networks, table, noise, count));
    std::cout << std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() << "\n";
    std::ofstream out(argv[4], std::ios::binary);
    if (!out.write(reinterpret_cast<const char*>(made.data()), made.size() * sizeof(float)).flush())
        throw std::runtime_error(std::string("cannot write ") + argv[4]);
    return 0;
} catch (const std::exception& fault) {
    std::cerr << "sampler: " << fault.what() << "\n";
    return 1;
}
