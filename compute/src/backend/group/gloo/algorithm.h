// Nothing of it is used here; see context.h.
#pragma once
