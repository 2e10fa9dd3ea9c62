"""The Redis edge: keys, version-ordered writes, the score cache. Owns redis, with `consumer.reader`."""
