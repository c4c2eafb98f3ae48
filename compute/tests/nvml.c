// A stand-in for NVIDIA's management library, for the tests in src/trainer/system_metrics.rs
// and of the other package in tests/integration/doctor.rs. It answers the calls that nvml-wrapper
// makes for the GPU gauges and for `runboard doctor`, in their versions and with their structures, with fixed numbers. It shows that those
// calls go through the real loader and the real calling convention, and what becomes of their answers and errors.
// It is no proof that NVIDIA's own library answers the same.
//
// NVML_STAND_IN says what machine it plays:
//   one      one GPU that lists no process, as in a container
//   two      two GPUs, of which only the second lists the calling process
//   part     a part of a GPU (MIG), of which no utilisation is told
//   lost     one GPU that has fallen off the bus
//   old      one GPU under a driver that does not know this version of the memory's structure
//   none     no driver is loaded
//
// https://docs.nvidia.com/deploy/nvml-api/
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15,
       ARGUMENT_VERSION_MISMATCH = 25 };

typedef struct { unsigned index; } Device;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;

static Device devices[] = {{0}, {1}};

static int plays(const char *machine) {
    const char *played = getenv("NVML_STAND_IN");
    return played != NULL && strcmp(played, machine) == 0;
}

int nvmlInit_v2(void) { return plays("none") ? DRIVER_NOT_LOADED : SUCCESS; }

int nvmlShutdown(void) { return SUCCESS; }

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    strncpy(version, "580.65.06", length);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = 13010;
    return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = plays("two") ? 2 : 1;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index >= (plays("two") ? 2 : 1)) return INVALID_ARGUMENT;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetName(Device *device, char *name, unsigned length) {
    if (plays("lost")) return GPU_IS_LOST;
    strncpy(name, device->index == 1 ? "Another GPU" : "A GPU", length);
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    if (plays("lost")) return GPU_IS_LOST;
    *major = device->index == 1 ? 7 : 9;
    *minor = device->index == 1 ? 5 : 0;
    return SUCCESS;
}

// `count` is the room in `processes` on the way in and what there is on the way out.
int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, Process *processes) {
    if (plays("lost")) return GPU_IS_LOST;
    if (!plays("two")) {
        *count = 0;
        return SUCCESS;
    }
    unsigned room = *count;
    *count = 2;
    if (room < 2) return INSUFFICIENT_SIZE;
    // Process 1 is on both.
    processes[0] = (Process){1, 1 << 20, ~0u, ~0u};
    processes[1] = (Process){device->index == 1 ? (unsigned)getpid() : (unsigned)getppid(), 1 << 20, ~0u, ~0u};
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *utilization) {
    if (plays("lost")) return GPU_IS_LOST;
    if (plays("part")) return NOT_SUPPORTED;
    *utilization = (Utilization){device->index == 1 ? 75 : 40, 12};
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory *memory) {
    if (plays("lost")) return GPU_IS_LOST;
    if (plays("old") || memory->version != (sizeof(Memory) | 2 << 24)) return ARGUMENT_VERSION_MISMATCH;
    unsigned long long gib = 1ull << 30, used = device->index == 1 ? 3 * gib : 2 * gib;
    *memory = (Memory){memory->version, 80 * gib, gib, 79 * gib - used, used};
    return SUCCESS;
}
