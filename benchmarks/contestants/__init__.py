"""The contestants. Each module has a function `work(job)`, which returns when all records are done."""
