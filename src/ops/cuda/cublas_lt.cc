// cuBLASLt: see the header. Descriptors are made per call (they cost under a microsecond); what
// takes long, the choice of an algorithm, is kept per plan.
#include "ops/cuda/cublas_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include "base/check.h"
#include "base/cuda/error.cuh"

namespace tamias::cuda {
namespace {

// The functions of the library that Tamias calls.
class Library {
 public:
  Library() {
    const char* chosen = std::getenv("TAMIAS_CUBLASLT");
    const std::string name =
        chosen != nullptr ? chosen : fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
    library_.reset(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (library_ == nullptr) {
      Fail(ErrorCode::kUnsupported,
           "cuBLASLt: cannot load it ({}); put its folder on LD_LIBRARY_PATH or its path into "
           "TAMIAS_CUBLASLT",
           dlerror());
    }
    Resolve(create, "cublasLtCreate");
    Resolve(destroy, "cublasLtDestroy");
    Resolve(matmul, "cublasLtMatmul");
    Resolve(find_algorithms, "cublasLtMatmulAlgoGetHeuristic");
    Resolve(create_operation, "cublasLtMatmulDescCreate");
    Resolve(destroy_operation, "cublasLtMatmulDescDestroy");
    Resolve(set_operation, "cublasLtMatmulDescSetAttribute");
    Resolve(create_matrix, "cublasLtMatrixLayoutCreate");
    Resolve(destroy_matrix, "cublasLtMatrixLayoutDestroy");
    Resolve(set_matrix, "cublasLtMatrixLayoutSetAttribute");
    Resolve(create_preference, "cublasLtMatmulPreferenceCreate");
    Resolve(destroy_preference, "cublasLtMatmulPreferenceDestroy");
    Resolve(set_preference, "cublasLtMatmulPreferenceSetAttribute");
    Resolve(status_name, "cublasLtGetStatusName");
  }

  void Check(cublasStatus_t status, std::string_view action) const {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    Fail(ErrorCode::kDevice, "cuBLASLt: {}: {}", action, status_name(status));
  }

  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) find_algorithms = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_operation = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_operation = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_operation = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_matrix = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_matrix = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) set_matrix = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  decltype(&cublasLtGetStatusName) status_name = nullptr;

 private:
  struct Close {
    void operator()(void* library) const { dlclose(library); }
  };

  template <typename Function>
  void Resolve(Function& function, const char* name) {
    void* symbol = dlsym(library_.get(), name);
    if (symbol == nullptr) {
      Fail(ErrorCode::kUnsupported, "cuBLASLt: the library found has no function {}", name);
    }
    function = reinterpret_cast<Function>(symbol);
  }

  std::unique_ptr<void, Close> library_;
};

cudaDataType_t DataType(DType dtype) {
  return dtype == DType::kF32 ? CUDA_R_32F : dtype == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF;
}

cublasLtEpilogue_t EpilogueOf(const LinearPlan& plan) {
  switch (plan.fused) {
    case Activation::kRelu:
      return plan.has_bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case Activation::kGeluTanh:
      return plan.has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default:
      return plan.has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// The operation of a plan: transpositions and epilogue.
class Operation {
 public:
  Operation(const Library& library, const LinearPlan& plan, const void* bias) : library_(library) {
    library.Check(library.create_operation(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                  "describing a product");
    Set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    Set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    Set(CUBLASLT_MATMUL_DESC_EPILOGUE, EpilogueOf(plan));
    if (plan.has_bias) {
      Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
      Set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, DataType(plan.output_type));
    }
  }
  ~Operation() { library_.destroy_operation(operation_); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  cublasLtMatmulDesc_t get() const { return operation_; }

 private:
  template <typename Value>
  void Set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    library_.Check(library_.set_operation(operation_, attribute, &value, sizeof(value)),
                   "describing a product");
  }

  const Library& library_;
  cublasLtMatmulDesc_t operation_ = nullptr;
};

// A column-major matrix, or one per batch item.
class Matrix {
 public:
  Matrix(const Library& library, DType dtype, int64_t rows, int64_t columns, int64_t stride,
         int64_t batches, int64_t batch_stride)
      : library_(library) {
    library.Check(library.create_matrix(&matrix_, DataType(dtype), static_cast<uint64_t>(rows),
                                        static_cast<uint64_t>(columns), stride),
                  "describing a matrix");
    if (batches == 1) return;
    Set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<int32_t>(batches));
    Set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, batch_stride);
  }
  ~Matrix() { library_.destroy_matrix(matrix_); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
  cublasLtMatrixLayout_t get() const { return matrix_; }

 private:
  template <typename Value>
  void Set(cublasLtMatrixLayoutAttribute_t attribute, const Value& value) {
    library_.Check(library_.set_matrix(matrix_, attribute, &value, sizeof(value)),
                   "describing a matrix");
  }

  const Library& library_;
  cublasLtMatrixLayout_t matrix_ = nullptr;
};

// What an algorithm may rely on.
class Preference {
 public:
  Preference(const Library& library, const LinearPlan& plan) : library_(library) {
    library.Check(library.create_preference(&preference_), "describing a preference");
    Set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{CublasLt::kScratchBytes});
    Set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(plan.weight_alignment));
    Set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(plan.input_alignment));
    Set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(plan.output_alignment));
    Set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(plan.output_alignment));
  }
  ~Preference() { library_.destroy_preference(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  template <typename Value>
  void Set(cublasLtMatmulPreferenceAttributes_t attribute, const Value& value) {
    library_.Check(library_.set_preference(preference_, attribute, &value, sizeof(value)),
                   "describing a preference");
  }

  const Library& library_;
  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

class CublasLt::State {
 public:
  explicit State(Device device) {
    const DeviceScope scope(device.index);  // of the handle
    library_.Check(library_.create(&handle_), "starting the library");
  }
  ~State() { library_.destroy(handle_); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void Multiply(Stream& stream, const LinearPlan& plan, const void* input, const void* weight,
                const void* bias, void* output, void* scratch) {
    const DeviceScope scope(stream.device().index);
    const Operation operation(library_, plan, bias);
    const Matrix a(library_, plan.dtype, plan.inputs, plan.outputs, plan.weight_stride,
                   plan.batches, 0);
    const Matrix b(library_, plan.dtype, plan.inputs, plan.rows, plan.input_stride, plan.batches,
                   plan.input_batch_stride);
    const Matrix d(library_, plan.output_type, plan.outputs, plan.rows, plan.output_stride,
                   plan.batches, plan.output_batch_stride);
    const cublasLtMatmulAlgo_t algorithm = AlgorithmFor(plan, operation, a, b, d);
    const float alpha = 1, beta = plan.accumulates ? 1 : 0;
    library_.Check(library_.matmul(handle_, operation.get(), &alpha, weight, a.get(), input,
                                   b.get(), &beta, output, d.get(), output, d.get(), &algorithm,
                                   scratch, kScratchBytes, stream.handle()),
                   "a product");
  }

 private:
  cublasLtMatmulAlgo_t AlgorithmFor(const LinearPlan& plan, const Operation& operation,
                                    const Matrix& a, const Matrix& b, const Matrix& d) {
    const std::lock_guard lock(mutex_);
    const auto known = algorithms_.find(plan);
    if (known != algorithms_.end()) return known->second;
    const Preference preference(library_, plan);
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    library_.Check(library_.find_algorithms(handle_, operation.get(), a.get(), b.get(), d.get(),
                                            d.get(), preference.get(), 1, &best, &found),
                   "choosing an algorithm");
    if (found == 0) Fail(ErrorCode::kUnsupported, "cuBLASLt: no algorithm for this product");
    return algorithms_.emplace(plan, best.algo).first->second;
  }

  Library library_;
  std::mutex mutex_;  // of the algorithms; the library itself serves several threads
  cublasLtHandle_t handle_ = nullptr;
  std::map<LinearPlan, cublasLtMatmulAlgo_t> algorithms_;
};

CublasLt::CublasLt(Device device) : state_(std::make_unique<State>(device)) {}

CublasLt::~CublasLt() = default;

void CublasLt::Multiply(Stream& stream, const LinearPlan& plan, const void* input,
                        const void* weight, const void* bias, void* output, void* scratch) {
  state_->Multiply(stream, plan, input, weight, bias, output, scratch);
}

}  // namespace tamias::cuda
