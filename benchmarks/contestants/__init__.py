"""Those who do the job: each module has `work(job)`, which returns when all records are done."""
