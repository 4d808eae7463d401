/* profile.c: the profile of the core for the Lua library: profiler.*. */
#include <stdio.h>

#include "bind/bind.h"

static void set_number(lua_State *L, const char *name, double v)
{
  lua_pushnumber(L, v);
  lua_setfield(L, -2, name);
}

static void push_rows(lua_State *L, const lm_profile *p)
{
  lua_createtable(L, p->row_count, 0);
  for (int k = 0; k < p->row_count; k++) {
    const lm_profile_row *row = &p->rows[k];
    lua_createtable(L, 0, 6);
    lua_pushstring(L, row->op->name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, row->calls);
    lua_setfield(L, -2, "calls");
    set_number(L, "seconds", row->seconds);
    set_number(L, "flops", row->flops);
    set_number(L, "bytes", row->bytes);
    set_number(L, "made", row->made);
    lua_rawseti(L, -2, k + 1);
  }
}

static void push_owners(lua_State *L, const lm_profile *p)
{
  lua_createtable(L, p->owner_count, 0);
  for (int k = 0; k < p->owner_count; k++) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, p->owners[k].maker);
    lua_setfield(L, -2, "name");
    set_number(L, "bytes", (double)p->owners[k].bytes);
    lua_rawseti(L, -2, k + 1);
  }
}

LM_DOC(profiler_start,
       "tracing: bool = false\n"
       "Forgets what was measured and measures every operation from now on; tracing keeps every "
       "call (the first million) for profiler.trace.\n"
       "> lumen.profiler.start()\n"
       "> y = lumen.ones(8, 8) * 2\n"
       "> lumen.profiler.stop().seconds > 0\n"
       "true");
static int profiler_start(lua_State *L)
{
  lm_profile_start(lua_toboolean(L, 1));
  return 0;
}

LM_DOC(profiler_stop,
       "-> table\n"
       "Ends measuring: {seconds =, peak = bytes, dropped =, rows = {{name =, calls =, seconds =, "
       "flops =, bytes =, made =}, ...}, owners = {{name =, bytes =}, ...}}, in no order.\n"
       "> lumen.profiler.start()\n"
       "> y = lumen.ones(8, 8):matmul(lumen.ones(8, 8))\n"
       "> for _, row in ipairs(lumen.profiler.stop().rows) do\n"
       ">   if row.name == \"matmul\" then print(row.calls, row.flops) end\n"
       "> end\n"
       "1 1024.0");
static int profiler_stop(lua_State *L)
{
  lm_profile_stop();
  const lm_profile *p = lm_profile_get();
  lua_newtable(L);
  set_number(L, "seconds", p->seconds);
  set_number(L, "peak", (double)p->peak);
  lua_pushinteger(L, p->dropped);
  lua_setfield(L, -2, "dropped");
  push_rows(L, p);
  lua_setfield(L, -2, "rows");
  push_owners(L, p);
  lua_setfield(L, -2, "owners");
  return 1;
}

LM_DOC(profiler_running,
       "-> bool\n"
       "Whether operations are measured.\n"
       "> lumen.profiler.running()\n"
       "false");
static int profiler_running(lua_State *L)
{
  lua_pushboolean(L, lm_profile_on);
  return 1;
}

LM_DOC(profiler_trace,
       "-> str\n"
       "The calls kept since the last start(true) as text in Chrome's trace event format "
       "(chrome://tracing, ui.perfetto.dev): complete events, microseconds.\n"
       "> lumen.profiler.start(true)\n"
       "> y = lumen.ones(2) * 2\n"
       "> result = lumen.profiler.stop()\n"
       "> #lumen.json.decode(lumen.profiler.trace()).traceEvents > 1\n"
       "true");
static int profiler_trace(lua_State *L)
{
  const lm_profile *p = lm_profile_get();
  luaL_Buffer b;
  luaL_buffinit(L, &b);
  luaL_addstring(&b, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n"
                     "{\"ph\": \"M\", \"pid\": 1, \"tid\": 1, \"name\": \"process_name\", "
                     "\"args\": {\"name\": \"lumen\"}}");
  for (int64_t k = 0; k < p->event_count; k++) {
    const lm_profile_event *e = &p->events[k];
    char *line = luaL_prepbuffsize(&b, 512);
    int n = snprintf(line, 512,
                     ",\n{\"ph\": \"X\", \"pid\": 1, \"tid\": 1, \"name\": \"%s\", \"ts\": %.3f, "
                     "\"dur\": %.3f, \"args\": {\"result\": \"%s %s\", \"flops\": %.0f, "
                     "\"bytes\": %.0f}}",
                     e->op->name, 1e6 * e->start, 1e6 * e->seconds, lm_dtype_name(e->dtype),
                     lm_shape_text(e->ndim, e->shape), e->flops, e->bytes);
    if (n > 0 && n < 512) luaL_addsize(&b, (size_t)n);
  }
  luaL_addstring(&b, "\n]}\n");
  luaL_pushresult(&b);
  return 1;
}

LM_DOC(profiler_module,
       "-> table\n"
       "Measures operations; lumen.profile(fn) prints what it finds.\n"
       "> lumen.profiler.running()\n"
       "false");

void lm_bind_profile(lua_State *L)
{
  static const lm_function functions[] = {{"", NULL, profiler_module_doc},
                                          {"start", profiler_start, profiler_start_doc},
                                          {"stop", profiler_stop, profiler_stop_doc},
                                          {"running", profiler_running, profiler_running_doc},
                                          {"trace", profiler_trace, profiler_trace_doc},
                                          {0}};
  lm_subtable(L, lua_gettop(L), "profiler");
  lm_set_functions(L, "profiler", functions);
  lua_pop(L, 1);
}
