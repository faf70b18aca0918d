-- Sessions and transactions of this database so far, and the other sessions still connected.
select sessions, xact_commit + xact_rollback as transactions,
       (select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()) as connected
  from pg_stat_database where datname = current_database()
