"""Downloads images and validates them: guarded addresses, retries, formats, limits on bytes and pixels.

May import `transport`, `models`, `settings`, `backoff` and `errors`.

Public: `download` (ImageSource, session), `rules` (ImageRules), `validation` (validated), `objects` (addresses in buckets).
"""
