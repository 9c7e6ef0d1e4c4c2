"""An application whose own import fails: not the same as one that is not there."""

import module_that_is_missing

app = module_that_is_missing.app
