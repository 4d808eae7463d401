/* phantom.c: lumen.vision.phantom. */
#include "bind/bind.h"

void lm_bind_phantom(lua_State *L)
{
  (void)L;
}
