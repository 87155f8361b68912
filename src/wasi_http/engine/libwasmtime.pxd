# cython: language_level=3
"""libwasmtime.h as Cython sees it; kept in step with the header by hand."""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

ctypedef void (*finalizer_t)(void*) noexcept nogil

cdef extern from "libwasmtime.h" nogil:
    ctypedef bint c_bool "bool"
    ctypedef struct wasm_config_t:
        pass
    ctypedef struct wasm_engine_t:
        pass
    ctypedef struct wasm_trap_t:
        pass
    ctypedef struct wasm_frame_t:
        pass
    ctypedef struct wasm_functype_t:
        pass
    ctypedef struct wasm_valtype_t:
        pass
    ctypedef struct wasm_importtype_t:
        pass
    ctypedef struct wasm_exporttype_t:
        pass
    ctypedef struct wasm_externtype_t:
        pass
    ctypedef struct wasmtime_error_t:
        pass
    ctypedef struct wasmtime_module_t:
        pass
    ctypedef struct wasmtime_store_t:
        pass
    ctypedef struct wasmtime_context_t:
        pass
    ctypedef struct wasmtime_caller_t:
        pass
    ctypedef struct wasmtime_instance_pre_t:
        pass
    ctypedef struct wasmtime_linker_t:
        pass
    ctypedef struct wasmtime_call_future_t:
        pass
    ctypedef struct wasmtime_pooling_allocation_config_t:
        pass

    ctypedef struct wasm_byte_vec_t:
        size_t size
        char* data
    ctypedef struct wasm_valtype_vec_t:
        size_t size
        wasm_valtype_t** data
    ctypedef struct wasm_importtype_vec_t:
        size_t size
        wasm_importtype_t** data
    ctypedef struct wasm_exporttype_vec_t:
        size_t size
        wasm_exporttype_t** data
    ctypedef struct wasm_frame_vec_t:
        size_t size
        wasm_frame_t** data

    ctypedef struct wasmtime_func_t:
        uint64_t store_id
    ctypedef struct wasmtime_memory_t:
        pass
    ctypedef struct wasmtime_instance_t:
        uint64_t store_id
    ctypedef union wasmtime_extern_union_t:
        wasmtime_func_t func
        wasmtime_memory_t memory
    ctypedef struct wasmtime_extern_t:
        uint8_t kind
        wasmtime_extern_union_t of
    ctypedef union wasmtime_valunion_t:
        int32_t i32
        int64_t i64
        float f32
        double f64
    ctypedef struct wasmtime_val_t:
        uint8_t kind
        wasmtime_valunion_t of
    ctypedef union wasmtime_val_raw_t:
        int32_t i32
        int64_t i64
        uint32_t u32
        uint64_t u64
        float f32
        double f64

    ctypedef wasm_trap_t* (*wasmtime_func_unchecked_callback_t)(void*, wasmtime_caller_t*, wasmtime_val_raw_t*, size_t) noexcept nogil
    ctypedef struct wasmtime_async_continuation_t:
        c_bool (*callback)(void*) noexcept nogil
        void* env
        finalizer_t finalizer
    ctypedef void (*wasmtime_func_async_callback_t)(void*, wasmtime_caller_t*, const wasmtime_val_t*, size_t, wasmtime_val_t*, size_t, wasm_trap_t**, wasmtime_async_continuation_t*) noexcept nogil

    ctypedef struct libwasmtime_t:
        wasm_config_t* (*wasm_config_new)() noexcept nogil
        wasm_engine_t* (*wasm_engine_new_with_config)(wasm_config_t*) noexcept nogil
        void (*wasm_engine_delete)(wasm_engine_t*) noexcept nogil
        wasm_engine_t* (*wasmtime_engine_clone)(const wasm_engine_t*) noexcept nogil
        void (*wasmtime_engine_increment_epoch)(const wasm_engine_t*) noexcept nogil
        void (*wasmtime_config_epoch_interruption_set)(wasm_config_t*, bint) noexcept nogil
        wasmtime_error_t* (*wasmtime_config_target_set)(wasm_config_t*, const char*) noexcept nogil
        void (*wasmtime_config_max_wasm_stack_set)(wasm_config_t*, size_t) noexcept nogil
        void (*wasmtime_config_async_stack_size_set)(wasm_config_t*, size_t) noexcept nogil
        void (*wasmtime_config_shared_memory_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_threads_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_function_references_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_gc_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_memory64_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_exceptions_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_wide_arithmetic_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_custom_page_sizes_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_stack_switching_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_wasm_component_model_async_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_gc_support_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_parallel_compilation_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_memory_reservation_set)(wasm_config_t*, uint64_t) noexcept nogil
        void (*wasmtime_config_memory_reservation_for_growth_set)(wasm_config_t*, uint64_t) noexcept nogil
        void (*wasmtime_config_memory_may_move_set)(wasm_config_t*, bint) noexcept nogil
        void (*wasmtime_config_memory_guard_size_set)(wasm_config_t*, uint64_t) noexcept nogil
        wasmtime_pooling_allocation_config_t* (*wasmtime_pooling_allocation_config_new)() noexcept nogil
        void (*wasmtime_pooling_allocation_config_delete)(wasmtime_pooling_allocation_config_t*) noexcept nogil
        void (*wasmtime_pooling_allocation_config_linear_memory_keep_resident_set)(wasmtime_pooling_allocation_config_t*, size_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_table_keep_resident_set)(wasmtime_pooling_allocation_config_t*, size_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_async_stack_keep_resident_set)(wasmtime_pooling_allocation_config_t*, size_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_total_core_instances_set)(wasmtime_pooling_allocation_config_t*, uint32_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_total_memories_set)(wasmtime_pooling_allocation_config_t*, uint32_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_total_tables_set)(wasmtime_pooling_allocation_config_t*, uint32_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_total_stacks_set)(wasmtime_pooling_allocation_config_t*, uint32_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_max_tables_per_module_set)(wasmtime_pooling_allocation_config_t*, uint32_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_max_memories_per_module_set)(wasmtime_pooling_allocation_config_t*, uint32_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_table_elements_set)(wasmtime_pooling_allocation_config_t*, size_t) noexcept nogil
        void (*wasmtime_pooling_allocation_config_max_memory_size_set)(wasmtime_pooling_allocation_config_t*, size_t) noexcept nogil
        void (*wasmtime_pooling_allocation_strategy_set)(wasm_config_t*, const wasmtime_pooling_allocation_config_t*) noexcept nogil
        wasmtime_error_t* (*wasmtime_module_validate)(wasm_engine_t*, const uint8_t*, size_t) noexcept nogil
        wasmtime_error_t* (*wasmtime_module_new)(wasm_engine_t*, const uint8_t*, size_t, wasmtime_module_t**) noexcept nogil
        void (*wasmtime_module_delete)(wasmtime_module_t*) noexcept nogil
        void (*wasmtime_module_imports)(const wasmtime_module_t*, wasm_importtype_vec_t*) noexcept nogil
        void (*wasmtime_module_exports)(const wasmtime_module_t*, wasm_exporttype_vec_t*) noexcept nogil
        wasmtime_error_t* (*wasmtime_module_serialize)(const wasmtime_module_t*, wasm_byte_vec_t*) noexcept nogil
        wasmtime_error_t* (*wasmtime_module_deserialize)(wasm_engine_t*, const uint8_t*, size_t, wasmtime_module_t**) noexcept nogil
        wasmtime_error_t* (*wasmtime_module_deserialize_file)(wasm_engine_t*, const char*, wasmtime_module_t**) noexcept nogil
        wasmtime_error_t* (*wasmtime_wat2wasm)(const char*, size_t, wasm_byte_vec_t*) noexcept nogil
        void (*wasm_byte_vec_delete)(wasm_byte_vec_t*) noexcept nogil
        void (*wasm_importtype_vec_delete)(wasm_importtype_vec_t*) noexcept nogil
        void (*wasm_exporttype_vec_delete)(wasm_exporttype_vec_t*) noexcept nogil
        void (*wasm_frame_vec_delete)(wasm_frame_vec_t*) noexcept nogil
        const wasm_byte_vec_t* (*wasm_importtype_module)(const wasm_importtype_t*) noexcept nogil
        const wasm_byte_vec_t* (*wasm_importtype_name)(const wasm_importtype_t*) noexcept nogil
        const wasm_externtype_t* (*wasm_importtype_type)(const wasm_importtype_t*) noexcept nogil
        const wasm_byte_vec_t* (*wasm_exporttype_name)(const wasm_exporttype_t*) noexcept nogil
        const wasm_externtype_t* (*wasm_exporttype_type)(const wasm_exporttype_t*) noexcept nogil
        uint8_t (*wasm_externtype_kind)(const wasm_externtype_t*) noexcept nogil
        const wasm_functype_t* (*wasm_externtype_as_functype_const)(const wasm_externtype_t*) noexcept nogil
        const wasm_valtype_vec_t* (*wasm_functype_params)(const wasm_functype_t*) noexcept nogil
        const wasm_valtype_vec_t* (*wasm_functype_results)(const wasm_functype_t*) noexcept nogil
        wasm_functype_t* (*wasm_functype_new)(wasm_valtype_vec_t*, wasm_valtype_vec_t*) noexcept nogil
        void (*wasm_functype_delete)(wasm_functype_t*) noexcept nogil
        wasm_valtype_t* (*wasm_valtype_new)(uint8_t) noexcept nogil
        uint8_t (*wasm_valtype_kind)(const wasm_valtype_t*) noexcept nogil
        wasm_valtype_t* (*wasmtime_wasm_valtype_v128)() noexcept nogil
        bint (*wasmtime_wasm_valtype_equal)(const wasm_valtype_t*, const wasm_valtype_t*) noexcept nogil
        void (*wasm_valtype_vec_new_uninitialized)(wasm_valtype_vec_t*, size_t) noexcept nogil
        void (*wasm_valtype_vec_new_empty)(wasm_valtype_vec_t*) noexcept nogil
        void (*wasmtime_error_delete)(wasmtime_error_t*) noexcept nogil
        void (*wasmtime_error_message)(const wasmtime_error_t*, wasm_byte_vec_t*) noexcept nogil
        void (*wasmtime_error_wasm_trace)(const wasmtime_error_t*, wasm_frame_vec_t*) noexcept nogil
        wasm_trap_t* (*wasmtime_trap_new)(const char*, size_t) noexcept nogil
        void (*wasm_trap_delete)(wasm_trap_t*) noexcept nogil
        void (*wasm_trap_message)(const wasm_trap_t*, wasm_byte_vec_t*) noexcept nogil
        void (*wasm_trap_trace)(const wasm_trap_t*, wasm_frame_vec_t*) noexcept nogil
        uint32_t (*wasm_frame_func_index)(const wasm_frame_t*) noexcept nogil
        size_t (*wasm_frame_module_offset)(const wasm_frame_t*) noexcept nogil
        const wasm_byte_vec_t* (*wasmtime_frame_func_name)(const wasm_frame_t*) noexcept nogil
        const wasm_byte_vec_t* (*wasmtime_frame_module_name)(const wasm_frame_t*) noexcept nogil
        wasmtime_linker_t* (*wasmtime_linker_new)(wasm_engine_t*) noexcept nogil
        void (*wasmtime_linker_delete)(wasmtime_linker_t*) noexcept nogil
        wasmtime_error_t* (*wasmtime_linker_define_func_unchecked)(wasmtime_linker_t*, const char*, size_t, const char*, size_t, const wasm_functype_t*, wasmtime_func_unchecked_callback_t, void*, finalizer_t) noexcept nogil
        wasmtime_error_t* (*wasmtime_linker_define_async_func)(wasmtime_linker_t*, const char*, size_t, const char*, size_t, const wasm_functype_t*, wasmtime_func_async_callback_t, void*, finalizer_t) noexcept nogil
        bint (*wasmtime_linker_get)(const wasmtime_linker_t*, wasmtime_context_t*, const char*, size_t, const char*, size_t, wasmtime_extern_t*) noexcept nogil
        wasmtime_store_t* (*wasmtime_store_new)(wasm_engine_t*, void*, finalizer_t) noexcept nogil
        void (*wasmtime_store_delete)(wasmtime_store_t*) noexcept nogil
        wasmtime_context_t* (*wasmtime_store_context)(wasmtime_store_t*) noexcept nogil
        void (*wasmtime_store_limiter)(wasmtime_store_t*, int64_t, int64_t, int64_t, int64_t, int64_t) noexcept nogil
        void* (*wasmtime_context_get_data)(const wasmtime_context_t*) noexcept nogil
        void (*wasmtime_context_set_epoch_deadline)(wasmtime_context_t*, uint64_t) noexcept nogil
        void (*wasmtime_context_epoch_deadline_async_yield_and_update)(wasmtime_context_t*, uint64_t) noexcept nogil
        wasmtime_context_t* (*wasmtime_caller_context)(wasmtime_caller_t*) noexcept nogil
        void (*wasmtime_store_epoch_deadline_callback)(wasmtime_store_t*, wasmtime_error_t* (*)(wasmtime_context_t*, void*, uint64_t*, uint8_t*) noexcept nogil, void*, finalizer_t) noexcept nogil
        wasmtime_error_t* (*wasmtime_error_new)(const char*) noexcept nogil
        wasmtime_error_t* (*wasmtime_linker_instantiate_pre)(const wasmtime_linker_t*, const wasmtime_module_t*, wasmtime_instance_pre_t**) noexcept nogil
        void (*wasmtime_instance_pre_delete)(wasmtime_instance_pre_t*) noexcept nogil
        wasmtime_error_t* (*wasmtime_instance_pre_instantiate)(const wasmtime_instance_pre_t*, wasmtime_context_t*, wasmtime_instance_t*, wasm_trap_t**) noexcept nogil
        wasmtime_error_t* (*wasmtime_instance_new)(wasmtime_context_t*, const wasmtime_module_t*, const wasmtime_extern_t*, size_t, wasmtime_instance_t*, wasm_trap_t**) noexcept nogil
        bint (*wasmtime_instance_export_get)(wasmtime_context_t*, const wasmtime_instance_t*, const char*, size_t, wasmtime_extern_t*) noexcept nogil
        wasmtime_call_future_t* (*wasmtime_func_call_async)(wasmtime_context_t*, const wasmtime_func_t*, const wasmtime_val_t*, size_t, wasmtime_val_t*, size_t, wasm_trap_t**, wasmtime_error_t**) noexcept nogil
        wasmtime_error_t* (*wasmtime_func_call_unchecked)(wasmtime_context_t*, const wasmtime_func_t*, wasmtime_val_raw_t*, size_t, wasm_trap_t**) noexcept nogil
        bint (*wasmtime_call_future_poll)(wasmtime_call_future_t*) noexcept nogil
        void (*wasmtime_call_future_delete)(wasmtime_call_future_t*) noexcept nogil
        uint8_t* (*wasmtime_memory_data)(wasmtime_context_t*, const wasmtime_memory_t*) noexcept nogil
        size_t (*wasmtime_memory_data_size)(const wasmtime_context_t*, const wasmtime_memory_t*) noexcept nogil

    const char* load_libwasmtime(const char* path, libwasmtime_t* functions)
    bint can_reserve(uint64_t size)
