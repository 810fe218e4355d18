// Makes a recipe that fails smaller, as long as it still fails.
#ifndef BRIM_TEST_RECIPE_SHRINK_H
#define BRIM_TEST_RECIPE_SHRINK_H

#include "tests/recipe.h"

// Whether a recipe still fails. One that is no valid graph does not.
typedef bool recipe_fails(const recipe *r, void *user);

// Simpler options, fewer steps, leaves in the place of steps, smaller extents. Asks at most `tries`
// times; returns how often it did.
int recipe_shrink(recipe *r, recipe_fails *fails, void *user, int tries);

#endif
