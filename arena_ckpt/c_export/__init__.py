"""From kernel calls to C99 that computes the same bits as the engine."""
