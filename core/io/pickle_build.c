/* pickle_build.c: values of a checkpoint: their memory, and the few constructors that are
 * known (tensors over storages, ordered dictionaries, parameters). Everything that a
 * pickle says about a tensor's place is checked against its storage here. */
#include <stdlib.h>
#include <string.h>

#include "io/pickle.h"

#define MAX_VALUES ((uint32_t)1 << 22)
#define MAX_STORAGES ((uint32_t)1 << 15)
#define CHUNK ((size_t)1 << 16)

typedef struct lm_pth_arena {
  struct lm_pth_arena *next;
  size_t used, size;
  _Alignas(16) unsigned char data[];
} lm_pth_arena;

lm_status lm_pth_alloc(lm_pth_tree *tree, void *out_pointer, size_t size)
{
  size = (size + 15) / 16 * 16;
  lm_pth_arena *chunk = tree->arena;
  if (!chunk || chunk->size - chunk->used < size) {
    size_t room = size > CHUNK ? size : CHUNK;
    LM_TRY(lm_calloc(&chunk, 1, sizeof *chunk + room));
    chunk->size = room;
    chunk->next = tree->arena;
    tree->arena = chunk;
  }
  void *p = chunk->data + chunk->used;
  chunk->used += size;
  memcpy(out_pointer, &p, sizeof p);
  return LM_OK;
}

void lm_pth_close(lm_pth_tree *tree)
{
  for (lm_pth_storage *s = tree->storages; s; s = s->next)
    free(s->data);
  while (tree->arena) {
    lm_pth_arena *next = tree->arena->next;
    free(tree->arena);
    tree->arena = next;
  }
  lm_bytes_free(&tree->bytes);
  *tree = (lm_pth_tree){0};
}

lm_status lm_pth_new(lm_pth_tree *tree, lm_pth_kind kind, lm_pth_value **out)
{
  if (tree->count >= MAX_VALUES) return lm_fail(LM_ERR_FORMAT, "more than 2^22 objects");
  LM_TRY(lm_pth_alloc(tree, out, sizeof **out));
  (*out)->kind = kind;
  (*out)->index = tree->count++;
  return LM_OK;
}

lm_status lm_pth_append(lm_pth_tree *tree, lm_pth_value *list, lm_pth_value *item)
{
  if (list->as.list.count == list->as.list.capacity) {
    size_t capacity = 2 * list->as.list.capacity + 4;
    lm_pth_value **grown = NULL;
    LM_TRY(lm_pth_alloc(tree, &grown, capacity * sizeof *grown));
    if (list->as.list.count > 0) {
      memcpy(grown, list->as.list.items, list->as.list.count * sizeof *grown);
    }
    list->as.list.items = grown;
    list->as.list.capacity = capacity;
  }
  list->as.list.items[list->as.list.count++] = item;
  return LM_OK;
}

/* Item i of a list; NULL when there is none. */
static const lm_pth_value *item(const lm_pth_value *list, size_t i)
{
  return list->kind == LM_PTH_LIST && i < list->as.list.count ? list->as.list.items[i]
                                                              : NULL;
}

static bool is_class(const lm_pth_value *v)
{
  return v && v->kind == LM_PTH_OPAQUE && !v->as.opaque.args;
}

static bool is_text(const lm_pth_value *v, const char *text)
{
  return v && v->kind == LM_PTH_STRING && v->as.string.size == strlen(text) &&
         memcmp(v->as.string.data, text, v->as.string.size) == 0;
}

/* A whole number >= 0. */
static bool get_size(const lm_pth_value *v, int64_t *out)
{
  if (!v || v->kind != LM_PTH_INT || v->as.integer < 0) return false;
  *out = v->as.integer;
  return true;
}

static lm_status storage_element(lm_pth_storage *s, const char *class_name)
{
  const char *dot = strrchr(class_name, '.');
  const char *name = dot ? dot + 1 : class_name;
  if (strncmp(class_name, "torch.", 6) == 0) {
    if (strcmp(name, "UntypedStorage") == 0) {
      s->element = LM_EL_U8;
      s->untyped = true;
      return LM_OK;
    }
    for (int e = 0; e < LM_EL_COUNT; e++) {
      if (!lm_elements[e].storage || strcmp(name, lm_elements[e].storage) != 0) continue;
      s->element = (lm_element)e;
      return LM_OK;
    }
  }
  return lm_fail(LM_ERR_UNSUPPORTED, "storage of class '%.80s'", class_name);
}

lm_status lm_pickle_storage(lm_pth_tree *tree, const lm_pth_value *id, lm_pth_value **out)
{
  const lm_pth_value *class = item(id, 1), *key = item(id, 2), *view = item(id, 5);
  lm_pth_storage wanted = {0};
  if (!is_text(item(id, 0), "storage") || !is_class(class) || !key ||
      key->kind != LM_PTH_STRING || key->as.string.size > 200 ||
      memchr(key->as.string.data, '\0', key->as.string.size) ||
      !get_size(item(id, 4), &wanted.count)) {
    return lm_fail(LM_ERR_FORMAT, "a persistent id that names no storage");
  }
  if (view && view->kind != LM_PTH_NIL) {
    return lm_fail(LM_ERR_UNSUPPORTED, "a storage that is a view of another");
  }
  LM_TRY(storage_element(&wanted, class->as.opaque.class_name));
  if (wanted.count > INT64_MAX / 8)
    return lm_fail(LM_ERR_FORMAT, "a storage's size overflows");
  char name[201] = "";
  memcpy(name, key->as.string.data, key->as.string.size);
  if (!tree->buckets) {
    LM_TRY(lm_pth_alloc(tree, &tree->buckets, LM_PTH_BUCKETS * sizeof *tree->buckets));
  }
  lm_pth_storage **bucket =
      &tree->buckets[lm_bytes_hash(name, key->as.string.size, 0) % LM_PTH_BUCKETS];
  lm_pth_storage *s = *bucket;
  while (s && strcmp(s->key, name) != 0)
    s = s->next_in_bucket;
  if (!s) {
    char *copy = NULL;
    if (tree->storage_count++ >= MAX_STORAGES) {
      return lm_fail(LM_ERR_FORMAT, "more than %u storages", (unsigned)MAX_STORAGES);
    }
    LM_TRY(lm_pth_alloc(tree, &s, sizeof *s));
    LM_TRY(lm_pth_alloc(tree, &copy, key->as.string.size + 1));
    memcpy(copy, name, key->as.string.size);
    *s = wanted;
    s->key = copy;
    s->next = tree->storages;
    s->next_in_bucket = *bucket;
    tree->storages = *bucket = s;
  } else if (s->element != wanted.element || s->count != wanted.count ||
             s->untyped != wanted.untyped) {
    return lm_fail(LM_ERR_FORMAT, "storage '%s' is described in two ways", name);
  }
  LM_TRY(lm_pth_new(tree, LM_PTH_STORAGE, out));
  (*out)->as.storage = s;
  return LM_OK;
}

/* Read sizes and strides into `t` and check that all its elements lie in the storage. */
static lm_status place_tensor(lm_stored *t, const lm_pth_value *sizes,
                              const lm_pth_value *strides, int64_t offset, int64_t held)
{
  int64_t shape[LM_MAX_DIMS] = {0};
  if (!sizes || sizes->kind != LM_PTH_LIST || !strides || strides->kind != LM_PTH_LIST ||
      sizes->as.list.count != strides->as.list.count) {
    return lm_fail(LM_ERR_FORMAT, "a tensor without shape and strides");
  }
  size_t ndim = sizes->as.list.count;
  for (size_t d = 0; d < ndim && d < LM_MAX_DIMS; d++) {
    if (!get_size(item(sizes, d), &shape[d])) {
      return lm_fail(LM_ERR_FORMAT, "a tensor's shape is not of integers");
    }
  }
  LM_TRY(lm_stored_shape(t, (int64_t)ndim, shape, "a tensor"));
  int64_t last = offset;
  bool fits = true;
  for (size_t d = 0; d < ndim; d++) {
    int64_t stride = 0, reach = 0;
    if (!get_size(item(strides, d), &stride)) {
      return lm_fail(LM_ERR_FORMAT, "a tensor's strides are not integers >= 0");
    }
    t->stride[d] = stride;
    if (t->count == 0) continue;
    fits = fits && !__builtin_mul_overflow(stride, shape[d] - 1, &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  if (t->count > 0 && (!fits || last >= held)) {
    return lm_fail(LM_ERR_FORMAT, "a tensor reaches beyond its storage of %lld elements",
                   (long long)held);
  }
  return LM_OK;
}

/* _rebuild_tensor (storage, offset, size, stride), _v2 (+ requires_grad, hooks, metadata)
 * and _v3 (storage of bytes; + requires_grad, hooks, dtype, metadata). */
static lm_status rebuild_tensor(lm_pth_tree *tree, const lm_pth_value *args, bool typed,
                                lm_pth_value **out)
{
  const lm_pth_value *storage = item(args, 0), *metadata = item(args, typed ? 7 : 6);
  int64_t offset = 0;
  if (!storage || storage->kind != LM_PTH_STORAGE || !get_size(item(args, 1), &offset)) {
    return lm_fail(LM_ERR_FORMAT, "a tensor without storage and offset");
  }
  if (metadata && metadata->kind == LM_PTH_DICT && metadata->as.list.count > 0) {
    return lm_fail(LM_ERR_UNSUPPORTED,
                   "a tensor with metadata (conjugate or negative view)");
  }
  lm_pth_storage *s = storage->as.storage;
  lm_element element = s->element;
  if (typed) {
    const lm_pth_value *dtype = item(args, 6);
    const char *name = is_class(dtype) ? dtype->as.opaque.class_name : "";
    int e = 0;
    while (e < LM_EL_COUNT && (strncmp(name, "torch.", 6) != 0 ||
                               strcmp(name + 6, lm_elements[e].torch) != 0)) {
      e++;
    }
    if (e == LM_EL_COUNT)
      return lm_fail(LM_ERR_UNSUPPORTED, "a tensor of type '%.80s'", name);
    element = (lm_element)e;
  }
  if (s->untyped != typed && element != LM_EL_U8) {
    return lm_fail(LM_ERR_FORMAT, "a tensor's type and its storage's do not match");
  }
  int64_t held = s->count * lm_elements[s->element].size / lm_elements[element].size;
  lm_pth_use *use = NULL;
  LM_TRY(lm_pth_new(tree, LM_PTH_TENSOR, out));
  LM_TRY(lm_pth_alloc(tree, &(*out)->as.tensor, sizeof *(*out)->as.tensor));
  (*out)->as.tensor->element = element;
  LM_TRY(place_tensor((*out)->as.tensor, item(args, 2), item(args, 3), offset, held));
  LM_TRY(lm_pth_alloc(tree, &use, sizeof *use));
  *use = (lm_pth_use){(*out)->as.tensor, s, offset, tree->uses};
  tree->uses = use;
  return LM_OK;
}

/* OrderedDict(), or OrderedDict([(key, value), ...]). */
static lm_status rebuild_dict(lm_pth_tree *tree, const lm_pth_value *pairs,
                              lm_pth_value **out)
{
  LM_TRY(lm_pth_new(tree, LM_PTH_DICT, out));
  for (size_t i = 0; pairs && item(pairs, i); i++) {
    const lm_pth_value *pair = item(pairs, i);
    if (pair->kind != LM_PTH_LIST || pair->as.list.count != 2) {
      return lm_fail(LM_ERR_FORMAT, "a dictionary's item is not a pair");
    }
    LM_TRY(lm_pth_append(tree, *out, pair->as.list.items[0]));
    LM_TRY(lm_pth_append(tree, *out, pair->as.list.items[1]));
  }
  return LM_OK;
}

lm_status lm_pickle_reduce(lm_pth_tree *tree, lm_pth_value *callable, lm_pth_value *args,
                           lm_pth_value **out)
{
  if (!is_class(callable) || args->kind != LM_PTH_LIST) {
    return lm_fail(LM_ERR_FORMAT, "a call of something that is not a class");
  }
  const char *name = callable->as.opaque.class_name;
  size_t n = args->as.list.count;
  /* A tensor subclass names the function that rebuilds it; one level is all there is. */
  if (strcmp(name, "torch._tensor._rebuild_from_type_v2") == 0 && n >= 3 &&
      is_class(item(args, 0)) && item(args, 2)->kind == LM_PTH_LIST) {
    name = item(args, 0)->as.opaque.class_name;
    args = args->as.list.items[2];
    n = args->as.list.count;
  }
  if (strcmp(name, "torch._utils._rebuild_tensor_v2") == 0 ||
      strcmp(name, "torch._utils._rebuild_tensor") == 0) {
    return rebuild_tensor(tree, args, false, out);
  }
  if (strcmp(name, "torch._utils._rebuild_tensor_v3") == 0) {
    return rebuild_tensor(tree, args, true, out);
  }
  if (n >= 1 && (strcmp(name, "torch._utils._rebuild_parameter") == 0 ||
                 strcmp(name, "torch._utils._rebuild_parameter_with_state") == 0 ||
                 strcmp(name, "torch.Size") == 0)) {
    *out = args->as.list.items[0];
    return LM_OK;
  }
  if (strcmp(name, "collections.OrderedDict") == 0) {
    return rebuild_dict(tree, item(args, 0), out);
  }
  if (strcmp(name, "collections.defaultdict") == 0) return rebuild_dict(tree, NULL, out);
  LM_TRY(lm_pth_new(tree, LM_PTH_OPAQUE, out));
  (*out)->as.opaque.class_name = name;
  (*out)->as.opaque.args = args;
  return LM_OK;
}
