/* bind.h: what the files of core/bind share. They are the only C that sees lua.h.
 *
 * A tensor in Lua is a userdata "lumen.tensor" holding one reference. Errors of the core are
 * raised by lm_raise alone, after the C side has released what it held. */
#ifndef LUMEN_BIND_H
#define LUMEN_BIND_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "lumen.h"

/* Raise the thread's error record as a Lua error: "file:line: message\nhint: ...". */
int lm_raise(lua_State *L);
/* Raise unless status is LM_OK. */
void lm_check(lua_State *L, lm_status status);

/* Push a handle; takes over the reference (also when it raises for lack of memory). */
void lm_push_tensor(lua_State *L, lm_tensor *t);
/* The tensor at `index`, or an argument error. The reference stays the handle's. */
lm_tensor *lm_check_tensor(lua_State *L, int index);
/* NULL when the value at `index` is no tensor, or one that was released. */
lm_tensor *lm_test_tensor(lua_State *L, int index);
/* A CPU tensor made contiguous (and converted to dtype, unless LM_DTYPE_COUNT), left on the
 * stack top as a new handle when a copy was needed, else the same handle pushed again. */
lm_tensor *lm_check_host(lua_State *L, int index, lm_dtype dtype);

/* Element i of an array, and the text of a tensor (print.c): `x` describes it, `t` holds its
 * elements on the CPU. The text is pushed. */
double lm_number_at(lm_dtype dtype, const void *data, int64_t i);
void lm_push_text(lua_State *L, const lm_tensor *x, const lm_tensor *t);

/* The open loader at `index`, or an argument error. */
struct lm_loader;
struct lm_loader *lm_check_loader(lua_State *L, int index);

/* New tensor on the CPU, pushed. */
lm_tensor *lm_new_tensor(lua_State *L, lm_dtype dtype, int ndim, const int64_t *shape);

/* ---- C objects that have to be freed whatever Lua does ---- */

/* Push `size` zeroed bytes that `close` is called on when they are collected or closed. */
void *lm_push_guard(lua_State *L, size_t size, void (*close)(void *));
/* Close the guard at `index` now. */
void lm_close_guard(lua_State *L, int index);

/* ---- options tables: named arguments with checks ---- */

/* Field `name` of the table at `index` (absent table or field: the default). */
int64_t lm_opt_int(lua_State *L, int index, const char *name, int64_t otherwise);
double lm_opt_number(lua_State *L, int index, const char *name, double otherwise);
bool lm_opt_bool(lua_State *L, int index, const char *name, bool otherwise);
/* The string lives as long as the table holds it. */
const char *lm_opt_string(lua_State *L, int index, const char *name, const char *otherwise);
/* List of numbers (or one number); returns the count, -1 when absent; error above `most`. */
int lm_opt_numbers(lua_State *L, int index, const char *name, int most, double *out);
/* Error naming `function` and the first key that is not in the NULL-terminated list, with a
 * suggestion when one of them is near. */
void lm_check_keys(lua_State *L, int index, const char *function, const char *const *names);
/* The nearest of `names` to `word`, or NULL when none is near. */
const char *lm_nearest(const char *word, const char *const *names);

/* ---- functions with their help ---- */

/* Directly above a C function of Lua's: the text that help() shows. First line: the signature
 * as in an lm_op (tensors need no type), then `-> types` of the results; then the description
 * and at least one example, in the form that lua/lumen/help.lua describes. */
#define LM_DOC(function, ...) static const char function##_doc[] = __VA_ARGS__

/* A row without a function documents a value that is made elsewhere; one with the name ""
 * the table itself. A table ends with {0}. */
typedef struct lm_function {
  const char *name;
  lua_CFunction call;
  const char *doc;
} lm_function;

/* Set them as fields of the table at the stack top. `group` is its name below lumen ("" for
 * lumen itself) or a class's. */
#define lm_set_functions(L, group, rows) lm_set_functions_of(L, group, rows, __FILE__)
void lm_set_functions_of(lua_State *L, const char *group, const lm_function *rows,
                         const char *file);

/* ---- tables filled by each file; `core` is at the stack top in all of them ---- */
void lm_bind_tensor(lua_State *L);
void lm_bind_ops(lua_State *L);
void lm_bind_state(lua_State *L);
void lm_bind_io(lua_State *L);      /* io.c: load, save, image, fs */
void lm_bind_fs(lua_State *L);      /* fs.c: fs; called by lm_bind_io */
void lm_bind_json(lua_State *L);    /* json.c: json */
void lm_bind_vision(lua_State *L);  /* vision.c: vision, image.resize ... */
void lm_bind_phantom(lua_State *L); /* phantom.c: vision.phantom */
void lm_bind_histogram(lua_State *L); /* histogram.c: histogram */
void lm_bind_data(lua_State *L);    /* data.c: data.loader */
void lm_bind_coco(lua_State *L);    /* coco.c: data.coco; called by lm_bind_data */
/* Add the source {kind = "coco", ...} at `index` to a loader. Leaves things on the stack. */
lm_status lm_add_coco(lua_State *L, int index, struct lm_loader *l);
void lm_bind_pack(lua_State *L);    /* pack.c: data.packer, data.packed; called by lm_bind_data */
void lm_bind_similar(lua_State *L); /* similar.c: data.similar */
void lm_bind_profile(lua_State *L); /* profile.c: profiler */
void lm_bind_docs(lua_State *L);    /* docs.c: bound */
void lm_bind_interrupt(lua_State *L); /* interrupt.c: _interrupt */
void lm_bind_edit(lua_State *L);    /* edit.c: _edit */
void lm_bind_process(lua_State *L); /* process.c: process */
/* Push core[name], made as an empty table if it is not there; core is at `core_index`. */
void lm_subtable(lua_State *L, int core_index, const char *name);

/* Scopes and limits (state.c), used where handles are made and operations called. */
typedef struct lm_handle lm_handle;
void lm_scope_add(lua_State *L, lm_handle *h);
void lm_scope_forget(lm_handle *h);
void lm_check_soft_limit(lua_State *L);
/* Handles that nobody holds would keep alive what backward is about to free. */
void lm_collect_before_backward(lua_State *L);

struct lm_handle {
  lm_tensor *tensor; /* NULL after release */
  struct lm_scope *scope;
  int64_t slot;      /* in scope->handles */
};

/* The thread that calls backward now: functions written in Lua run there. */
extern lua_State *lm_backward_thread;

/* Calls operation `op` with the arguments from stack index `first` on; returns the number of
 * results pushed. */
int lm_call_op(lua_State *L, const lm_op *op, int first);
void lm_push_op(lua_State *L, const lm_op *op); /* the function */

/* Limit the memory of a Lua state that is the program's own. */
void lm_limit_lua(lua_State *L);

/* Ctrl-C (interrupt.c): catch it for this state, the program's own; was it pressed since the
 * last command; forget it; an operation has reported it. */
void lm_interrupt_open(lua_State *L);
bool lm_interrupt_pressed(void);
void lm_interrupt_begin(lua_State *L);
void lm_interrupt_taken(lua_State *L);

int luaopen_lumen_core(lua_State *L);

#endif
