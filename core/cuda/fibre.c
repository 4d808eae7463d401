/* fibre.c: switching stacks. On x86-64 a few instructions (swapcontext makes two system calls
 * for the signal mask, twenty times the price); elsewhere swapcontext. AddressSanitizer is
 * told of every switch. */
#include "cuda/fibre.h"

#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define STACK ((size_t)256 << 10)
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) \
  ((void)(save), (void)(bottom), (void)(size))
#define __sanitizer_finish_switch_fiber(fake, bottom, size) \
  ((void)(fake), (void)(bottom), (void)(size))
#define __asan_unpoison_memory_region(at, size) (void)(at)
#define STACK ((size_t)64 << 10)
#endif
#define GUARD ((size_t)4096)

/* ---- the switch ---- */

#if defined(__x86_64__)

typedef void *context; /* stack pointer; the registers lie on top of the stack */

void lm_fibre_switch(context *from, context to);
__asm__(
    ".text\n"
    ".globl lm_fibre_switch\n"
    ".hidden lm_fibre_switch\n"
    ".type lm_fibre_switch, @function\n"
    "lm_fibre_switch:\n"
    "  pushq %rbp\n"
    "  pushq %rbx\n"
    "  pushq %r12\n"
    "  pushq %r13\n"
    "  pushq %r14\n"
    "  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n"
    "  popq %r14\n"
    "  popq %r13\n"
    "  popq %r12\n"
    "  popq %rbx\n"
    "  popq %rbp\n"
    "  ret\n"
    ".size lm_fibre_switch, .-lm_fibre_switch\n");

/* As if main had been called and had then switched away: below its return address (none),
 * which puts the stack at 8 modulo 16 as after any call, lie its own address, to which the
 * switch returns, and six registers. */
static void context_make(context *c, char *stack, size_t size, void (*main)(void))
{
  void **top = (void **)(stack + size);
  *--top = NULL;
  *--top = (void *)(uintptr_t)main;
  for (int i = 0; i < 6; i++) *--top = NULL;
  *c = top;
}

#define context_switch(from, to) lm_fibre_switch(from, *(to))

#else

#include <ucontext.h>

typedef ucontext_t context;

static void context_make(context *c, char *stack, size_t size, void (*main)(void))
{
  getcontext(c);
  c->uc_stack.ss_sp = stack;
  c->uc_stack.ss_size = size;
  c->uc_link = NULL;
  makecontext(c, main, 0);
}

#define context_switch(from, to) (void)swapcontext(from, to)

#endif

/* ---- fibres ---- */

struct lm_fibre {
  context c;
  char *memory, *stack; /* memory starts with an inaccessible page */
  void *fake_stack;     /* AddressSanitizer's */
  void (*main)(void);
};

static context scheduler;
static const void *scheduler_stack;
static size_t scheduler_size;
static lm_fibre *running;

static void begin(void)
{
  __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_size);
  running->main();
}

lm_status lm_fibre_new(void (*main)(void), lm_fibre **out)
{
  lm_fibre *f;
  LM_TRY(lm_calloc(&f, 1, sizeof *f));
  f->memory = mmap(NULL, GUARD + STACK, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (f->memory == MAP_FAILED || mprotect(f->memory, GUARD, PROT_NONE) != 0) {
    if (f->memory != MAP_FAILED) munmap(f->memory, GUARD + STACK);
    free(f);
    return lm_fail(LM_ERR_MEMORY, "shim: no memory for the stack of a thread");
  }
  f->stack = f->memory + GUARD;
  f->main = main;
  static unsigned made; /* tops at other distances: else all fall into the same cache lines */
  context_make(&f->c, f->stack, STACK - made++ % 56 * 576, begin);
  *out = f;
  return LM_OK;
}

void lm_fibre_free(lm_fibre *f)
{
  if (!f) return;
  __asan_unpoison_memory_region(f->stack, STACK);
  munmap(f->memory, GUARD + STACK);
  free(f);
}

void lm_fibre_enter(lm_fibre *f)
{
  void *fake_stack = NULL;
  running = f;
  __sanitizer_start_switch_fiber(&fake_stack, f->stack, STACK);
  context_switch(&scheduler, &f->c);
  __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
}

void lm_fibre_leave(void)
{
  lm_fibre *f = running;
  __sanitizer_start_switch_fiber(&f->fake_stack, scheduler_stack, scheduler_size);
  context_switch(&f->c, &scheduler);
  __sanitizer_finish_switch_fiber(f->fake_stack, &scheduler_stack, &scheduler_size);
}
