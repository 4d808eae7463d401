/* pickle.c: a machine for Python's pickle format, protocols 2 to 5, that executes
 * nothing: classes are names, calls go to lm_pickle_reduce, which knows a handful and
 * makes opaque values of the rest. Opcodes: Python's Lib/pickletools.py.
 *
 * Every operation consumes input, makes at most one value and never reaches below the
 * last mark, so time and memory are bounded by the pickle's length. */
#include "io/pickle.h"

#include <stdlib.h>
#include <string.h>

typedef struct machine {
  lm_pth_tree *tree;
  const unsigned char *p, *end;
  lm_pth_value **stack, **memo;
  size_t *marks;
  size_t depth, stack_room, mark_count, mark_room, memo_count, memo_room;
  bool stopped;
} machine;

/* Room for one more element in a growing array. */
static lm_status grow(void *array_pointer, size_t needed, size_t *room, size_t size)
{
  if (needed <= *room) return LM_OK;
  void *old, *grown;
  memcpy(&old, array_pointer, sizeof old);
  size_t wanted = 2 * needed + 64;
  grown = realloc(old, wanted * size);
  if (!grown) return lm_fail(LM_ERR_MEMORY, "out of memory");
  memset((char *)grown + *room * size, 0, (wanted - *room) * size);
  memcpy(array_pointer, &grown, sizeof grown);
  *room = wanted;
  return LM_OK;
}

/* The next `size` bytes of the input. */
static lm_status take(machine *m, uint64_t size, const unsigned char **out)
{
  if ((uint64_t)(m->end - m->p) < size)
    return lm_fail(LM_ERR_FORMAT, "the pickle is cut");
  *out = m->p;
  m->p += size;
  return LM_OK;
}

/* A little-endian number of `bytes` bytes. */
static lm_status take_number(machine *m, int bytes, uint64_t *out)
{
  const unsigned char *p = NULL;
  LM_TRY(take(m, (uint64_t)bytes, &p));
  *out = 0;
  memcpy(out, p, (size_t)bytes);
  return LM_OK;
}

static lm_status push(machine *m, lm_pth_value *v)
{
  LM_TRY(grow(&m->stack, m->depth + 1, &m->stack_room, sizeof *m->stack));
  m->stack[m->depth++] = v;
  return LM_OK;
}

/* Where the values above the last mark begin. */
static size_t floor_of(const machine *m)
{
  return m->mark_count > 0 ? m->marks[m->mark_count - 1] : 0;
}

static lm_status pop(machine *m, lm_pth_value **out)
{
  if (m->depth <= floor_of(m))
    return lm_fail(LM_ERR_FORMAT, "the pickle's stack is empty");
  *out = m->stack[--m->depth];
  return LM_OK;
}

static lm_status top(const machine *m, lm_pth_value **out)
{
  if (m->depth <= floor_of(m))
    return lm_fail(LM_ERR_FORMAT, "the pickle's stack is empty");
  *out = m->stack[m->depth - 1];
  return LM_OK;
}

/* Drop the last mark; the values above it are stack[*first .. depth), for the caller to
 * use and to drop. */
static lm_status pop_mark(machine *m, size_t *first)
{
  if (m->mark_count == 0) return lm_fail(LM_ERR_FORMAT, "the pickle has no mark");
  *first = m->marks[--m->mark_count];
  return LM_OK;
}

static lm_status push_new(machine *m, lm_pth_kind kind, lm_pth_value **out)
{
  LM_TRY(lm_pth_new(m->tree, kind, out));
  return push(m, *out);
}

static lm_status push_integer(machine *m, int64_t value)
{
  lm_pth_value *v = NULL;
  LM_TRY(push_new(m, LM_PTH_INT, &v));
  v->as.integer = value;
  return LM_OK;
}

static lm_status push_bool(machine *m, bool value)
{
  lm_pth_value *v = NULL;
  LM_TRY(push_new(m, LM_PTH_BOOL, &v));
  v->as.boolean = value;
  return LM_OK;
}

/* LONG1, LONG4: two's complement of any length; more than 64 bits stay opaque. */
static lm_status push_long(machine *m, int length_bytes)
{
  uint64_t size = 0, bits = 0;
  const unsigned char *p = NULL;
  LM_TRY(take_number(m, length_bytes, &size));
  LM_TRY(take(m, size, &p));
  if (size > 8) {
    lm_pth_value *v = NULL;
    LM_TRY(push_new(m, LM_PTH_OPAQUE, &v));
    v->as.opaque.class_name = "builtins.int";
    return LM_OK;
  }
  if (size > 0 && p[size - 1] & 0x80) bits = UINT64_MAX;
  for (uint64_t i = size; i > 0; i--)
    bits = bits << 8 | p[i - 1];
  return push_integer(m, (int64_t)bits);
}

static lm_status push_float(machine *m)
{
  const unsigned char *p = NULL;
  LM_TRY(take(m, 8, &p));
  uint64_t bits = 0;
  for (int i = 0; i < 8; i++)
    bits = bits << 8 | p[i];
  lm_pth_value *v = NULL;
  LM_TRY(push_new(m, LM_PTH_FLOAT, &v));
  memcpy(&v->as.real, &bits, sizeof bits);
  return LM_OK;
}

static lm_status push_string(machine *m, int length_bytes)
{
  uint64_t size = 0;
  const unsigned char *p = NULL;
  LM_TRY(take_number(m, length_bytes, &size));
  LM_TRY(take(m, size, &p));
  lm_pth_value *v = NULL;
  LM_TRY(push_new(m, LM_PTH_STRING, &v));
  v->as.string.data = (const char *)p;
  v->as.string.size = (size_t)size;
  return LM_OK;
}

/* Make a list of stack[first .. depth), which it replaces. */
static lm_status push_list(machine *m, size_t first)
{
  lm_pth_value *list = NULL;
  LM_TRY(lm_pth_new(m->tree, LM_PTH_LIST, &list));
  for (size_t i = first; i < m->depth; i++) {
    LM_TRY(lm_pth_append(m->tree, list, m->stack[i]));
  }
  m->depth = first;
  return push(m, list);
}

static lm_status push_tuple(machine *m, size_t n)
{
  if (m->depth - floor_of(m) < n)
    return lm_fail(LM_ERR_FORMAT, "the pickle's stack is empty");
  return push_list(m, m->depth - n);
}

static lm_status push_class(machine *m, const char *module, size_t module_size,
                            const char *name, size_t name_size)
{
  if (module_size + name_size > 500 || memchr(module, '\0', module_size) ||
      memchr(name, '\0', name_size)) {
    return lm_fail(LM_ERR_FORMAT, "a class with an impossible name");
  }
  char *text = NULL;
  LM_TRY(lm_pth_alloc(m->tree, &text, module_size + name_size + 2));
  memcpy(text, module, module_size);
  text[module_size] = '.';
  memcpy(text + module_size + 1, name, name_size);
  lm_pth_value *v = NULL;
  LM_TRY(push_new(m, LM_PTH_OPAQUE, &v));
  v->as.opaque.class_name = text;
  return LM_OK;
}

/* GLOBAL: module and name as two lines of text. */
static lm_status push_global(machine *m)
{
  const unsigned char *line[3] = {m->p, NULL, NULL};
  for (int i = 0; i < 2; i++) {
    const unsigned char *stop = memchr(line[i], '\n', (size_t)(m->end - line[i]));
    if (!stop) return lm_fail(LM_ERR_FORMAT, "the pickle is cut");
    line[i + 1] = stop + 1;
  }
  m->p = line[2];
  return push_class(m, (const char *)line[0], (size_t)(line[1] - line[0] - 1),
                    (const char *)line[1], (size_t)(line[2] - line[1] - 1));
}

static lm_status push_stack_global(machine *m)
{
  lm_pth_value *module = NULL, *name = NULL;
  LM_TRY(pop(m, &name));
  LM_TRY(pop(m, &module));
  if (name->kind != LM_PTH_STRING || module->kind != LM_PTH_STRING) {
    return lm_fail(LM_ERR_FORMAT, "a class with an impossible name");
  }
  return push_class(m, module->as.string.data, module->as.string.size,
                    name->as.string.data, name->as.string.size);
}

/* The list or dictionary that items go into: the value itself, or that of an opaque
 * object (a subclass of list or dict). */
static lm_status container(machine *m, lm_pth_value *v, lm_pth_kind kind,
                           lm_pth_value **out)
{
  if (v->kind == LM_PTH_OPAQUE) {
    if (!v->as.opaque.items) LM_TRY(lm_pth_new(m->tree, kind, &v->as.opaque.items));
    v = v->as.opaque.items;
  }
  if (v->kind != kind)
    return lm_fail(LM_ERR_FORMAT, "items for something that takes none");
  *out = v;
  return LM_OK;
}

/* Move stack[first .. depth) into the container below it, which stays. */
static lm_status add_items(machine *m, size_t first, lm_pth_kind kind)
{
  lm_pth_value *into = NULL;
  if (first <= floor_of(m)) return lm_fail(LM_ERR_FORMAT, "the pickle's stack is empty");
  if (kind == LM_PTH_DICT && (m->depth - first) % 2 != 0) {
    return lm_fail(LM_ERR_FORMAT, "a key without a value");
  }
  LM_TRY(container(m, m->stack[first - 1], kind, &into));
  for (size_t i = first; i < m->depth; i++) {
    LM_TRY(lm_pth_append(m->tree, into, m->stack[i]));
  }
  m->depth = first;
  return LM_OK;
}

static lm_status reduce(machine *m, bool keywords)
{
  lm_pth_value *ignored = NULL, *args = NULL, *callable = NULL, *made = NULL;
  if (keywords) LM_TRY(pop(m, &ignored));
  LM_TRY(pop(m, &args));
  LM_TRY(pop(m, &callable));
  LM_TRY(lm_pickle_reduce(m->tree, callable, args, &made));
  return push(m, made);
}

/* The state of an opaque object is kept; that of a dictionary or a tensor (attributes
 * such as a state dict's _metadata) is not. */
static lm_status build(machine *m)
{
  lm_pth_value *state = NULL, *object = NULL;
  LM_TRY(pop(m, &state));
  LM_TRY(top(m, &object));
  if (object->kind == LM_PTH_OPAQUE) object->as.opaque.state = state;
  return LM_OK;
}

static lm_status push_persistent(machine *m)
{
  lm_pth_value *id = NULL, *storage = NULL;
  LM_TRY(pop(m, &id));
  LM_TRY(lm_pickle_storage(m->tree, id, &storage));
  return push(m, storage);
}

static lm_status memo_put(machine *m, uint64_t index)
{
  lm_pth_value *v = NULL;
  LM_TRY(top(m, &v));
  /* Picklers number the memo in order, so there are never more numbers than values. */
  if (index > m->tree->count) {
    return lm_fail(LM_ERR_FORMAT, "memo number out of range");
  }
  LM_TRY(grow(&m->memo, (size_t)index + 1, &m->memo_room, sizeof *m->memo));
  m->memo[index] = v;
  m->memo_count++;
  return LM_OK;
}

static lm_status memo_get(machine *m, uint64_t index)
{
  if (index >= m->memo_room || !m->memo[index]) {
    return lm_fail(LM_ERR_FORMAT, "memo number that was never stored");
  }
  return push(m, m->memo[index]);
}

/* Opcodes that push a value read from the input. */
static lm_status step_value(machine *m, int op)
{
  uint64_t n = 0;
  lm_pth_value *v = NULL;
  switch (op) {
    case 'N': return push_new(m, LM_PTH_NIL, &v);
    case 0x88: return push_bool(m, true);
    case 0x89: return push_bool(m, false);
    case 'J': /* BININT */
      LM_TRY(take_number(m, 4, &n));
      return push_integer(m, (int32_t)(uint32_t)n);
    case 'K': /* BININT1 */
      LM_TRY(take_number(m, 1, &n));
      return push_integer(m, (int64_t)n);
    case 'M': /* BININT2 */
      LM_TRY(take_number(m, 2, &n));
      return push_integer(m, (int64_t)n);
    case 0x8a: return push_long(m, 1);
    case 0x8b: return push_long(m, 4);
    case 'G': return push_float(m);
    case 'U':
    case 'C':
    case 0x8c: return push_string(m, 1); /* SHORT_... */
    case 'T':
    case 'B':
    case 'X': return push_string(m, 4); /* BIN... */
    case 0x8d:
    case 0x8e:
    case 0x96: return push_string(m, 8); /* BIN...8, BYTEARRAY8 */
    case ']':
    case ')':
    case 0x8f: return push_new(m, LM_PTH_LIST, &v); /* EMPTY_... */
    case '}': return push_new(m, LM_PTH_DICT, &v);
    case 'c': return push_global(m);
    default: return lm_fail(LM_ERR_UNSUPPORTED, "pickle operation 0x%02x", (unsigned)op);
  }
}

/* Opcodes that work on what lies above the last mark. */
static lm_status step_marked(machine *m, int op)
{
  size_t first = 0;
  lm_pth_value *dict = NULL;
  LM_TRY(pop_mark(m, &first));
  switch (op) {
    case '1': m->depth = first; return LM_OK; /* POP_MARK */
    case 't':
    case 'l':
    case 0x91: return push_list(m, first); /* TUPLE, LIST, FROZENSET */
    case 'e':
    case 0x90: return add_items(m, first, LM_PTH_LIST); /* APPENDS, ADDITEMS */
    case 'u': return add_items(m, first, LM_PTH_DICT);  /* SETITEMS */
    default:                                            /* DICT */
      LM_TRY(push_list(m, first));
      dict = m->stack[m->depth - 1];
      if (dict->as.list.count % 2 != 0)
        return lm_fail(LM_ERR_FORMAT, "a key without a value");
      dict->kind = LM_PTH_DICT;
      return LM_OK;
  }
}

static lm_status step_memo(machine *m, int op)
{
  int bytes = op == 'h' || op == 'q' ? 1 : 4;
  uint64_t n = m->memo_count;
  if (op != 0x94) LM_TRY(take_number(m, bytes, &n)); /* MEMOIZE numbers by itself */
  return op == 'h' || op == 'j' ? memo_get(m, n) : memo_put(m, n);
}

static lm_status step(machine *m)
{
  const unsigned char *p = NULL;
  lm_pth_value *v = NULL;
  LM_TRY(take(m, 1, &p));
  switch (*p) {
    case 0x80: return take(m, 1, &p); /* PROTO */
    case 0x95: return take(m, 8, &p); /* FRAME */
    case '.': m->stopped = true; return LM_OK;
    case '(':
      LM_TRY(grow(&m->marks, m->mark_count + 1, &m->mark_room, sizeof *m->marks));
      m->marks[m->mark_count++] = m->depth;
      return LM_OK;
    case '0': return pop(m, &v);
    case '2': LM_TRY(top(m, &v)); return push(m, v);
    case '1':
    case 't':
    case 'l':
    case 'd':
    case 'e':
    case 'u':
    case 0x90:
    case 0x91: return step_marked(m, *p);
    case 0x85:
    case 0x86:
    case 0x87: return push_tuple(m, *p - 0x84u);
    case 'a':
    case 's': { /* APPEND, SETITEM */
      size_t n = *p == 'a' ? 1 : 2;
      if (m->depth - floor_of(m) < n) {
        return lm_fail(LM_ERR_FORMAT, "the pickle's stack is empty");
      }
      return add_items(m, m->depth - n, n == 1 ? LM_PTH_LIST : LM_PTH_DICT);
    }
    case 0x93: return push_stack_global(m);
    case 'R':
    case 0x81: return reduce(m, false); /* REDUCE, NEWOBJ */
    case 0x92: return reduce(m, true);  /* NEWOBJ_EX */
    case 'b': return build(m);
    case 'Q': return push_persistent(m);
    case 'h':
    case 'j':
    case 'q':
    case 'r':
    case 0x94: return step_memo(m, *p);
    default: return step_value(m, *p);
  }
}

lm_status lm_pickle_run(lm_pth_tree *tree, const unsigned char *bytes, size_t size,
                        const char *name, lm_pth_value **root, size_t *used)
{
  machine m = {.tree = tree, .p = bytes, .end = bytes + size};
  lm_status status = LM_OK;
  while (status == LM_OK && !m.stopped)
    status = step(&m);
  if (status == LM_OK && m.mark_count > 0) {
    status = lm_fail(LM_ERR_FORMAT, "a mark is left on the stack");
  }
  if (status == LM_OK) status = pop(&m, root);
  if (status != LM_OK)
    lm_error_prefix("%s: pickle byte %zu", name, (size_t)(m.p - bytes));
  *used = (size_t)(m.p - bytes);
  free(m.stack);
  free(m.memo);
  free(m.marks);
  return status;
}
