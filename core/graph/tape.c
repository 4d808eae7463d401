/* tape.c: recording calls and walking them backward. Nodes hold detached copies of the tensors
 * that a gradient rule needs and shape-only copies of the others, so the tape never keeps more
 * storage alive than it must; what is kept is freed as soon as backward has used it. */
#include "graph/tape.h"

#include <stdlib.h>

extern const lm_op lm_op_sum_to, lm_op_add, lm_op_fill_, lm_op_add_, lm_op_copy_;

static uint64_t next_sequence = 1;

/* ---- life of a node ---- */

static void free_saved(lm_node *n)
{
  lm_call *c = &n->call;
  for (int i = 0; i < c->nin; i++) {
    lm_release(c->in[i]);
    c->in[i] = NULL;
  }
  for (int k = 0; k < LM_MAX_OUT; k++) {
    lm_release(c->out[k]);
    c->out[k] = NULL;
  }
  for (int k = 0; k < LM_MAX_SAVE; k++) {
    lm_release(c->save[k]);
    c->save[k] = NULL;
  }
  if (n->user_free) n->user_free(c->user);
  n->user_free = NULL;
  n->released = true;
}

/* Nodes whose last reference is gone are freed from a list, not by recursion: a graph can be
 * millions of operations deep. */
static lm_node *doomed;
static bool freeing;

static void drop_edges(lm_node *n)
{
  for (int i = 0; i < n->call.nin; i++) {
    lm_tensor *leaf = n->edge[i].leaf;
    lm_node *node = n->edge[i].node;
    n->edge[i] = (lm_edge){0};
    lm_release(leaf);
    if (node) lm_node_release(node);
  }
}

void lm_node_release(lm_node *node)
{
  if (--node->refs > 0) return;
  node->heap_next = doomed;
  doomed = node;
  if (freeing) return;
  freeing = true;
  while (doomed) {
    lm_node *n = doomed;
    doomed = n->heap_next;
    if (!n->released) free_saved(n);
    drop_edges(n);
    for (int k = 0; k < LM_MAX_OUT; k++) lm_release(n->gout[k]);
    free(n->call.in);
    free(n->edge);
    free(n->wants);
    free(n->version);
    free(n);
  }
  freeing = false;
}

__attribute__((constructor)) static void connect_tensors(void)
{
  lm_node_drop = lm_node_release;
}

/* ---- recording ---- */

static lm_status keep(const lm_tensor *t, bool whole, lm_tensor **out)
{
  return whole ? lm_tensor_detach(t, out) : lm_tensor_shape_only(t, out);
}

/* Whether the operation that made t can make it again as it is now. */
static bool can_remake(const lm_tensor *t)
{
  const lm_node *maker = t->node;
  return maker && t->node_output == 0 && maker->call.remake && !maker->released &&
         maker->version[maker->call.nin] == t->storage->version;
}

static lm_status keep_tensors(const lm_call *c, lm_node *n)
{
  for (int a = 0; a < c->narg; a++) {
    bool needed = (c->save_in >> a) & 1;
    for (int i = c->first[a]; i < c->first[a] + c->count[a]; i++) {
      if (!c->in[i]) continue;
      n->edge[i].remake = needed && can_remake(c->in[i]);
      LM_TRY(keep(c->in[i], needed && !n->edge[i].remake, &n->call.in[i]));
      n->version[i] = c->in[i]->storage->version;
    }
  }
  for (int k = 0; k < c->nout; k++) {
    LM_TRY(keep(c->out[k], (c->op->save_out >> k) & 1, &n->call.out[k]));
    n->version[c->nin + k] = c->out[k]->storage->version;
  }
  for (int k = 0; k < LM_MAX_SAVE; k++) n->call.save[k] = lm_retain(c->save[k]);
  return LM_OK;
}

static void make_edges(const lm_call *c, lm_node *n)
{
  for (int i = 0; i < c->nin; i++) {
    lm_tensor *t = c->in[i];
    if (!t || !t->requires_grad) continue;
    n->wants[i] = true;
    n->edge[i].output = t->node_output;
    if (t->node) {
      n->edge[i].node = t->node;
      t->node->refs++;
    } else {
      n->edge[i].leaf = lm_retain(t);
    }
  }
}

lm_status lm_tape_record(lm_call *c, void (*user_free)(const void *))
{
  lm_node *n;
  LM_TRY(lm_calloc(&n, 1, sizeof *n));
  n->refs = 1;
  n->sequence = next_sequence++;
  n->call = *c;
  n->call.recording = false;
  n->call.in = NULL;
  for (int k = 0; k < LM_MAX_OUT; k++) n->call.out[k] = NULL;
  for (int k = 0; k < LM_MAX_SAVE; k++) n->call.save[k] = NULL;
  size_t nin = (size_t)c->nin;
  lm_status status = lm_calloc(&n->call.in, nin, sizeof *n->call.in);
  if (status == LM_OK) status = lm_calloc(&n->edge, nin, sizeof *n->edge);
  if (status == LM_OK) status = lm_calloc(&n->wants, nin, sizeof *n->wants);
  if (status == LM_OK) status = lm_calloc(&n->version, nin + LM_MAX_OUT, sizeof *n->version);
  if (status != LM_OK) n->call.nin = 0;
  if (status == LM_OK) status = keep_tensors(c, n);
  if (status != LM_OK) {
    lm_node_release(n);
    return status;
  }
  n->call.wants = n->wants;
  n->user_free = user_free;
  make_edges(c, n);
  for (int k = 0; k < c->nout; k++) {
    if (!lm_dtype_is_float(c->out[k]->dtype)) continue;
    c->out[k]->requires_grad = true;
    c->out[k]->node = n;
    c->out[k]->node_output = k;
    n->refs++;
  }
  lm_node_release(n);
  return LM_OK;
}

/* ---- backward ---- */

static lm_status check_version(const lm_node *n, const lm_tensor *t, int slot, const char *what)
{
  if (!t || !t->storage || t->storage->version == n->version[slot]) return LM_OK;
  lm_fail(LM_ERR_ARG, "backward: %s saved its %s (%s), which %s has overwritten since",
          n->call.op->name, what, lm_describe(t), t->storage->writer);
  return lm_hint("write to a copy: x:detach():clone(), or move the write behind backward");
}

static lm_status check_versions(const lm_node *n)
{
  const lm_call *c = &n->call;
  for (int i = 0; i < c->nin; i++) LM_TRY(check_version(n, c->in[i], i, "input"));
  for (int k = 0; k < c->nout; k++) LM_TRY(check_version(n, c->out[k], c->nin + k, "output"));
  return LM_OK;
}

static lm_status fail_freed(const lm_node *n)
{
  lm_fail(LM_ERR_ARG, "backward: the graph of %s was freed by an earlier backward",
          n->call.op->name);
  return lm_hint("call the first one as x:backward{keep=true}");
}

/* *sum = *sum + g; takes over the reference to g. Adds in place when nobody else sees *sum. */
static lm_status accumulate(lm_tensor **sum, lm_tensor *g)
{
  if (!*sum) {
    *sum = g;
    return LM_OK;
  }
  lm_tensor *total = NULL;
  lm_status status;
  lm_tensor *old = *sum;
  if (old->refs == 1 && old->storage->refs == 1 && lm_is_contiguous(old))
    status = lm_apply(&lm_op_add_, LM_IN(old, g), NULL, &total);
  else
    status = lm_apply(&lm_op_add, LM_IN(old, g), NULL, &total);
  lm_release(g);
  if (status != LM_OK) return status;
  lm_release(old);
  *sum = total;
  return LM_OK;
}

/* A leaf's gradient is its own memory: what came from the graph may be a view of something. */
static lm_status accumulate_leaf(lm_tensor *leaf, lm_tensor *g)
{
  if (!leaf->grad && (g->refs > 1 || g->storage->refs > 1 || !lm_is_contiguous(g))) {
    lm_tensor *own;
    lm_status status = lm_tensor_new(g->device, g->dtype, g->ndim, g->shape, &own);
    if (status == LM_OK) {
      lm_tensor *same = NULL;
      status = lm_apply(&lm_op_copy_, LM_IN(own, g), NULL, &same);
      lm_release(same);
    }
    lm_release(g);
    if (status != LM_OK) return status;
    g = own;
  }
  return accumulate(&leaf->grad, g);
}

typedef struct node_list {
  lm_node **node;
  int64_t count, capacity;
} node_list;

static lm_status list_push(node_list *l, lm_node *n)
{
  if (l->count == l->capacity) {
    int64_t capacity = l->capacity ? 2 * l->capacity : 256;
    lm_node **grown = realloc(l->node, (size_t)capacity * sizeof *grown);
    if (!grown) return lm_fail(LM_ERR_MEMORY, "backward: no memory for the list of operations");
    l->node = grown;
    l->capacity = capacity;
  }
  l->node[l->count++] = n;
  return LM_OK;
}

static int newest_first(const void *a, const void *b)
{
  uint64_t x = (*(lm_node *const *)a)->sequence, y = (*(lm_node *const *)b)->sequence;
  return x < y ? 1 : x > y ? -1 : 0;
}

/* All nodes below `root`, newest first; each with a reference. */
static lm_status collect(lm_node *root, node_list *l)
{
  root->seen = true;
  root->refs++;
  lm_status status = list_push(l, root);
  for (int64_t next = 0; status == LM_OK && next < l->count; next++) {
    lm_node *n = l->node[next];
    for (int i = 0; status == LM_OK && i < n->call.nin; i++) {
      lm_node *below = n->edge[i].node;
      if (!below || below->seen) continue;
      status = list_push(l, below);
      if (status != LM_OK) break;
      below->seen = true;
      below->refs++;
    }
  }
  for (int64_t i = 0; i < l->count; i++) l->node[i]->seen = false;
  if (status == LM_OK) qsort(l->node, (size_t)l->count, sizeof *l->node, newest_first);
  return status;
}

static lm_status check_gradient(const lm_node *n, int i, const lm_tensor *g)
{
  const lm_tensor *x = n->call.in[i];
  if (lm_same_shape(g, x) && g->dtype == x->dtype) return LM_OK;
  return lm_fail(LM_ERR_INTERNAL, "backward: %s made a gradient %s for its input %s",
                 n->call.op->name, lm_describe(g), lm_describe(x));
}

/* Fill in the inputs that were not kept. Their makers hold them too, for other users, until
 * backward reaches the makers themselves. */
static lm_status remake_inputs(lm_node *n)
{
  for (int i = 0; i < n->call.nin; i++) {
    if (!n->edge[i].remake || n->call.in[i]->storage) continue;
    lm_node *maker = n->edge[i].node;
    lm_call *m = &maker->call;
    if (maker->released) return fail_freed(maker);
    if (!m->out[0]->storage) {
      lm_tensor *made;
      LM_TRY(check_versions(maker));
      LM_TRY(remake_inputs(maker));
      LM_TRY(m->remake(m, &made));
      made->storage->version = maker->version[m->nin];
      lm_release(m->out[0]);
      m->out[0] = made;
    }
    lm_release(n->call.in[i]);
    n->call.in[i] = lm_retain(m->out[0]);
  }
  return LM_OK;
}

/* Hand the gradients of a node's inputs down its edges; takes over all references. */
static lm_status pass_down(lm_node *n, lm_tensor **gin)
{
  lm_status status = LM_OK;
  for (int i = 0; i < n->call.nin; i++) {
    lm_tensor *g = gin[i];
    if (!g) continue;
    lm_edge *e = &n->edge[i];
    if (status == LM_OK && n->wants[i]) status = check_gradient(n, i, g);
    if (status != LM_OK || !n->wants[i]) lm_release(g);
    else if (e->leaf) status = accumulate_leaf(e->leaf, g);
    else status = accumulate(&e->node->gout[e->output], g);
  }
  return status;
}

static lm_status run_node(lm_node *n, bool keep_graph)
{
  lm_call *c = &n->call;
  bool any = false;
  for (int k = 0; k < c->nout; k++) any |= n->gout[k] != NULL;
  if (!any) return LM_OK;
  if (n->released) return fail_freed(n);
  if (!c->op->grad)
    return lm_fail(LM_ERR_UNSUPPORTED, "backward: %s has no gradient", c->op->name);
  LM_TRY(check_versions(n));
  LM_TRY(remake_inputs(n));
  lm_tensor *few[16] = {NULL}, **gin = few;
  if (c->nin > 16) LM_TRY(lm_calloc(&gin, (size_t)c->nin, sizeof *gin));
  lm_status status = c->op->grad(c, n->gout, gin);
  for (int k = 0; k < LM_MAX_OUT; k++) {
    lm_release(n->gout[k]);
    n->gout[k] = NULL;
  }
  if (status == LM_OK) {
    /* passing down needs the inputs' shapes, so what was saved goes afterwards */
    status = pass_down(n, gin);
  } else {
    for (int i = 0; i < c->nin; i++) lm_release(gin[i]);
  }
  if (gin != few) free(gin);
  if (!keep_graph) free_saved(n);
  return status;
}

static lm_status root_gradient(lm_tensor *root, lm_tensor *gradient, lm_tensor **out)
{
  if (gradient) {
    if (!lm_same_shape(root, gradient) || root->dtype != gradient->dtype ||
        root->device != gradient->device)
      return lm_fail(LM_ERR_SHAPE, "backward: the gradient is %s but the tensor is %s",
                     lm_describe(gradient), lm_describe(root));
    return lm_tensor_detach(gradient, out);
  }
  if (lm_numel(root) != 1) {
    lm_fail(LM_ERR_SHAPE, "backward: only a one-element tensor has an implied gradient, not %s",
            lm_describe(root));
    return lm_hint("reduce it first, x:sum():backward(), or give x:backward(gradient)");
  }
  lm_tensor *g, *same = NULL;
  LM_TRY(lm_tensor_new_like(root, &g));
  lm_status status = lm_apply(&lm_op_fill_, LM_IN(g), LM_PARAMS(lm_float(1)), &same);
  lm_release(same);
  if (status == LM_OK) *out = g;
  else lm_release(g);
  return status;
}

static lm_status walk(lm_tensor *root, lm_tensor *g, bool keep_graph)
{
  if (!root->node) return accumulate_leaf(root, g);
  node_list list = {0};
  lm_status status = collect(root->node, &list);
  if (status == LM_OK) status = accumulate(&root->node->gout[root->node_output], g);
  else lm_release(g);
  for (int64_t i = 0; i < list.count; i++) {
    lm_node *n = list.node[i];
    if (status == LM_OK) status = run_node(n, keep_graph);
    for (int k = 0; k < LM_MAX_OUT; k++) { /* left over after an error */
      lm_release(n->gout[k]);
      n->gout[k] = NULL;
    }
  }
  for (int64_t i = 0; i < list.count; i++) {
    if (!keep_graph && list.node[i]->released) drop_edges(list.node[i]);
    lm_node_release(list.node[i]);
  }
  free(list.node);
  return status;
}

lm_status lm_backward(lm_tensor *root, lm_tensor *gradient, bool keep_graph)
{
  if (!root->requires_grad) {
    lm_fail(LM_ERR_ARG, "backward: the tensor %s does not require a gradient",
            lm_describe(root));
    return lm_hint("none of what it was computed from has requires_grad=true");
  }
  lm_tensor *g;
  LM_TRY(root_gradient(root, gradient, &g));
  bool was = lm_grad_enable(false);
  lm_status status = walk(root, g, keep_graph);
  lm_grad_enable(was);
  return status;
}

lm_status lm_sum_to(lm_tensor *g, const lm_tensor *like, lm_tensor **out)
{
  if (lm_same_shape(g, like)) {
    *out = lm_retain(g);
    return LM_OK;
  }
  lm_value shape = lm_ints(like->ndim, like->shape);
  return lm_apply(&lm_op_sum_to, LM_IN(g), &shape, out);
}
