/* paths.h: where the Lua library is. */
#ifndef LUMEN_PATHS_H
#define LUMEN_PATHS_H

#include <lua.h>

/* Put the Lua library that belongs to `binary` (path of the program or module) on
 * package.path and the core on package.preload. Raises when there is none. */
void lm_set_paths(lua_State *L, const char *binary);

#endif
