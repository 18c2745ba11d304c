"""The commands that make, refit, export and use single models."""

import trainables  # noqa: F401 (before torch: what it puts off is what nothing here needs)
