#include <fewstep.h>
