"""The project's values: runs, records, answers, quotas and stored objects.

All are frozen and without I/O. Modules of this package import `anomaly.errors` and one another, nothing else of the project.

Public: `runs` (Run, Window, Holder, Chunk, BatchReport …), `records` (Claim, Image), `answers` (Verdict, Answer,
EarlierAnswer, Ask …), `quota` (Quota, Demand, Share), `objects` (StoredObject).
"""
