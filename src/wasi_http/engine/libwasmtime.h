/* What we use of the C API of wasmtime 50: layouts and signatures, and a loader.
 *
 * The functions are pointers that load_libwasmtime() fills from the shared library of the `wasmtime` wheel, so that
 * building needs no header and no library of wasmtime. The layouts are those of the releases that library.py accepts;
 * their sizes are asserted below.
 */
#ifndef WASI_HTTP_LIBWASMTIME_H
#define WASI_HTTP_LIBWASMTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#include <sys/mman.h>
#endif

typedef struct wasm_config_t wasm_config_t;
typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasm_frame_t wasm_frame_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef struct wasm_valtype_t wasm_valtype_t;
typedef struct wasm_importtype_t wasm_importtype_t;
typedef struct wasm_exporttype_t wasm_exporttype_t;
typedef struct wasm_externtype_t wasm_externtype_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_store wasmtime_store_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_instance_pre wasmtime_instance_pre_t;
typedef struct wasmtime_call_future wasmtime_call_future_t;
typedef struct wasmtime_pooling_allocation_config_t wasmtime_pooling_allocation_config_t;

typedef struct { size_t size; char *data; } wasm_byte_vec_t;
typedef struct { size_t size; wasm_valtype_t **data; } wasm_valtype_vec_t;
typedef struct { size_t size; wasm_importtype_t **data; } wasm_importtype_vec_t;
typedef struct { size_t size; wasm_exporttype_t **data; } wasm_exporttype_vec_t;
typedef struct { size_t size; wasm_frame_t **data; } wasm_frame_vec_t;

typedef struct { uint64_t store_id; void *opaque; } wasmtime_func_t;
typedef struct { struct { uint64_t store_id; uint32_t first; } inner; uint32_t second; } wasmtime_memory_t;
typedef struct { uint64_t store_id; size_t opaque; } wasmtime_instance_t;

typedef union {
    wasmtime_func_t func;
    wasmtime_memory_t memory;
    uint64_t any[3];
} wasmtime_extern_union_t;
typedef struct { uint8_t kind; wasmtime_extern_union_t of; } wasmtime_extern_t;

typedef union {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint64_t any[3];
} wasmtime_valunion_t;
typedef struct { uint8_t kind; wasmtime_valunion_t of; } wasmtime_val_t;

typedef union {
    int32_t i32;
    int64_t i64;
    uint32_t u32;
    uint64_t u64;
    float f32;
    double f64;
    uint64_t any[2];
} wasmtime_val_raw_t;

typedef wasm_trap_t *(*wasmtime_func_unchecked_callback_t)(void *env, wasmtime_caller_t *caller,
                                                           wasmtime_val_raw_t *args_and_results, size_t count);
typedef struct {
    bool (*callback)(void *env);
    void *env;
    void (*finalizer)(void *env);
} wasmtime_async_continuation_t;
typedef void (*wasmtime_func_async_callback_t)(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args,
                                               size_t nargs, wasmtime_val_t *results, size_t nresults,
                                               wasm_trap_t **trap, wasmtime_async_continuation_t *continuation);

_Static_assert(sizeof(wasmtime_val_t) == 32 && sizeof(wasmtime_extern_t) == 32, "layout");
_Static_assert(sizeof(wasmtime_val_raw_t) == 16 && sizeof(wasmtime_memory_t) == 24, "layout");

#define LIBWASMTIME(F) \
    F(wasm_config_t *, wasm_config_new, (void)) \
    F(wasm_engine_t *, wasm_engine_new_with_config, (wasm_config_t *)) \
    F(void, wasm_engine_delete, (wasm_engine_t *)) \
    F(wasm_engine_t *, wasmtime_engine_clone, (const wasm_engine_t *)) \
    F(void, wasmtime_engine_increment_epoch, (const wasm_engine_t *)) \
    F(void, wasmtime_config_epoch_interruption_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_max_wasm_stack_set, (wasm_config_t *, size_t)) \
    F(void, wasmtime_config_async_stack_size_set, (wasm_config_t *, size_t)) \
    F(void, wasmtime_config_shared_memory_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_threads_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_function_references_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_gc_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_memory64_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_exceptions_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_wide_arithmetic_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_custom_page_sizes_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_stack_switching_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_wasm_component_model_async_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_gc_support_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_parallel_compilation_set, (wasm_config_t *, bool)) \
    F(wasmtime_error_t *, wasmtime_config_target_set, (wasm_config_t *, const char *)) \
    F(void, wasmtime_config_memory_reservation_set, (wasm_config_t *, uint64_t)) \
    F(void, wasmtime_config_memory_reservation_for_growth_set, (wasm_config_t *, uint64_t)) \
    F(void, wasmtime_config_memory_may_move_set, (wasm_config_t *, bool)) \
    F(void, wasmtime_config_memory_guard_size_set, (wasm_config_t *, uint64_t)) \
    F(wasmtime_pooling_allocation_config_t *, wasmtime_pooling_allocation_config_new, (void)) \
    F(void, wasmtime_pooling_allocation_config_delete, (wasmtime_pooling_allocation_config_t *)) \
    F(void, wasmtime_pooling_allocation_config_linear_memory_keep_resident_set, \
      (wasmtime_pooling_allocation_config_t *, size_t)) \
    F(void, wasmtime_pooling_allocation_config_table_keep_resident_set, \
      (wasmtime_pooling_allocation_config_t *, size_t)) \
    F(void, wasmtime_pooling_allocation_config_async_stack_keep_resident_set, \
      (wasmtime_pooling_allocation_config_t *, size_t)) \
    F(void, wasmtime_pooling_allocation_config_total_core_instances_set, \
      (wasmtime_pooling_allocation_config_t *, uint32_t)) \
    F(void, wasmtime_pooling_allocation_config_total_memories_set, (wasmtime_pooling_allocation_config_t *, uint32_t)) \
    F(void, wasmtime_pooling_allocation_config_total_tables_set, (wasmtime_pooling_allocation_config_t *, uint32_t)) \
    F(void, wasmtime_pooling_allocation_config_total_stacks_set, (wasmtime_pooling_allocation_config_t *, uint32_t)) \
    F(void, wasmtime_pooling_allocation_config_max_tables_per_module_set, \
      (wasmtime_pooling_allocation_config_t *, uint32_t)) \
    F(void, wasmtime_pooling_allocation_config_max_memories_per_module_set, \
      (wasmtime_pooling_allocation_config_t *, uint32_t)) \
    F(void, wasmtime_pooling_allocation_config_table_elements_set, (wasmtime_pooling_allocation_config_t *, size_t)) \
    F(void, wasmtime_pooling_allocation_config_max_memory_size_set, (wasmtime_pooling_allocation_config_t *, size_t)) \
    F(void, wasmtime_pooling_allocation_strategy_set, \
      (wasm_config_t *, const wasmtime_pooling_allocation_config_t *)) \
    F(wasmtime_error_t *, wasmtime_module_validate, (wasm_engine_t *, const uint8_t *, size_t)) \
    F(wasmtime_error_t *, wasmtime_module_new, (wasm_engine_t *, const uint8_t *, size_t, wasmtime_module_t **)) \
    F(void, wasmtime_module_delete, (wasmtime_module_t *)) \
    F(void, wasmtime_module_imports, (const wasmtime_module_t *, wasm_importtype_vec_t *)) \
    F(void, wasmtime_module_exports, (const wasmtime_module_t *, wasm_exporttype_vec_t *)) \
    F(wasmtime_error_t *, wasmtime_module_serialize, (const wasmtime_module_t *, wasm_byte_vec_t *)) \
    F(wasmtime_error_t *, wasmtime_module_deserialize, \
      (wasm_engine_t *, const uint8_t *, size_t, wasmtime_module_t **)) \
    F(wasmtime_error_t *, wasmtime_module_deserialize_file, (wasm_engine_t *, const char *, wasmtime_module_t **)) \
    F(wasmtime_error_t *, wasmtime_wat2wasm, (const char *, size_t, wasm_byte_vec_t *)) \
    F(void, wasm_byte_vec_delete, (wasm_byte_vec_t *)) \
    F(void, wasm_importtype_vec_delete, (wasm_importtype_vec_t *)) \
    F(void, wasm_exporttype_vec_delete, (wasm_exporttype_vec_t *)) \
    F(void, wasm_frame_vec_delete, (wasm_frame_vec_t *)) \
    F(const wasm_byte_vec_t *, wasm_importtype_module, (const wasm_importtype_t *)) \
    F(const wasm_byte_vec_t *, wasm_importtype_name, (const wasm_importtype_t *)) \
    F(const wasm_externtype_t *, wasm_importtype_type, (const wasm_importtype_t *)) \
    F(const wasm_byte_vec_t *, wasm_exporttype_name, (const wasm_exporttype_t *)) \
    F(const wasm_externtype_t *, wasm_exporttype_type, (const wasm_exporttype_t *)) \
    F(uint8_t, wasm_externtype_kind, (const wasm_externtype_t *)) \
    F(const wasm_functype_t *, wasm_externtype_as_functype_const, (const wasm_externtype_t *)) \
    F(const wasm_valtype_vec_t *, wasm_functype_params, (const wasm_functype_t *)) \
    F(const wasm_valtype_vec_t *, wasm_functype_results, (const wasm_functype_t *)) \
    F(wasm_functype_t *, wasm_functype_new, (wasm_valtype_vec_t *, wasm_valtype_vec_t *)) \
    F(void, wasm_functype_delete, (wasm_functype_t *)) \
    F(wasm_valtype_t *, wasm_valtype_new, (uint8_t)) \
    F(uint8_t, wasm_valtype_kind, (const wasm_valtype_t *)) \
    F(wasm_valtype_t *, wasmtime_wasm_valtype_v128, (void)) \
    F(bool, wasmtime_wasm_valtype_equal, (const wasm_valtype_t *, const wasm_valtype_t *)) \
    F(void, wasm_valtype_vec_new_uninitialized, (wasm_valtype_vec_t *, size_t)) \
    F(void, wasm_valtype_vec_new_empty, (wasm_valtype_vec_t *)) \
    F(void, wasmtime_error_delete, (wasmtime_error_t *)) \
    F(void, wasmtime_error_message, (const wasmtime_error_t *, wasm_byte_vec_t *)) \
    F(void, wasmtime_error_wasm_trace, (const wasmtime_error_t *, wasm_frame_vec_t *)) \
    F(wasm_trap_t *, wasmtime_trap_new, (const char *, size_t)) \
    F(void, wasm_trap_delete, (wasm_trap_t *)) \
    F(void, wasm_trap_message, (const wasm_trap_t *, wasm_byte_vec_t *)) \
    F(void, wasm_trap_trace, (const wasm_trap_t *, wasm_frame_vec_t *)) \
    F(uint32_t, wasm_frame_func_index, (const wasm_frame_t *)) \
    F(size_t, wasm_frame_module_offset, (const wasm_frame_t *)) \
    F(const wasm_byte_vec_t *, wasmtime_frame_func_name, (const wasm_frame_t *)) \
    F(const wasm_byte_vec_t *, wasmtime_frame_module_name, (const wasm_frame_t *)) \
    F(wasmtime_linker_t *, wasmtime_linker_new, (wasm_engine_t *)) \
    F(void, wasmtime_linker_delete, (wasmtime_linker_t *)) \
    F(wasmtime_error_t *, wasmtime_linker_define_func_unchecked, \
      (wasmtime_linker_t *, const char *, size_t, const char *, size_t, const wasm_functype_t *, \
       wasmtime_func_unchecked_callback_t, void *, void (*)(void *))) \
    F(wasmtime_error_t *, wasmtime_linker_define_async_func, \
      (wasmtime_linker_t *, const char *, size_t, const char *, size_t, const wasm_functype_t *, \
       wasmtime_func_async_callback_t, void *, void (*)(void *))) \
    F(bool, wasmtime_linker_get, \
      (const wasmtime_linker_t *, wasmtime_context_t *, const char *, size_t, const char *, size_t, \
       wasmtime_extern_t *)) \
    F(wasmtime_store_t *, wasmtime_store_new, (wasm_engine_t *, void *, void (*)(void *))) \
    F(void, wasmtime_store_delete, (wasmtime_store_t *)) \
    F(wasmtime_context_t *, wasmtime_store_context, (wasmtime_store_t *)) \
    F(void, wasmtime_store_limiter, (wasmtime_store_t *, int64_t, int64_t, int64_t, int64_t, int64_t)) \
    F(void *, wasmtime_context_get_data, (const wasmtime_context_t *)) \
    F(void, wasmtime_context_set_epoch_deadline, (wasmtime_context_t *, uint64_t)) \
    F(void, wasmtime_context_epoch_deadline_async_yield_and_update, (wasmtime_context_t *, uint64_t)) \
    F(wasmtime_context_t *, wasmtime_caller_context, (wasmtime_caller_t *)) \
    F(void, wasmtime_store_epoch_deadline_callback, \
      (wasmtime_store_t *, wasmtime_error_t *(*)(wasmtime_context_t *, void *, uint64_t *, uint8_t *), void *, \
       void (*)(void *))) \
    F(wasmtime_error_t *, wasmtime_error_new, (const char *)) \
    F(wasmtime_error_t *, wasmtime_linker_instantiate_pre, \
      (const wasmtime_linker_t *, const wasmtime_module_t *, wasmtime_instance_pre_t **)) \
    F(void, wasmtime_instance_pre_delete, (wasmtime_instance_pre_t *)) \
    F(wasmtime_error_t *, wasmtime_instance_pre_instantiate, \
      (const wasmtime_instance_pre_t *, wasmtime_context_t *, wasmtime_instance_t *, wasm_trap_t **)) \
    F(wasmtime_error_t *, wasmtime_instance_new, \
      (wasmtime_context_t *, const wasmtime_module_t *, const wasmtime_extern_t *, size_t, wasmtime_instance_t *, \
       wasm_trap_t **)) \
    F(bool, wasmtime_instance_export_get, \
      (wasmtime_context_t *, const wasmtime_instance_t *, const char *, size_t, wasmtime_extern_t *)) \
    F(wasmtime_call_future_t *, wasmtime_func_call_async, \
      (wasmtime_context_t *, const wasmtime_func_t *, const wasmtime_val_t *, size_t, wasmtime_val_t *, size_t, \
       wasm_trap_t **, wasmtime_error_t **)) \
    F(wasmtime_error_t *, wasmtime_func_call_unchecked, \
      (wasmtime_context_t *, const wasmtime_func_t *, wasmtime_val_raw_t *, size_t, wasm_trap_t **)) \
    F(bool, wasmtime_call_future_poll, (wasmtime_call_future_t *)) \
    F(void, wasmtime_call_future_delete, (wasmtime_call_future_t *)) \
    F(uint8_t *, wasmtime_memory_data, (wasmtime_context_t *, const wasmtime_memory_t *)) \
    F(size_t, wasmtime_memory_data_size, (const wasmtime_context_t *, const wasmtime_memory_t *))

#define MEMBER(result, name, parameters) result(*name) parameters;
typedef struct { LIBWASMTIME(MEMBER) } libwasmtime_t;
#undef MEMBER

/* Fills the pointers from the library at `path`; returns NULL, or the name of what is missing. */
static const char *load_libwasmtime(const char *path, libwasmtime_t *functions) {
#ifdef _WIN32
    HMODULE library = LoadLibraryA(path);
#define FIND(name) (void *)GetProcAddress(library, name)
#else
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
#define FIND(name) dlsym(library, name)
#endif
    if (!library) return path;
#define LOAD(result, name, parameters) \
    *(void **)&functions->name = FIND(#name); \
    if (!functions->name) return #name;
    LIBWASMTIME(LOAD)
#undef LOAD
#undef FIND
    return NULL;
}

/* Whether `bytes` of address space can be reserved in one piece (nothing is committed). */
static bool can_reserve(uint64_t bytes) {
#ifdef _WIN32
    void *base = VirtualAlloc(NULL, bytes, MEM_RESERVE, PAGE_NOACCESS);
    if (!base) return false;
    VirtualFree(base, 0, MEM_RELEASE);
    return true;
#else
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
    void *base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return false;
    munmap(base, bytes);
    return true;
#endif
}

#endif
