"""Traces of photos, by OpenTelemetry; imported only where they are on, since the extra `otel` may be missing."""
