/* Where native stacks end: guests that call hosts that call guests share one. */
#ifndef WASI_HTTP_STACK_H
#define WASI_HTTP_STACK_H

#include <stddef.h>
#include <stdint.h>
#ifdef _WIN32
#include <windows.h>
#include <intrin.h>
#else
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_getattr_np */
#endif
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>
#endif

#ifdef _MSC_VER
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL __thread
#endif

/* The store whose fiber this thread runs on, or NULL on the thread's own stack. */
static THREAD_LOCAL void *running_store;

static void *swap_running_store(void *store) {
    void *before = running_store;
    running_store = store;
    return before;
}

static inline uintptr_t stack_pointer(void) {
#ifdef _MSC_VER
    return (uintptr_t)_AddressOfReturnAddress();
#else
    return (uintptr_t)__builtin_frame_address(0);
#endif
}

/* The lowest address of the calling thread's own stack, or 0 where the system does not tell. */
static uintptr_t find_thread_stack_end(void) {
#if defined(_WIN32)
    ULONG_PTR low, high;
    GetCurrentThreadStackLimits(&low, &high);
    return (uintptr_t)low;
#elif defined(__APPLE__)
    pthread_t self = pthread_self();
    return (uintptr_t)pthread_get_stackaddr_np(self) - pthread_get_stacksize_np(self);
#elif defined(__linux__)
    pthread_attr_t attributes;
    void *low;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attributes)) return 0;
    int failed = pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    if (failed) return 0;
#ifndef __GLIBC__
    /* musl tells what the main thread's stack has grown to; it may grow to its limit. */
    struct rlimit limit;
    uintptr_t main_size = 8 << 20;
    if (getpid() == gettid() && !getrlimit(RLIMIT_STACK, &limit)) {
        if (limit.rlim_cur < main_size) main_size = limit.rlim_cur;
        if (size < main_size) return (uintptr_t)low + size - main_size;
    }
#endif
    return (uintptr_t)low;
#else
    return 0;
#endif
}

/* The same, asked for once per thread: it takes long for the main thread. */
static uintptr_t thread_stack_end(void) {
    static THREAD_LOCAL uintptr_t end;
    if (!end) end = find_thread_stack_end();
    return end;
}

#endif
