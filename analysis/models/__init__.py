"""Models that leave a run: chosen, exported, judged, and used."""

import trainables  # noqa: F401 (before torch: what it puts off is what nothing here needs)
