"""The largest settings that can be asked for: beyond them an evaluation would not end, or not fit any machine."""

from typing import Final

MAX_BATCH_SIZE: Final = 65_536
MAX_BEAMS: Final = 64
MAX_TOKENS: Final = 16_384
MAX_ROWS: Final = 1 << 53
MAX_DRAWS: Final = 100_000
MAX_LINE: Final = 1 << 28  # bytes of one line of predictions
