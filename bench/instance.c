/* The least that one request's instance costs in C: a fresh store, a fresh instance, a call on a fiber with the nine
 * host calls of the hello (which do nothing), and the drop of it all. No Python, no canonical ABI, no HTTP.
 *
 *     instance LIBRARY MODULE ITERATIONS
 *
 * prints the microseconds that one iteration took, by the clock and in processor time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libwasmtime.h"

static libwasmtime_t lib;

#define KIB 1024
#define MAX_IMPORTS 64

static const char HANDLE[] = "wasi:http/incoming-handler@0.2.12#handle";

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check(const char *what, wasmtime_error_t *error, wasm_trap_t *trap) {
    wasm_byte_vec_t text;
    if (!error && !trap) return;
    if (error) lib.wasmtime_error_message(error, &text);
    else lib.wasm_trap_message(trap, &text);
    fprintf(stderr, "%s: %.*s\n", what, (int)text.size, text.data);
    exit(1);
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

/* Functions that return a handle return 1; results in memory stay zero, which says that all went well. */
static wasm_trap_t *host(void *calls, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count) {
    ++*(long *)calls;
    values[0].i32 = 1;
    return NULL;
}

static wasm_engine_t *make_engine(void) {
    /* As EngineConfig has it. */
    wasm_config_t *config = lib.wasm_config_new();
    wasmtime_pooling_allocation_config_t *pool = lib.wasmtime_pooling_allocation_config_new();
    lib.wasmtime_config_epoch_interruption_set(config, true);
    lib.wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, 128 * KIB);
    lib.wasmtime_pooling_allocation_config_table_keep_resident_set(pool, 64 * KIB);
    lib.wasmtime_pooling_allocation_config_async_stack_keep_resident_set(pool, 64 * KIB);
    lib.wasmtime_pooling_allocation_strategy_set(config, pool);
    lib.wasmtime_pooling_allocation_config_delete(pool);
    return lib.wasm_engine_new_with_config(config);
}

static wasmtime_module_t *load_module(wasm_engine_t *engine, const char *path) {
    static uint8_t wasm[64 * KIB];
    wasmtime_module_t *module;
    FILE *file = fopen(path, "rb");
    if (!file) fail("cannot read the module");
    size_t size = fread(wasm, 1, sizeof wasm, file);
    fclose(file);
    check("module", lib.wasmtime_module_new(engine, wasm, size, &module), NULL);
    return module;
}

static void once(wasm_engine_t *engine, wasmtime_linker_t *linker, wasmtime_module_t *module,
                 const wasm_importtype_vec_t *imports) {
    wasmtime_extern_t externs[MAX_IMPORTS], handle;
    wasmtime_instance_t instance;
    wasmtime_val_t arguments[2] = {{.kind = 0, .of.i32 = 1}, {.kind = 0, .of.i32 = 2}};
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = NULL;

    wasmtime_store_t *store = lib.wasmtime_store_new(engine, NULL, NULL);
    wasmtime_context_t *context = lib.wasmtime_store_context(store);
    lib.wasmtime_context_set_epoch_deadline(context, 1000);
    for (size_t i = 0; i < imports->size; i++) {
        const wasm_byte_vec_t *from = lib.wasm_importtype_module(imports->data[i]);
        const wasm_byte_vec_t *name = lib.wasm_importtype_name(imports->data[i]);
        if (!lib.wasmtime_linker_get(linker, context, from->data, from->size, name->data, name->size, &externs[i]))
            fail("an import is not defined");
    }
    error = lib.wasmtime_instance_new(context, module, externs, imports->size, &instance, &trap);
    check("instance", error, trap);
    /* Only now: wasmtime refuses to instantiate synchronously once a store may yield. */
    lib.wasmtime_context_epoch_deadline_async_yield_and_update(context, 1);
    if (!lib.wasmtime_instance_export_get(context, &instance, HANDLE, sizeof HANDLE - 1, &handle)) fail("no handler");
    wasmtime_call_future_t *call =
        lib.wasmtime_func_call_async(context, &handle.of.func, arguments, 2, NULL, 0, &trap, &error);
    while (!lib.wasmtime_call_future_poll(call)) continue;
    lib.wasmtime_call_future_delete(call);
    check("call", error, trap);
    lib.wasmtime_store_delete(store);
}

int main(int count, char **arguments) {
    wasm_importtype_vec_t imports;
    long calls = 0;
    if (count != 4) fail("usage: instance LIBRARY MODULE ITERATIONS");
    const char *missing = load_libwasmtime(arguments[1], &lib);
    if (missing) fail(missing);
    int iterations = atoi(arguments[3]);

    wasm_engine_t *engine = make_engine();
    wasmtime_module_t *module = load_module(engine, arguments[2]);
    wasmtime_linker_t *linker = lib.wasmtime_linker_new(engine);
    lib.wasmtime_module_imports(module, &imports);
    if (imports.size > MAX_IMPORTS) fail("too many imports");
    for (size_t i = 0; i < imports.size; i++) {
        const wasm_byte_vec_t *from = lib.wasm_importtype_module(imports.data[i]);
        const wasm_byte_vec_t *name = lib.wasm_importtype_name(imports.data[i]);
        const wasm_functype_t *type = lib.wasm_externtype_as_functype_const(lib.wasm_importtype_type(imports.data[i]));
        check("import", lib.wasmtime_linker_define_func_unchecked(linker, from->data, from->size, name->data, name->size,
                                                              type, host, &calls, NULL), NULL);
    }

    for (int i = 0; i < iterations / 10; i++) once(engine, linker, module, &imports);
    calls = 0;
    double began = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < iterations; i++) once(engine, linker, module, &imports);
    used = now(CLOCK_PROCESS_CPUTIME_ID) - used;
    double took = now(CLOCK_MONOTONIC) - began;
    if (calls != 9L * iterations) fail("these are not nine host calls an iteration");
    printf("%f %f\n", took / iterations * 1e6, used / iterations * 1e6);
    return 0;
}
