"""`/api/v2`: workflows, jobs, job runs, workflow runs, artifacts and input requests."""
